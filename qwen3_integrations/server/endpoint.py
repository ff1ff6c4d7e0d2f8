"""A route that computes: read the body, admit it, run it unless the client goes away, answer or refuse in the API's own form."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from qwen3_integrations.server.answer import Answer, json_of
from qwen3_integrations.server.bodies import Body
from qwen3_integrations.server.incoming import decoded, gone, read_body
from qwen3_integrations.server.keys import KEY_NAME
from qwen3_integrations.server.refusal import Api, Refusal, body_of, refusal_of
from qwen3_integrations.server.service import Service

log = logging.getLogger("qwen3_integrations")
access_log = logging.getLogger("qwen3_integrations.server.access")

B = TypeVar("B", bound=Body)

CLIENT_GONE = 499
"""The status of a request whose client closed the connection. Source: nginx."""

_MAX_REQUEST_ID = 128


@dataclass(frozen=True, slots=True)
class Endpoint(Generic[B]):
    """A route, as an ASGI application.

    Attributes:
        service: What all routes share.
        route: Its path, for metrics and logs.
        body: The structure of the body.
        api: The API whose form errors have.
        items: The field with the texts.
        tokens: Estimated tokens of a body.
        run: Computes the answer.
    """

    service: Service
    route: str
    body: type[B]
    api: Callable[[B | None], Api]
    items: Callable[[B], str]
    tokens: Callable[[B], int]
    run: Callable[[Service, B], Awaitable[Answer]]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request (ASGI)."""
        begin = time.monotonic()
        request = Request(scope, receive)
        request_id = _request_id(request)
        status, answer = CLIENT_GONE, None
        try:
            response, answer = await self._answered(request, receive)
            status = response.status_code
            response.headers["x-request-id"] = request_id
            await response(scope, receive, send)
        except ClientDisconnect:
            pass
        finally:
            self._count(scope, request_id, status, answer, time.monotonic() - begin)

    async def _answered(self, request: Request, receive: Receive) -> tuple[Response, Answer | None]:
        body: B | None = None
        try:
            self.service.ready()
            settings = self.service.settings
            content = await read_body(request, settings.max_body_mib, settings.body_timeout_s)
            body = await decoded(content, self.body)
            del content
            with self.service.admission.admitted(self.tokens(body)):
                answer = await _unless_gone(self.run(self.service, body), receive)
                return Response(await json_of(answer), media_type="application/json"), answer
        except ClientDisconnect:
            raise
        except Exception as error:
            refusal = refusal_of(error, self.items(body) if body is not None else "input")
            if refusal.status >= 500 and not isinstance(error, Refusal):
                log.error("%s failed", self.route, exc_info=error)
            content = orjson.dumps(body_of(refusal, self.api(body)))
            return Response(content, refusal.status, headers=dict(refusal.headers), media_type="application/json"), None

    def _count(self, scope: Scope, request_id: str, status: int, answer: Answer | None, seconds: float) -> None:
        metrics, key = self.service.metrics, scope.get(KEY_NAME)
        metrics.finished(self.route, status, seconds)
        if answer is not None:
            metrics.worked(self.route, answer.model, answer.usage, key)
        if self.service.settings.access_log:
            facts: dict[str, Any] = {"time": time.time(), "id": request_id, "route": self.route, "status": status, "key": key}
            if answer is not None:
                facts |= {"model": answer.model, "texts": answer.usage.prompts, "tokens": answer.usage.tokens}
            access_log.info("%s", json.dumps(facts | {"seconds": round(seconds, 6)}))


async def _unless_gone(work: Awaitable[Answer], receive: Receive) -> Answer:
    """The result of some work, which is cancelled when the client goes away.

    Raises:
        ClientDisconnect: If it did.
    """
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(gone(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


def _request_id(request: Request) -> str:
    """The client's `X-Request-Id` if it is a short word, else a new one."""
    given = request.headers.get("x-request-id", "")
    return given if given.isascii() and given.isprintable() and 0 < len(given) <= _MAX_REQUEST_ID else uuid.uuid4().hex
