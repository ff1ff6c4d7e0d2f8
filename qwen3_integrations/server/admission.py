"""A bound of the work that waits: requests beyond it are answered with 429, so that a queue can't grow without end."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from qwen3_integrations.server.refusal import Refusal

CHARACTERS_PER_TOKEN = 3
"""An estimate for all languages: about 4 in English prose, 1.5 in Chinese, 3 in code."""

_FORGET_S = 30.0
"""Work that is older counts little in the measured rate."""


def estimated_tokens(texts: Iterable[str], max_tokens: int) -> int:
    """Tokens of texts, each at most `max_tokens`; see `CHARACTERS_PER_TOKEN`."""
    return sum(min(len(text) // CHARACTERS_PER_TOKEN + 1, max_tokens) for text in texts)


class Admission:
    """Counts the tokens of requests that wait or run. To be used in one event loop.

    Args:
        max_tokens: A request is refused if the sum would exceed this, unless it is the only one.
    """

    def __init__(self, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self._rate = 0.0
        self._since = time.monotonic()
        self.tokens = 0
        self.requests = 0

    @contextmanager
    def admitted(self, tokens: int) -> Iterator[None]:
        """Count a request while it waits and runs.

        Raises:
            Refusal: 429 with `Retry-After`, if there is no room.
        """
        if self.requests and self.tokens + tokens > self._max_tokens:
            raise Refusal(
                429,
                f"the queue is full: {self.tokens:,} tokens of {self.requests} requests wait or run",
                code="queue_full",
                headers={"Retry-After": str(self._wait_s())},
            )
        self.tokens += tokens
        self.requests += 1
        begin = time.monotonic()
        try:
            yield
            self._finished(tokens, time.monotonic() - begin)
        finally:
            self.tokens -= tokens
            self.requests -= 1

    def _finished(self, tokens: int, seconds: float) -> None:
        """Take a request into the measured rate: all running requests share the engine."""
        share = min(1.0, seconds / _FORGET_S + 0.05)
        rate = tokens * max(1, self.requests) / max(seconds, 1e-3)
        self._rate = rate if not self._rate else (1 - share) * self._rate + share * rate

    def _wait_s(self) -> int:
        """Seconds until about half of the queue is done, from 1 to 60."""
        return max(1, min(60, math.ceil(self.tokens / 2 / self._rate))) if self._rate else 1
