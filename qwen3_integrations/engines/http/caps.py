"""What a server accepts in one request, as far as it is known: from its description of itself, and from its refusals."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from qwen3_integrations.core.types import Prompt
from qwen3_integrations.engines.http.numbers import whole
from qwen3_integrations.errors import EngineError, RateLimited, RequestRefused, ServerError, ServerFailed

_TOO_LARGE = 413
"""HTTP's status for a request that is too large."""

_SMALLEST_SIZE = 256
"""Bytes; a smaller number in a refusal is no limit of a body."""

_NUMBER = re.compile(r"(?<![\w.])(\d{1,3}(?:[,_]\d{3})+|\d+)(?![\w]|\.\d)")
_BYTES = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)\s*(bytes?|[kmg]i?b)\b", re.IGNORECASE)
_UNITS = {"b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_OF_ITEMS = re.compile(
    r"batch.?size|\bbatch\b|\barray\b|\blist\b|\binputs\b|\btexts\b|\bdocuments\b|\bitems\b|\belements\b|\bsentences\b|\bpassages\b|"
    r"number of (?:input|text|document)|\bqueries\b",
    re.IGNORECASE,
)
_OF_TOKENS = re.compile(r"\btokens?\b", re.IGNORECASE)
_OF_ALL = re.compile(r"\bper request|\bbatch\b|\btotal\b|\ball (?:inputs|texts)|\brequest\b|in the (?:list|array)|\bsum\b", re.IGNORECASE)
_OF_ONE = re.compile(
    r"context (?:length|window)|sequence length|input length|per (?:text|input|document|item|minute|second|day)", re.IGNORECASE
)
_OF_RATE = re.compile(r"rate limit|per (?:minute|second|hour|day)|\bquota|\b[rt]p[md]\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Caps:
    """Limits of one request.

    Attributes:
        items: Prompts; None if not known.
        tokens: Tokens of all prompts together; None if not known.
        size: UTF-8 bytes of all texts together; None if not known.
    """

    items: int | None = None
    tokens: int | None = None
    size: int | None = None

    def divided(self, prompts: Sequence[Prompt]) -> list[int]:
        """Divide prompts into requests.

        Returns:
            The number of prompts of each request, in order; a prompt that alone exceeds a limit is a request of its own.
        """
        if self == NO_CAPS:
            return [len(prompts)]
        counts: list[int] = []
        items = tokens = size = 0
        for prompt in prompts:
            own_tokens, own_size = estimated_tokens(prompt), prompt.characters if self.size is None else size_of(prompt)
            full = _over(items + 1, self.items) or _over(tokens + own_tokens, self.tokens) or _over(size + own_size, self.size)
            if items and full:
                counts.append(items)
                items = tokens = size = 0
            items, tokens, size = items + 1, tokens + own_tokens, size + own_size
        return [*counts, items] if items else counts

    def least(self, other: Caps) -> Caps:
        """The stricter of two limits of each kind."""
        return Caps(_least(self.items, other.items), _least(self.tokens, other.tokens), _least(self.size, other.size))


NO_CAPS = Caps()
"""Nothing is known."""


def described_caps(info: Any) -> Caps:
    """The limits in the answer of `GET /info`.

    Source: API reference of Text Embeddings Inference (`max_client_batch_size`).
    """
    return Caps(items=whole(info.get("max_client_batch_size")) or None) if isinstance(info, Mapping) else NO_CAPS


def stated_caps(error: EngineError, words: str, prompts: Sequence[Prompt]) -> Caps:
    """The limits that a refusal of several prompts states, so that the same prompts divided by it are several requests.

    Args:
        error: The refusal.
        words: The server's own words.
        prompts: The prompts of the refused request.

    Returns:
        Limits that this request exceeds; no limit if the words state none, or state one of a single text or of a rate.
    """
    if not isinstance(error, RequestRefused | ServerFailed | RateLimited) or len(prompts) < 2 or _OF_RATE.search(words):
        return NO_CAPS
    said = [int(re.sub("[,_]", "", found)) for found in _NUMBER.findall(words[:1000]) if len(found) < 16]
    stated = [round(float(number) * _UNITS[unit[0].lower()]) for number, unit in _BYTES.findall(words[:1000])]
    if limit := min((one for one in stated if one >= _SMALLEST_SIZE), default=None):
        size = sum(map(size_of, prompts))
        return without(Caps(size=min(limit, size) * 3 // 4), prompts)  # field names and escapes make a body larger than its texts
    if _OF_TOKENS.search(words) and _OF_ALL.search(words) and not _OF_ONE.search(words):
        tokens = max(said, default=0)
        lower = [one for one in said if 16 <= one < tokens]  # `requested 400000 tokens, max 300000`
        known = sum(prompt.tokens or 0 for prompt in prompts)
        found = max((one for one in said if 16 <= one < known), default=None) if known else (max(lower) if lower else None)
        return without(Caps(tokens=found), prompts)
    if _OF_ITEMS.search(words):
        return Caps(items=max((one for one in said if 1 <= one < len(prompts)), default=None))
    return NO_CAPS


def shown_caps(error: ServerError, larger: Sequence[Prompt], smaller: Sequence[Sequence[Prompt]]) -> Caps:
    """The limits that show themselves when a request was refused with a 4xx, and both its halves were answered.

    Args:
        error: The refusal.
        larger: The prompts of the refused request.
        smaller: The prompts of each half.
    """
    if error.status == _TOO_LARGE and len({size_of(prompt) for prompt in larger}) > 1:
        return Caps(size=max(sum(map(size_of, half)) for half in smaller))
    return Caps(items=max(map(len, smaller)))


def without(caps: Caps, prompts: Sequence[Prompt]) -> Caps:
    """The limits without those that keep no prompt apart from another: they can't be the reason of a refusal."""
    parts = {name: replace(Caps(), **{name: getattr(caps, name)}) for name in ("items", "tokens", "size")}
    return Caps(**{name: getattr(caps, name) if len(part.divided(prompts)) > 1 else None for name, part in parts.items()})


def estimated_tokens(prompt: Prompt) -> int:
    """Tokens; where they are not known, at least as many as a third of the characters."""
    return -(-prompt.characters // 3) if prompt.tokens is None else prompt.tokens


def size_of(prompt: Prompt) -> int:
    """UTF-8 bytes of a prompt."""
    return sum(len(part.text.encode("utf-8", "surrogatepass")) for part in (prompt.prefix, prompt.body, prompt.suffix))


def _over(value: int, limit: int | None) -> bool:
    return limit is not None and value > limit


def _least(one: int | None, other: int | None) -> int | None:
    known = [limit for limit in (one, other) if limit is not None]
    return min(known, default=None)
