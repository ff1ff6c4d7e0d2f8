"""A server as the panel watches it: the end of its log with the first error in it, and how fast it reads."""

from __future__ import annotations

import threading
from collections import deque
from pathlib import Path
from typing import Any

from qwen3_integrations.serving import Server
from qwen3_integrations.serving.log import LogReader, first_error

KEPT_LINES = 400
"""So many last lines reach the browser; the file has them all."""

_FROM_END = 200 * KEPT_LINES
"""Bytes of a log that was there before it is watched, from its end."""

KEPT_RATES = 60
_GAP_S = 15.0
"""Seconds between two looks after which the curve begins anew: nobody looked between, and an average would show no course."""


_TOLD_TO_END = (None, 0, 128 + 2, 128 + 15)
"""Exit codes of servers that somebody ended; None where this process does not learn it."""


class LogTail:
    """The end of a log that grows.

    Args:
        path: The log; need not be there yet.
        fresh: Whether its server has just been started; else only its end is read.
    """

    def __init__(self, path: Path, *, fresh: bool) -> None:
        size = path.stat().st_size if path.exists() else 0
        self._reader = LogReader(path, 0 if fresh else max(0, size - _FROM_END))
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._read = 0
        self.error = ""

    def read(self) -> bool:
        """Read what is new; False where nothing is."""
        gained = self._reader.lines()
        self._lines.extend(gained)
        self._read += len(gained)
        self.error = self.error or first_error(gained) or ""
        return bool(gained)

    def to_dict(self) -> dict[str, Any]:
        """The lines, and the number of the first of them among all that were read."""
        return {"first": self._read - len(self._lines), "lines": list(self._lines)}


class Meter:
    """Tokens a second, out of a count that grows."""

    def __init__(self) -> None:
        self._last: tuple[int, float] | None = None
        self.rates: deque[float] = deque(maxlen=KEPT_RATES)

    def add(self, tokens: int | None, at_s: float) -> None:
        """Take note of the count.

        Args:
            tokens: Read since the server started; None where it does not say.
            at_s: When, on a clock that only goes forward.
        """
        if tokens is None:
            return
        if self._last is not None:
            before, then = self._last
            if at_s - then > _GAP_S or tokens < before:
                self.rates.clear()
            elif at_s > then:
                self.rates.append((tokens - before) / (at_s - then))
        self._last = tokens, at_s


class Watched:
    """A server, its log and its meter.

    Args:
        server: The server.
        fresh: Whether it has just been started.
    """

    def __init__(self, server: Server, *, fresh: bool) -> None:
        self.server = server
        self.log = LogTail(server.log_path, fresh=fresh)
        self._reading = threading.Lock()
        self.meter = Meter()

    def gained(self) -> dict[str, Any] | None:
        """The end of the log, if there is more of it than before."""
        with self._reading:
            if not self.log.read():
                return None
            shown = self.log.to_dict()
        whole = self.without_key("\n".join(shown["lines"]))  # at once: the key may have to be looked up
        return shown | {"lines": whole.split("\n"), "path": str(self.server.log_path)}

    def ending(self) -> tuple[str, str]:
        """State and note of a server that has ended: `stopped` if somebody ended it, else `failed`."""
        code = self.server.exit_code
        if code in _TOLD_TO_END:
            return "stopped", f"{self.server.name} was ended"
        return "failed", f"{self.server.name} ended with exit code {code}"

    def without_key(self, text: str) -> str:
        """The text as it may be shown. No server is known to log its key; if one did, the log would carry it into the notebook."""
        key = self.server.api_key
        return text.replace(key, "(key)") if key else text
