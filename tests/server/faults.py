"""A proxy that can be told to fail: it stands between an engine and a real server, and passes on what it is not told to spoil."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WORK = ("/v1/embeddings", "/classify", "/v1/rerank")
"""Where faults strike; other requests (lists of models, counts) pass."""


@dataclass(frozen=True)
class Seen:
    """A request as it came; names of headers in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


@dataclass
class Call:
    """One request on its way through the proxy, as a fault sees it."""

    handler: _Handler
    seen: Seen

    def upstream(self) -> tuple[int, bytes]:
        """What the real server answers: status and body."""
        return self.handler.upstream()

    def answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None, *, length: int | None = None) -> None:
        """Answer with this; `length` may promise more than there is."""
        self.handler.answer(status, body, {"Content-Type": "application/json", **(headers or {})}, length)

    def reset(self) -> None:
        """Break the connection without a word."""
        self.handler.reset()


Fault = Callable[[Call], None]


def status(code: int, body: Any = None, **headers: str) -> Fault:
    """An error of the server's own."""
    content = json.dumps(body if body is not None else {"error": {"message": f"told to say {code}"}}).encode()
    return lambda call: call.answer(code, content, {name.replace("_", "-"): value for name, value in headers.items()})


def reset(call: Call) -> None:
    """No answer: the connection breaks."""
    call.reset()


def half(call: Call) -> None:
    """The first half of the right answer; then the connection ends before the promised length."""
    code, body = call.upstream()
    call.answer(code, body[: len(body) // 2], {"Connection": "close"}, length=len(body))


def cut_json(call: Call) -> None:
    """The first half of the right answer, as if it were whole."""
    code, body = call.upstream()
    call.answer(code, body[: len(body) // 2])


def edited(edit: Callable[[dict[str, Any]], Any]) -> Fault:
    """The right answer, spoilt: `edit` changes it in place, or returns another."""

    def spoil(call: Call) -> None:
        code, body = call.upstream()
        content = json.loads(body)
        changed = edit(content)
        call.answer(code, json.dumps(content if changed is None else changed).encode())

    return spoil


@dataclass
class FaultsProxy:
    """Passes requests on to a server on this machine, and commits faults.

    Attributes:
        port: The real server's; it may be left out where `everywhere` answers all.
        prefix: A path below which the server is seen, as behind a gateway; other paths are 404.
        everywhere: Happens to every request, when set.
        faults: What happens to the next working requests (`WORK`), one each, in turn; then all goes well again.
        always: Happens to every working request, when set.
        refuses: Called with the body of a working request; True answers it with 400 as vLLM does for a text that is too long.
        seen: Every request, in order of arrival.
    """

    port: int = 0
    prefix: str = ""
    faults: list[Fault] = field(default_factory=list)
    always: Fault | None = None
    everywhere: Fault | None = None
    refuses: Callable[[Any], bool] | None = None
    seen: list[Seen] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    held: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> FaultsProxy:
        proxy = self

        class Handler(_Handler):
            told = proxy

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def work(self) -> list[Seen]:
        """The working requests so far, those of the handshake included."""
        return [one for one in self.seen if one.path in WORK]

    def hold(self, call: Call) -> None:
        """A fault: no answer before the proxy ends or is `released`; `held` tells that one waits."""
        self.held.set()
        self.released.wait(60)
        call.reset()

    def next_fault(self, seen: Seen) -> Fault | None:
        with self.lock:
            self.seen.append(seen)
            if not seen.path.startswith(self.prefix):
                return status(404, {"detail": "Not Found"})
            if self.everywhere:
                return self.everywhere
            if seen.path not in WORK:
                return None
            if self.always:
                return self.always
            if self.refuses and self.refuses(seen.body):
                return status(400, {"error": {"message": "This model's maximum context length is 1024 tokens.", "code": 400}})
            return self.faults.pop(0) if self.faults else None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are what is tested here."""


class _Handler(BaseHTTPRequestHandler):
    told: FaultsProxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._pass()

    def do_POST(self) -> None:
        self._pass()

    def _pass(self) -> None:
        self._sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen = Seen(self.command, self.path, headers, json.loads(self._sent) if self._sent else None)
        with self.told.lock:
            self.told.in_flight += 1
            self.told.most_in_flight = max(self.told.most_in_flight, self.told.in_flight)
        try:
            fault = self.told.next_fault(seen)
            if fault:
                fault(Call(self, seen))
            else:
                code, body = self.upstream()
                self.answer(code, body, {"Content-Type": "application/json"}, None)
        finally:
            with self.told.lock:
                self.told.in_flight -= 1

    def upstream(self) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.told.port, timeout=120)
        try:
            kept = {name: value for name, value in self.headers.items() if name.lower() in ("content-type", "authorization")}
            connection.request(self.command, self.path.removeprefix(self.told.prefix), self._sent or None, kept)
            reply = connection.getresponse()
            return reply.status, reply.read()
        finally:
            connection.close()

    def answer(self, status: int, body: bytes, headers: Mapping[str, str], length: int | None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def log_message(self, *args: Any) -> None:
        """The tests look at `seen`."""
