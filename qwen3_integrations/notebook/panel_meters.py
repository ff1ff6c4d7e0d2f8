"""A polled server: the end of its log with the first error, and its token rate."""

from __future__ import annotations

import threading
from collections import deque
from pathlib import Path
from typing import Any

from qwen3_integrations.serving import Server
from qwen3_integrations.serving.log import LogReader, first_error

KEPT_LINES = 400
"""Number of last lines for the browser; the file has all lines."""

_FROM_END = 200 * KEPT_LINES
"""Bytes to read from the end of an existing log."""

KEPT_RATES = 60
_GAP_S = 15.0
"""A gap of more seconds between two polls restarts the curve: an average over the gap would be misleading."""


_STOPPED = (None, 0, 128 + 2, 128 + 15)
"""Exit codes of servers that were stopped; None where this process can't know the code."""


class LogTail:
    """The end of a growing log.

    Args:
        path: The log; need not exist yet.
        fresh: Whether its server has just been started; if not, only the end is read.
    """

    def __init__(self, path: Path, *, fresh: bool) -> None:
        size = path.stat().st_size if path.exists() else 0
        self._reader = LogReader(path, 0 if fresh else max(0, size - _FROM_END))
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._read = 0
        self.error = ""

    def read(self) -> bool:
        """Read the new lines; False if there are none."""
        gained = self._reader.lines()
        self._lines.extend(gained)
        self._read += len(gained)
        self.error = self.error or first_error(gained) or ""
        return bool(gained)

    def to_dict(self) -> dict[str, Any]:
        """The lines, and the number of the first one among all lines read."""
        return {"first": self._read - len(self._lines), "lines": list(self._lines)}


class Meter:
    """Tokens per second, from a growing count."""

    def __init__(self) -> None:
        self._last: tuple[int, float] | None = None
        self.rates: deque[float] = deque(maxlen=KEPT_RATES)

    def add(self, tokens: int | None, at_s: float) -> None:
        """Add a count.

        Args:
            tokens: Tokens read since the server started; None where it does not report them.
            at_s: The time, on a monotonic clock.
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


class PolledServer:
    """A server, its log and its token rate.

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
        """The end of the log, if it has grown; otherwise None."""
        with self._reading:
            if not self.log.read():
                return None
            shown = self.log.to_dict()
        whole = self.without_key("\n".join(shown["lines"]))  # in one call: the key may have to be looked up
        return shown | {"lines": whole.split("\n"), "path": str(self.server.log_path)}

    def ending(self) -> tuple[str, str]:
        """State and note of a server that has ended: `stopped` or `failed`."""
        code = self.server.exit_code
        if code in _STOPPED:
            return "stopped", f"{self.server.name} was ended"
        return "failed", f"{self.server.name} ended with exit code {code}"

    def without_key(self, text: str) -> str:
        """The text without the key. No server is known to log its key; if one did, it would reach the notebook."""
        key = self.server.api_key
        return text.replace(key, "(key)") if key else text
