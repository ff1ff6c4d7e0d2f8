"""The OpenAI SDK as transport: one request out, its JSON in, every failure an error of ours."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from qwen3_integrations.engines.http.address import Address
from qwen3_integrations.engines.http.headers import check_header, secrets_in
from qwen3_integrations.engines.http.library import http_library
from qwen3_integrations.errors import (
    AuthenticationFailed,
    BadReply,
    ConfigError,
    ModelNotServed,
    RateLimited,
    RequestRefused,
    RouteNotServed,
    ServerError,
    ServerFailed,
    ServerTimeout,
    ServerUnreachable,
)

if TYPE_CHECKING:
    import openai

NO_KEY = "none"
"""The SDK insists on a key and else takes OPENAI_API_KEY, which is another server's; with this one no key is sent."""


class Transport:
    """Sends JSON and reads JSON. Pooling, timeouts, retries with backoff and Retry-After, and proxies are the SDK's.

    Args:
        address: Where the server is. One on this machine is not asked through a proxy, whatever the environment says.
        model: For messages.
        api_key: Sent as a bearer token; None: no Authorization header at all.
        timeout_s: Seconds for one request; connecting may take `connect_timeout_s` of them.
        connect_timeout_s: Seconds to connect.
        max_retries: Tries after the first, on 408, 409, 429, 5xx and broken connections.
        headers: More headers, sent with a handed-in client too.
        client: The user's own `OpenAI` or `AsyncOpenAI`; its key, proxies and timeouts are used as they are.

    Raises:
        ConfigError: If `client` is something else.
    """

    def __init__(
        self,
        address: Address,
        model: str,
        *,
        api_key: str | None,
        timeout_s: float,
        connect_timeout_s: float,
        max_retries: int,
        headers: Mapping[str, str] | None,
        client: Any = None,
    ) -> None:
        import openai

        if client is not None and not isinstance(client, openai.OpenAI | openai.AsyncOpenAI):
            raise ConfigError(f"client must be an openai.OpenAI or openai.AsyncOpenAI, not {type(client).__name__}")
        check_header("api_key", api_key or getattr(client, "api_key", None))
        for name, value in (headers or {}).items():
            check_header(f"headers[{name!r}]", value)
        self._model = model
        self._address = address
        self._has_key = api_key is not None
        self._secrets = list(secrets_in([api_key, getattr(client, "api_key", None), *(headers or {}).values()]))
        self._client: openai.OpenAI | openai.AsyncOpenAI = client or openai.AsyncOpenAI(
            base_url=address.root,
            api_key=api_key or NO_KEY,
            timeout=openai.Timeout(timeout_s, connect=connect_timeout_s),
            max_retries=max_retries,
            http_client=_direct_client(address) if address.is_local else None,
        )
        # The SDK takes these from the environment, where they are meant for another server; it wants their absence said with every request.
        names = ["OpenAI-Organization", "OpenAI-Project"] + (["Authorization"] if api_key is None else [])
        given = {name.lower() for name in headers or {}}
        unsent = {name: openai.Omit() for name in names if name.lower() not in given}
        self._options: dict[str, Any] = {"headers": (unsent if client is None else {}) | dict(headers or {})}

    async def post(self, url: str, body: Mapping[str, Any]) -> Any:
        """Post JSON to an absolute address.

        Returns:
            What the JSON of the answer says.

        Raises:
            ServerError: One of its subclasses, after retries.
            BadReply: If the answer is no whole JSON.
        """
        return await self._call("post", url, {"body": dict(body)})

    async def get(self, url: str) -> Any:
        """Get JSON from an absolute address; errors as in `post`."""
        return await self._call("get", url, {})

    async def close(self) -> None:
        """Close connections. A sync client that was handed in stays open; an async one can't be used on another loop any more."""
        import openai

        if isinstance(self._client, openai.AsyncOpenAI):
            await self._client.close()

    async def _call(self, verb: str, url: str, words: dict[str, Any]) -> Any:
        import openai

        method = getattr(self._client, verb)
        try:
            if isinstance(self._client, openai.AsyncOpenAI):
                answer = await method(url, cast_to=object, options=self._options, **words)
            else:
                answer = await asyncio.to_thread(method, url, cast_to=object, options=self._options, **words)
        except openai.APIError as error:
            told = self._translated(error, url)
            raise told from (error if self._hidden(said := str(error)) == said else None)
        except json.JSONDecodeError as error:
            raise BadReply(f"{self._address.shown(url)} sent half a reply, or none that is JSON: {error}") from error
        if not isinstance(answer, dict | list):
            shown = self._address.shown(url)
            raise BadReply(f"{shown} did not answer with JSON, but with {str(answer)[:80]!r}: is this the server's address?")
        return answer

    def _translated(self, error: openai.APIError, url: str) -> ServerError:
        import openai

        shown = self._address.shown(url)
        if isinstance(error, openai.APITimeoutError):
            return ServerTimeout(f"{shown} did not answer in time; raise timeout_s, or look whether the server is overloaded", url=shown)
        if isinstance(error, openai.APIConnectionError):
            cause = error.__cause__ or error
            reason = f"({type(cause).__name__}: {str(cause)[:120]})"
            if "Connect" in type(cause).__name__:
                return ServerUnreachable(f"{shown} can't be reached {reason}; is the server running, and base_url its address?", url=shown)
            return ServerUnreachable(
                f"{shown} broke the connection before its answer was whole {reason}; its log, or that of a proxy before it, has the cause",
                url=shown,
            )
        if not isinstance(error, openai.APIStatusError):
            return ServerFailed(f"{shown} failed: {type(error).__name__}", url=shown)
        status, said = error.status_code, self._hidden(_said(error))
        kind, advice = self._kind(status, said)
        return kind(f"{shown} answered {status} for {self._model}: {said}. {advice}", url=shown, status=status)

    def _hidden(self, text: str) -> str:
        """A text without the secrets that are sent: servers repeat them in what they say of them."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def _kind(self, status: int, said: str) -> tuple[type[ServerError], str]:
        if status in (401, 403):
            fix = "The key is wrong, or has no right to this model" if self._has_key else "Pass api_key, or set QWEN3_API_KEY"
            return AuthenticationFailed, fix
        if status == 404 and "model" in said.lower():
            return ModelNotServed, "Pass the served name as model; the server's /v1/models lists it"
        if status in (404, 405):
            return RouteNotServed, "The server does not do this: is it served for the other task, or the address of something else?"
        if status == 429:
            return RateLimited, "Retrying did not help: lower concurrency, raise max_retries, or ask for a higher limit"
        if status >= 500:
            return ServerFailed, "Retrying did not help; the server's log has the cause"
        return RequestRefused, "The server refuses the request"


def _direct_client(address: Address) -> Any:
    """A client that goes straight to a server on this machine."""
    import openai

    transport = None if address.socket is None else http_library().AsyncHTTPTransport(uds=address.socket)
    return openai.DefaultAsyncHttpxClient(trust_env=False, transport=transport)


def _said(error: openai.APIStatusError) -> str:
    """What the server said of it: `{"error": {"message"}}`, `{"message"}`, `{"detail"}`, or its text."""
    body: Any = error.body
    for key in ("error", "message", "detail"):
        if isinstance(body, Mapping) and key in body:
            body = body[key]
    if isinstance(body, Mapping):
        body = body.get("message", body)
    text = body if isinstance(body, str) else json.dumps(body) if body else error.response.text
    return " ".join(str(text).split())[:300].rstrip(".") or "no reason given"
