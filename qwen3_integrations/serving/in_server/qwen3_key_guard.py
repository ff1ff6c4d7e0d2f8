"""ASGI middleware that guards every route of a server with its key, except the two that only say whether it is healthy.

A server's process imports it as a top-level module: its folder is in PYTHONPATH. Source: the ASGI specification, version 3.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

KEY = "QWEN3_SERVER_KEY"
"""Environment variable of a server's processes: the key that clients must send."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_OPEN = ("/health", "/ready")
"""Paths that need no key, spelled exactly so. Both are answered by the program's own /health, with its status and nothing else."""

_REFUSAL = b'{"error": {"message": "this server needs its key: Authorization: Bearer KEY", "type": "invalid_request_error", '
_REFUSAL += b'"param": null, "code": "invalid_api_key"}}'
"""The body of a refusal. Source: OpenAI's API reference, "Error codes"."""


class KeyGuard:
    """Passes on requests that have the key, and answers 401 to all others.

    Args:
        app: The program's application.

    Raises:
        RuntimeError: If the environment has no key: the server must not start without its guard.
    """

    def __init__(self, app: App) -> None:
        key = os.environ.get(KEY)
        if not key:
            raise RuntimeError(f"{KEY} is not set, so the routes of this server can't be guarded")
        self._app = app
        self._key = _digest(key.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        kind = scope["type"]
        if kind == "lifespan" or (kind in ("http", "websocket") and self._has_key(scope)):
            await self._app(scope, receive, send)
        elif kind == "http" and scope["path"] in _OPEN and scope["method"] in ("GET", "HEAD"):
            await self._app({**scope, **_HEALTH}, receive, _StatusOnly(send).send)
        elif kind == "http":
            headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_REFUSAL)), (b"www-authenticate", b"Bearer")]
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else _REFUSAL})
        elif kind == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": "this server needs its key"})

    def _has_key(self, scope: Scope) -> bool:
        """Whether the request has one Authorization header, with the key. The comparison takes the same time for every wrong key."""
        sent = [value for name, value in scope["headers"] if name.lower() == b"authorization"]
        if len(sent) != 1:
            return False
        scheme, _, given = sent[0].partition(b" ")
        return hmac.compare_digest(_digest(given.strip()), self._key) and scheme.lower() == b"bearer"


_HEALTH = {"method": "GET", "path": "/health", "raw_path": b"/health", "query_string": b"", "headers": [], "root_path": ""}
"""What the program sees of a request without a key: neither its headers nor its query."""


class _StatusOnly:
    """Sends an answer's status, without its headers and its body."""

    def __init__(self, send: Send) -> None:
        self._send = send

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            await self._send({"type": message["type"], "status": message["status"], "headers": [(b"content-length", b"0")]})
        elif message["type"] == "http.response.body" and not message.get("more_body", False):
            await self._send({"type": message["type"], "body": b""})


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()
