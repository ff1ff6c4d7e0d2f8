"""Keys of clients, and the guard that wants one on every route but `/health` and `/ready`."""

from __future__ import annotations

import hmac
import json
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from qwen3_integrations.errors import ConfigError

log = logging.getLogger("qwen3_integrations")

OPEN = ("/health", "/ready")
"""Routes without a key. They say nothing but their status."""

KEY_NAME = "qwen3_key"
"""The entry of a request's scope with the name of its key."""

_LOOK_S = 1.0
"""Seconds after which a file of keys is looked at again."""


def _digest(key: str) -> bytes:
    return sha256(key.encode(errors="surrogatepass")).digest()


@dataclass(slots=True)
class Keys:
    """Keys and their names. Only digests are kept.

    Args:
        keys: Name -> key.
    """

    keys: Mapping[str, str] = field(repr=False)
    _digests: dict[str, bytes] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.keys or not all(isinstance(key, str) and key.strip() == key and key for key in self.keys.values()):
            raise ConfigError("must be a mapping from names to keys without blanks around them", option="keys")
        self._digests = {name: _digest(key) for name, key in self.keys.items()}
        self.keys = dict.fromkeys(self.keys, "")

    def name_of(self, key: str) -> str | None:
        """The name of a key; None for a wrong one. It takes the same time whichever key it is."""
        given, found = _digest(key), None
        for name, digest in self._digests.items():
            if hmac.compare_digest(given, digest):
                found = name
        return found


class KeyFile:
    """Keys in a JSON file of names and keys, which is read again when it changes.

    Args:
        path: The file, such as `{"search team": "sk-...", "batch jobs": "sk-..."}`. Nobody but its owner may read it.

    Raises:
        ConfigError: If it can't be read, or is no such file. When it changes later, the keys before it stay, with an error in the log.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._seen = self._stamp()
        self._keys = self._read()
        self._looked = time.monotonic()

    def name_of(self, key: str) -> str | None:
        """As `Keys.name_of`, after a look at the file, at most one a second."""
        if time.monotonic() - self._looked >= _LOOK_S:
            self._looked = time.monotonic()
            self._look()
        return self._keys.name_of(key)

    def _look(self) -> None:
        try:
            stamp = self._stamp()
            if stamp != self._seen:
                self._keys = self._read()
                self._seen = stamp
                log.info("the keys of %s were read again", self._path)
        except ConfigError as error:
            log.error("the keys before it stay: %s", error)

    def _stamp(self) -> tuple[int, int, int]:
        try:
            found = self._path.stat()
        except OSError as error:
            raise ConfigError(f"{self._path} can't be read: {error.strerror}", option="keys") from None
        if found.st_mode & 0o077:
            raise ConfigError(f"{self._path} can be read by others", option="keys", advice=f"Run: chmod 600 {self._path}")
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _read(self) -> Keys:
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{self._path} is not JSON: {type(error).__name__}", option="keys") from None
        if not isinstance(content, dict) or not all(isinstance(key, str) for key in content.values()):
            raise ConfigError(f"{self._path} must be an object of names and keys", option="keys")
        return Keys(content)


class KeyGuard:
    """Answers 401 to every request without a right key, but for the open routes.

    Args:
        app: The application behind it.
        keys: The right keys.
        opened: Routes without a key.
    """

    def __init__(self, app: ASGIApp, keys: Keys | KeyFile, opened: Iterable[str] = OPEN) -> None:
        self._app = app
        self._keys = keys
        self._open = frozenset(opened)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 401 (ASGI)."""
        is_open = scope["type"] == "http" and scope["path"] in self._open and scope["method"] in ("GET", "HEAD")
        if scope["type"] == "lifespan" or is_open:
            await self._app(scope, receive, send)
            return
        key = key_in(Headers(scope=scope))
        name = None if key is None else self._keys.name_of(key)
        if name is not None:
            scope[KEY_NAME] = name
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await _unauthorised(send, missing=key is None)


def key_in(headers: Headers) -> str | None:
    """The key of a request: `Authorization: Bearer ...`, `X-API-Key` (Cohere's gateways) or `api-key` (Azure); None for none.

    Of two `Authorization` headers, a proxy may have checked the other one, so they count as none.
    """
    given = headers.getlist("authorization")
    if len(given) > 1:
        return None
    scheme, _, value = (given or [""])[0].partition(" ")
    if scheme.lower() == "bearer" and value.strip():
        return value.strip()
    return headers.get("x-api-key") or headers.get("api-key")


async def _unauthorised(send: Send, *, missing: bool) -> None:
    """401 in a form that the clients of all APIs can read."""
    reason = "the key is missing: send it as Authorization: Bearer ..." if missing else "the key is wrong"
    error = {"message": reason, "type": "invalid_request_error", "param": None, "code": "invalid_api_key"}
    body = json.dumps({"error": error, "message": reason, "detail": reason, "error_type": "unauthorized"}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), (b"www-authenticate", b"Bearer")]
    await send({"type": "http.response.start", "status": 401, "headers": headers})
    await send({"type": "http.response.body", "body": body})
