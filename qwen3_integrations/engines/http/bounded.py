"""HTTP clients whose requests have a bounded time and whose answers have a bounded size, whatever the server sends and however slowly.

httpx bounds the pause between two parts of an answer, not the whole answer, and reads bodies of any length.
"""

from __future__ import annotations

import asyncio
import importlib
import threading
import time
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from qwen3_integrations.engines.http.replies import judged

_CODINGS = frozenset(("", "identity", "gzip", "x-gzip", "deflate"))
"""Content codings that are read. Each expands a part of 64 KiB to 66 MB at most; several codings, one in the other, have no such bound."""

_REMOVED = frozenset(("content-encoding", "content-length", "transfer-encoding"))
"""Headers that no longer describe the body after it was decoded."""


@dataclass(slots=True)
class Bounds:
    """What one request, with its retries, may cost.

    Attributes:
        seconds: For one attempt: to connect, send and receive all; None for no bound.
        size: Bytes of an answer's body.
        most_500: Further retries of an answer with status 500; None for no bound of their own.
        timeouts: Time-outs so far. Only the first is retried, because the server works on for a client that has left.
    """

    seconds: float | None
    size: int
    most_500: int | None = None
    timeouts: int = 0


BOUNDS: ContextVar[Bounds] = ContextVar("qwen3_http_bounds")
"""The bounds of the request that the current context makes."""


class TooLarge(Exception):
    """A body is larger than its bound, or has a content coding without one."""


def bounded(client: Any) -> Any:
    """A client that sends through another client and obeys `BOUNDS`; it is an `httpx.AsyncClient` or `httpx.Client`, as the other.

    Args:
        client: The client that makes the connections. Closing the bounded client closes it.
    """
    name = next(kind.__module__ for kind in type(client).__mro__ if kind.__module__.partition(".")[0] in ("httpx", "httpx2"))
    library = importlib.import_module(name.partition(".")[0])
    return _async_class(library)(client) if isinstance(client, library.AsyncClient) else _sync_class(library)(client)


@cache
def _async_class(library: Any) -> Any:
    class BoundedAsyncClient(library.AsyncClient):  # type: ignore[misc]
        def __init__(self, client: Any) -> None:
            super().__init__(transport=library.MockTransport(_unused), trust_env=False, timeout=client.timeout)
            self._through = client

        def build_request(self, *args: Any, **options: Any) -> Any:
            return self._through.build_request(*args, **options)

        async def send(self, request: Any, *, stream: bool = False, **options: Any) -> Any:  # noqa: ARG002
            bounds = BOUNDS.get()
            try:
                async with asyncio.timeout(bounds.seconds):
                    return await self._answer(request, bounds, options)
            except (TimeoutError, library.TimeoutException) as error:
                raise _late(request, bounds, error, library) from error

        async def _answer(self, request: Any, bounds: Bounds, options: dict[str, Any]) -> Any:
            response = await self._through.send(request, stream=True, **options)
            try:
                body = _Body(response, bounds)
                async for part in response.aiter_bytes():
                    body.take(part)
            finally:
                await response.aclose()
            return _whole(response, body, bounds, library)

        async def aclose(self) -> None:
            await super().aclose()
            await self._through.aclose()

    return BoundedAsyncClient


@cache
def _sync_class(library: Any) -> Any:
    class BoundedClient(library.Client):  # type: ignore[misc]
        def __init__(self, client: Any) -> None:
            super().__init__(transport=library.MockTransport(_unused), trust_env=False, timeout=client.timeout)
            self._through = client

        def build_request(self, *args: Any, **options: Any) -> Any:
            return self._through.build_request(*args, **options)

        def send(self, request: Any, *, stream: bool = False, **options: Any) -> Any:  # noqa: ARG002
            bounds = BOUNDS.get()
            try:
                return _in_thread(lambda: self._answer(request, bounds, options), bounds.seconds)
            except (TimeoutError, library.TimeoutException) as error:
                raise _late(request, bounds, error, library) from error

        def _answer(self, request: Any, bounds: Bounds, options: dict[str, Any]) -> Any:
            end = None if bounds.seconds is None else time.monotonic() + bounds.seconds
            response = self._through.send(request, stream=True, **options)
            try:
                body = _Body(response, bounds)
                for part in response.iter_bytes():
                    body.take(part)
                    if end is not None and time.monotonic() > end:
                        raise TimeoutError
            finally:
                response.close()
            return _whole(response, body, bounds, library)

    return BoundedClient


def _unused(request: Any) -> Any:
    raise AssertionError(f"{request} was sent past its client")


class _Body:
    """The parts of a body, up to the bound."""

    def __init__(self, response: Any, bounds: Bounds) -> None:
        coding = response.headers.get("content-encoding", "").strip().lower()
        if coding not in _CODINGS:
            raise TooLarge(f"the content coding {coding[:40]!r}, which is not read")
        self._parts: list[bytes] = []
        self._room, self._size = bounds.size, bounds.size

    def take(self, part: bytes) -> None:
        self._room -= len(part)
        if self._room < 0:
            raise TooLarge(f"more than {self._size:,} bytes, which no right answer to this request has")
        self._parts.append(part)

    @property
    def content(self) -> bytes:
        return b"".join(self._parts)


def _whole(response: Any, body: _Body, bounds: Bounds, library: Any) -> Any:
    """The response with its body read and decoded, and with the status that its body has."""
    headers = [(name, value) for name, value in response.headers.multi_items() if name.lower() not in _REMOVED]
    status, extra = judged(response.status_code, body.content, response.headers)
    if status == 500 and bounds.most_500 is not None:
        extra |= {} if bounds.most_500 > 0 else {"x-should-retry": "false"}
        bounds.most_500 -= 1
    headers += extra.items()
    said = {"answered": response.status_code}
    return library.Response(status, headers=headers, content=body.content, request=response.request, extensions=said)


def _late(request: Any, bounds: Bounds, error: Exception, library: Any) -> Exception:
    """The error for a request without an answer in time: one that the SDK retries the first time, and one that it does not retry."""
    import openai

    bounds.timeouts += 1
    if bounds.timeouts > 1 and not isinstance(error, library.ConnectTimeout):
        return openai.APITimeoutError(request=request)
    if isinstance(error, library.TimeoutException):
        return cast("Exception", error)
    late: Exception = library.ReadTimeout("no whole answer in time", request=request)
    return late


def _in_thread(work: Any, seconds: float | None) -> Any:
    """The result of a function in a thread of its own, which is left behind if it takes longer: a sync client can't be stopped."""
    if seconds is None:
        return work()
    done = threading.Event()
    results: list[tuple[Any, BaseException | None]] = []

    def run() -> None:
        try:
            results.append((work(), None))
        except BaseException as error:  # noqa: BLE001  raised in the caller's thread
            results.append((None, error))
        done.set()

    threading.Thread(target=copy_context().run, args=(run,), name="qwen3 request", daemon=True).start()
    if not done.wait(seconds):
        raise TimeoutError
    result, failure = results[0]
    if failure is not None:
        raise failure
    return result
