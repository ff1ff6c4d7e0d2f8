"""The OpenAI SDK as transport: one request out, its JSON in, every failure an error of ours."""

from __future__ import annotations

import asyncio
import importlib
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from qwen3_integrations.engines.http.address import Address
from qwen3_integrations.engines.http.headers import check_header, secrets_in
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
        address: The server's address. One on this machine is reached without a proxy, whatever the environment says.
        model: For messages.
        api_key: Sent as a bearer token; None: no Authorization header at all.
        timeout_s: Seconds for one request; connecting may take `connect_timeout_s` of them.
        connect_timeout_s: Seconds to connect.
        max_retries: Retries on 408, 409, 429, 5xx and broken connections.
        headers: More headers, sent with a handed-in client too.
        client: The user's own `OpenAI` or `AsyncOpenAI`; it keeps its key, proxies and timeouts.

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
            raise ConfigError(f"must be an openai.OpenAI or openai.AsyncOpenAI, not {type(client).__name__}", option="client")
        check_header("api_key", api_key or getattr(client, "api_key", None))
        for name, value in (headers or {}).items():
            check_header("headers", value, name)
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
            The answer's JSON.

        Raises:
            ServerError: One of its subclasses, after retries.
            BadReply: If the answer is not complete JSON.
        """
        return await self._call("post", url, {"body": dict(body)})

    async def get(self, url: str) -> Any:
        """Get JSON from an absolute address; errors as in `post`."""
        return await self._call("get", url, {})

    async def close(self) -> None:
        """Close connections. A sync client of the user's stays open; an async one can't be used on another loop any more."""
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
            original = str(error)
            raise self._translated(error, url) from (error if self._hidden(original) == original else None)
        except json.JSONDecodeError as error:
            raise BadReply(f"{self._address.shown(url)} sent an incomplete reply, or one that is not JSON: {error}") from error
        if not isinstance(answer, dict | list):
            reason = f"{self._address.shown(url)} did not answer with JSON, but with {str(answer)[:80]!r}"
            raise BadReply(reason, advice="Check that base_url is the server's address")
        return answer

    def _translated(self, error: openai.APIError, url: str) -> ServerError:
        import openai

        shown = self._address.shown(url)
        if isinstance(error, openai.APITimeoutError):
            advice = "Raise timeout_s, or check whether the server is overloaded"
            return ServerTimeout(f"{shown} did not answer in time", url=shown, advice=advice)
        if isinstance(error, openai.APIConnectionError):
            cause = error.__cause__ or error
            reason = f"({type(cause).__name__}: {str(cause)[:120]})"
            if "Connect" in type(cause).__name__:
                advice = "Check that the server is running and that base_url is its address"
                return ServerUnreachable(f"{shown} can't be reached {reason}", url=shown, advice=advice)
            advice = "The cause is in the server's log, or in that of a proxy in front of it"
            return ServerUnreachable(f"{shown} closed the connection before its answer was complete {reason}", url=shown, advice=advice)
        if not isinstance(error, openai.APIStatusError):
            return ServerFailed(f"{shown} failed: {type(error).__name__}", url=shown)
        status, statement = error.status_code, self._hidden(_statement(error))
        kind, what_to_do = self._kind(error, statement)
        return kind(f"{shown} answered {status} for {self._model}: {statement}", url=shown, status=status, advice=what_to_do)

    def _hidden(self, text: str) -> str:
        """A text without the secrets that are sent: servers repeat them in error messages."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def _kind(self, error: openai.APIStatusError, statement: str) -> tuple[type[ServerError], str | None]:
        """The class of an error and the advice that goes with it."""
        status = error.status_code
        if status in (401, 403):
            fix = "The key is wrong, or does not permit this model" if self._has_key else "Pass api_key, or set QWEN3_API_KEY"
            return AuthenticationFailed, fix
        if status == 404 and (_blames_model(error) or _names(statement, self._model)):
            return ModelNotServed, "Pass the served name as model; the server's /v1/models lists it"
        if status in (404, 405):
            return RouteNotServed, "The server lacks this route: it may serve the model for the other task, or base_url may be wrong"
        if status == 429:
            return RateLimited, "Retries did not help: lower concurrency, raise max_retries, or ask for a higher limit"
        if status >= 500:
            return ServerFailed, "Retries did not help; the cause is in the server's log"
        return RequestRefused, None


def http_library() -> Any:
    """The HTTP library that the installed OpenAI SDK is built on: `httpx`, or since its version 3 `httpx2`."""
    import openai

    base = openai.DefaultAsyncHttpxClient.__base__
    assert base is not None
    return importlib.import_module(base.__module__.partition(".")[0])


def _direct_client(address: Address) -> Any:
    """A client that goes straight to a server on this machine."""
    import openai

    transport = None if address.socket is None else http_library().AsyncHTTPTransport(uds=address.socket)
    return openai.DefaultAsyncHttpxClient(trust_env=False, transport=transport)


def _blames_model(error: openai.APIStatusError) -> bool:
    """Whether a 404 is about the model and not the route.

    Source: OpenAI's API reference (`code`); vLLM's `entrypoints/serve/engine/serving.py` (`type`, `param`).
    """
    body: Any = error.body
    fields = body.get("error", body) if isinstance(body, Mapping) else None
    if not isinstance(fields, Mapping):
        return False
    return fields.get("code") == "model_not_found" or fields.get("param") == "model" or fields.get("type") == "NotFoundError"


def _names(statement: str, model: str) -> bool:
    """Whether a server's statement names the model, as a word of its own: servers without error codes do for a model they lack."""
    return re.search(rf"(?<![\w/.-]){re.escape(model)}(?![\w/-])", statement) is not None


def _statement(error: openai.APIStatusError) -> str:
    """The server's own words: `{"error": {"message"}}`, `{"message"}`, `{"detail"}`, or the answer's text."""
    body: Any = error.body
    for key in ("error", "message", "detail"):
        if isinstance(body, Mapping) and key in body:
            body = body[key]
    if isinstance(body, Mapping):
        body = body.get("message", body)
    text = body if isinstance(body, str) else json.dumps(body) if body else error.response.text
    return " ".join(str(text).split())[:300].rstrip(".") or "no reason given"
