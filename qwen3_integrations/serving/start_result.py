"""The result of a start: one of four values; `running()` gives the server or raises."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from qwen3_integrations.errors import EngineError
from qwen3_integrations.serving.server import Server


@dataclass(frozen=True, slots=True)
class Launched:
    """A new server that has given its first correct answer.

    Attributes:
        server: The server.
        seconds: Time from the call to that answer.
    """

    server: Server
    seconds: float

    def running(self) -> Server:
        """The server."""
        return self.server

    def _repr_html_(self) -> str:
        return self.server._repr_html_()


@dataclass(frozen=True, slots=True)
class Reused:
    """A server with the same options that was already running. It ends with the process that started it.

    Attributes:
        server: The server.
    """

    server: Server

    def running(self) -> Server:
        """The server."""
        return self.server

    def _repr_html_(self) -> str:
        return self.server._repr_html_()


@dataclass(frozen=True, slots=True)
class Failed:
    """No server: it ended before it was ready, or its first answer was wrong and it was ended.

    Attributes:
        exit_code: The server's exit code; 128 + signal if a signal ended it; None if it was ended because of a wrong answer, or the
            start was cancelled.
        error: The reason: the first error line of its log, or the fault of its first answer.
        tail: The last lines of its log.
        log: The whole log.
        port_taken: Whether another process listens at the address.
    """

    exit_code: int | None
    error: str
    tail: tuple[str, ...]
    log: Path
    port_taken: bool = False

    def running(self) -> Server:
        """Raise, because there is no server.

        Raises:
            EngineError: With the first error line and the path of the log.
        """
        how = "" if self.exit_code is None else f" (exit code {self.exit_code})"
        raise EngineError(f"the server did not start{how}: {self.error}", advice=f"Its log is {self.log}")

    def _repr_html_(self) -> str:
        tail = html.escape("\n".join(self.tail))
        return f"<p><b>the server did not start</b>: {html.escape(self.error)}</p><pre>{tail}</pre>"


@dataclass(frozen=True, slots=True)
class TimedOut:
    """A server that was not ready in time and is still starting. `server.stop()` ends it; `server.state` shows when it is ready.

    Attributes:
        server: The server.
        seconds: Seconds of waiting.
        phase: The phase of the start at that time.
    """

    server: Server
    seconds: float
    phase: str

    @property
    def pid(self) -> int:
        """The server's process, still running."""
        return self.server.pid

    def running(self) -> Server:
        """Raise, because the server is not ready.

        Raises:
            EngineError: With the phase it is in, and its process.
        """
        raise EngineError(
            f"the server was not ready after {self.seconds:.0f} s and is still starting as process {self.pid} ({self.phase})",
            advice="Raise timeout_s, or stop it",
        )

    def _repr_html_(self) -> str:
        return self.server._repr_html_()


StartResult: TypeAlias = Launched | Reused | Failed | TimedOut
