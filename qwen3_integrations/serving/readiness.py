"""Wait for a starting server: report its phase from its log, and check its first answer."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from qwen3_integrations.engines.http.handshake import Handshake
from qwen3_integrations.errors import EngineError, ServerTimeout
from qwen3_integrations.serving.health import answers, asks_for_key
from qwen3_integrations.serving.log import LogReader, Phase, Progress, first_error, message_of, phase_of, tail_of
from qwen3_integrations.serving.server import Server
from qwen3_integrations.serving.start_result import Failed, Launched, Reused, StartResult, TimedOut

_POLL_S = 0.25
_TAIL_LINES = 40
_TOO_LATE = "no answer in time"
_KILLED = 128 + 9
_TAKEN = "address already in use"
"""The system's message for a taken address, in a program's log."""


def wait_until_ready(
    server: Server,
    folder: Path,
    timeout_s: float,
    handshake: Handshake,
    on_progress: Callable[[Progress], None] | None,
    cancel: threading.Event | None,
) -> StartResult:
    """Wait until a server has given its first correct answer.

    A server that was started here is ended if the answer is wrong, or if the wait is interrupted or cancelled.

    Args:
        server: Started here, or found running.
        folder: The model's folder; its tokenizer shows which tokens the server must count.
        timeout_s: Seconds to wait.
        handshake: How much the answer must prove; see `HttpEngine`.
        on_progress: Called whenever the progress changes.
        cancel: Setting it from another thread ends the wait.
    """
    begin = time.monotonic()
    watch = _StartLog(server.log_path, begin, on_progress)
    try:
        while True:
            watch.look()
            if answers(server.url) and server.is_healthy and server.listening().owner == "own":
                watch.look()  # a program that is busy loading answers late
                break
            if not server.is_running:
                return _failed(server, watch)
            if answers(server.url) and (found := server.listening()).owner == "other":
                return _port_taken(server, watch, found.who)
            if cancel is not None and cancel.is_set():
                return _given_up(server, watch, "the start was cancelled")
            if time.monotonic() - begin > timeout_s:
                return TimedOut(server, time.monotonic() - begin, watch.phase)
            time.sleep(_POLL_S)
        watch.say("answering")
        if wrong := _open_route(server) or _first_answer(server, folder, handshake, max(1.0, timeout_s - (time.monotonic() - begin))):
            return TimedOut(server, time.monotonic() - begin, watch.phase) if wrong is _TOO_LATE else _given_up(server, watch, wrong)
    except BaseException:
        if server.owned:
            with contextlib.suppress(EngineError):
                server.stop()
        raise
    server.note_ready()
    watch.say("ready")
    return Launched(server, time.monotonic() - begin) if server.owned else Reused(server)


def _open_route(server: Server) -> str | None:
    """What is wrong with a server that was started here and answers without its key, or None."""
    if not server.owned or not server.has_key or asks_for_key(server.url, server.closed_route):
        return None
    return f"{server.program} does not ask for the key on {server.closed_route}, so other routes may be open too"


def _first_answer(server: Server, folder: Path, handshake: Handshake, timeout_s: float) -> str | None:
    """Check the server through the engine that its users will have. Returns what is wrong, or None."""
    from qwen3_integrations.core.embedder import Embedder
    from qwen3_integrations.core.reranker import Reranker
    from qwen3_integrations.engines.http.engine import HttpEngine

    engine = HttpEngine(
        server.task,
        server.model,
        base_url=server.url,
        api_key=server.api_key,
        tokenizer=folder,
        handshake=handshake,
        timeout_s=timeout_s,
        max_retries=1,
    )
    try:
        if server.task == "embed":
            Embedder(engine).embed_documents(["ready"])
        else:
            Reranker(engine).score([("ready", "ready")])
    except ServerTimeout:
        return _TOO_LATE
    except EngineError as error:
        return str(error)
    finally:
        engine.close()
    return None


def _given_up(server: Server, watch: _StartLog, reason: str) -> Failed:
    """End a server that was started here. If it had ended already, the reason is taken from its log."""
    if not server.is_running:
        return _failed(server, watch)
    if server.owned:
        server.stop()
    return Failed(None, reason.rstrip("."), tuple(tail_of(server.log_path, _TAIL_LINES)), server.log_path)


def _port_taken(server: Server, watch: _StartLog, who: str) -> Failed:
    """End a server that was started here, because another process has its address and would get its texts and its key."""
    if server.owned:
        server.stop()
    watch.look()
    error = f"{_place(server)} is taken{f' by {who}' if who else ''}, so another process answers there: use another port or socket"
    return Failed(None, error, tuple(tail_of(server.log_path, _TAIL_LINES)), server.log_path, port_taken=True)


def _place(server: Server) -> str:
    return f"port {server.url.rpartition(':')[2]}" if server.url.startswith("http") else server.url


def _failed(server: Server, watch: _StartLog) -> Failed:
    watch.look()
    server.forget()
    code = server.exit_code
    if watch.first_error and _TAKEN in watch.first_error.lower():
        error = f"{_place(server)} is taken: {watch.first_error.rstrip('.')}"
        return Failed(code, error, tuple(tail_of(server.log_path, _TAIL_LINES)), server.log_path, port_taken=True)
    # The last lines of a killed server are only consequences: its processes lose their connections.
    said = (code != _KILLED and watch.first_error) or _by_signal(code) or "its log has no error line"
    return Failed(code, said.rstrip("."), tuple(tail_of(server.log_path, _TAIL_LINES)), server.log_path)


def _by_signal(code: int | None) -> str | None:
    if code is None or code <= 128:
        return None
    likely = ": the kernel does so when memory runs out" if code == _KILLED else ""
    return f"it was ended by signal {code - 128}{likely}"


class _StartLog:
    """Reads the log of a starting server and reports its phases."""

    def __init__(self, log: Path, begin: float, on_progress: Callable[[Progress], None] | None) -> None:
        self._reader = LogReader(log)
        self._begin = begin
        self._on_progress = on_progress
        self._lines: list[str] = []
        self._reported: tuple[Phase, float | None] | None = None
        self.say("starting")

    @property
    def phase(self) -> Phase:
        """The present phase."""
        return self._reported[0] if self._reported else "starting"

    @property
    def first_error(self) -> str | None:
        """See `log.first_error`."""
        return first_error(self._lines)

    def look(self) -> None:
        """Read the new lines."""
        for line in self._reader.lines():
            self._lines.append(line)
            if seen := phase_of(line):
                self.say(*seen, detail=message_of(line))

    def say(self, phase: Phase, fraction: float | None = None, *, detail: str = "") -> None:
        """Report a phase, if it is new; with several processes, the most advanced phase is reported."""
        order = get_args(Phase)
        if (phase, fraction) != self._reported and order.index(phase) >= order.index(self.phase):
            self._reported = phase, fraction
            if self._on_progress:
                self._on_progress(Progress(phase, time.monotonic() - self._begin, detail, fraction))
