"""A proxy between an engine and a real server, which injects faults into some answers and passes the others on."""

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
"""Routes with faults; other requests (lists of models, counts) are passed on."""


@dataclass(frozen=True)
class Seen:
    """A request as the proxy received it; names of headers in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


@dataclass
class Call:
    """One request to the proxy, with the ways in which a fault may answer it."""

    handler: _Handler
    seen: Seen

    def upstream(self) -> tuple[int, bytes]:
        """Status and body of the real server's answer."""
        return self.handler.upstream()

    def answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None, *, length: int | None = None) -> None:
        """Send an answer; `length` may be larger than the content."""
        self.handler.answer(status, body, {"Content-Type": "application/json", **(headers or {})}, length)

    def reset(self) -> None:
        """Close the connection without an answer."""
        self.handler.reset()


Fault = Callable[[Call], None]


def status(code: int, body: Any = None, **headers: str) -> Fault:
    """An error status with a body."""
    content = json.dumps(body if body is not None else {"error": {"message": f"injected status {code}"}}).encode()
    return lambda call: call.answer(code, content, {name.replace("_", "-"): value for name, value in headers.items()})


def reset(call: Call) -> None:
    """No answer: the connection breaks."""
    call.reset()


def half(call: Call) -> None:
    """The first half of the right answer; then the connection ends before the promised length."""
    code, body = call.upstream()
    call.answer(code, body[: len(body) // 2], {"Connection": "close"}, length=len(body))


def cut_json(call: Call) -> None:
    """The first half of the right answer, with the length of that half."""
    code, body = call.upstream()
    call.answer(code, body[: len(body) // 2])


def edited(edit: Callable[[dict[str, Any]], Any]) -> Fault:
    """The right answer, changed: `edit` changes it in place, or returns another."""

    def spoil(call: Call) -> None:
        code, body = call.upstream()
        content = json.loads(body)
        changed = edit(content)
        call.answer(code, json.dumps(content if changed is None else changed).encode())

    return spoil


@dataclass
class FaultsProxy:
    """Passes requests on to a server on this machine, and injects faults.

    Attributes:
        port: The real server's; it may be left out where `everywhere` answers all.
        prefix: A path under which the server has its routes, as behind a gateway; other paths are 404.
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
            owner = proxy

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
        """The requests so far to routes with faults, those of the handshake included."""
        return [one for one in self.seen if one.path in WORK]

    def hold(self, call: Call) -> None:
        """A fault: no answer before the proxy ends or is `released`; `held` is set when a request waits."""
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
        """Prints nothing: the tests are about clients that close connections."""


class _Handler(BaseHTTPRequestHandler):
    owner: FaultsProxy
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
        with self.owner.lock:
            self.owner.in_flight += 1
            self.owner.most_in_flight = max(self.owner.most_in_flight, self.owner.in_flight)
        try:
            fault = self.owner.next_fault(seen)
            if fault:
                fault(Call(self, seen))
            else:
                code, body = self.upstream()
                self.answer(code, body, {"Content-Type": "application/json"}, None)
        finally:
            with self.owner.lock:
                self.owner.in_flight -= 1

    def upstream(self) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.owner.port, timeout=120)
        try:
            kept = {name: value for name, value in self.headers.items() if name.lower() in ("content-type", "authorization")}
            connection.request(self.command, self.path.removeprefix(self.owner.prefix), self._sent or None, kept)
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
        """Logs nothing: the tests read `seen`."""
