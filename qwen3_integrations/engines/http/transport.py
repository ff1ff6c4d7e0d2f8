"""One HTTP request through the OpenAI SDK: JSON out, JSON in, and every failure as an error of this package."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qwen3_integrations.engines.http.address import Address
from qwen3_integrations.engines.http.headers import check_header, secrets_in
from qwen3_integrations.engines.http.library import http_library
from qwen3_integrations.engines.http.redirects import MOST, STATUSES, in_a_circle, onward
from qwen3_integrations.errors import (
    AuthenticationFailed,
    BadReply,
    ConfigError,
    ModelNotServed,
    RateLimited,
    RedirectRefused,
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
"""Stands for no key. Without it, the SDK would send OPENAI_API_KEY, which belongs to another server."""


@dataclass(frozen=True, slots=True)
class _Redirect:
    status: int
    location: str | None


class Transport:
    """Sends JSON and reads JSON. The SDK does pooling, timeouts, retries with backoff and Retry-After, and proxies.

    Redirects are followed within the server's origin only, with a user's client too: the SDK would send texts and headers to any host.

    Args:
        address: The server's address. A server on this machine is reached without a proxy, whatever the environment contains.
        model: The model's name, for messages.
        api_key: Sent as a bearer token; None: no Authorization header at all.
        timeout_s: Seconds for one request; connecting may take `connect_timeout_s` of them.
        connect_timeout_s: Seconds to connect.
        max_retries: Retries on 408, 409, 429, 5xx and broken connections.
        headers: Additional headers, sent with a user's client too.
        client: A user's `OpenAI` or `AsyncOpenAI`; it keeps its key, proxies and timeouts.

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
        # The SDK reads these from the environment, where they are for another server. `Omit` in every request keeps them out.
        names = ["OpenAI-Organization", "OpenAI-Project"] + (["Authorization"] if api_key is None else [])
        own = {name.lower() for name in headers or {}}
        unsent = {name: openai.Omit() for name in names if name.lower() not in own}
        self._options: dict[str, Any] = {
            "headers": (unsent if client is None else {}) | dict(headers or {}),
            "follow_redirects": False,
        }

    async def post(self, url: str, body: Mapping[str, Any]) -> Any:
        """Post JSON to an absolute address.

        Returns:
            The answer's JSON.

        Raises:
            ServerError: One of its subclasses, after retries.
            RedirectRefused: If the server redirects to another origin.
            BadReply: If the answer is not complete JSON.
        """
        return await self._call("post", url, {"body": dict(body)})

    async def get(self, url: str) -> Any:
        """Get JSON from an absolute address; errors as in `post`."""
        return await self._call("get", url, {})

    async def close(self) -> None:
        """Close connections. A user's sync client stays open; a user's async client can't be used on another event loop, and is closed."""
        import openai

        if isinstance(self._client, openai.AsyncOpenAI):
            await self._client.close()

    async def _call(self, verb: str, url: str, arguments: dict[str, Any]) -> Any:
        asked = url
        for _ in range(MOST + 1):
            answer = await self._answer(verb, asked, arguments)
            if not isinstance(answer, _Redirect):
                return answer
            asked, status = self._onward(verb, asked, answer), answer.status
        raise in_a_circle(url, status, self._address.shown)

    async def _answer(self, verb: str, url: str, arguments: dict[str, Any]) -> Any:
        """The answer to one request: JSON, or a redirect."""
        import openai

        method = getattr(self._client, verb)
        try:
            if isinstance(self._client, openai.AsyncOpenAI):
                answer = await method(url, cast_to=object, options=self._options, **arguments)
            else:
                answer = await asyncio.to_thread(method, url, cast_to=object, options=self._options, **arguments)
        except openai.APIError as error:
            if isinstance(error, openai.APIStatusError) and error.status_code in STATUSES:
                return _Redirect(error.status_code, error.response.headers.get("location"))
            original = str(error)
            raise self._translated(error, url) from (error if self._hidden(original) == original else None)
        except json.JSONDecodeError as error:
            raise BadReply(f"{self._address.shown(url)} sent an incomplete reply, or one that is not JSON: {error}") from error
        if not isinstance(answer, dict | list):
            reason = f"{self._address.shown(url)} did not answer with JSON, but with {str(answer)[:80]!r}"
            raise BadReply(reason, advice="Check that base_url is the server's address")
        return answer

    def _onward(self, verb: str, url: str, redirect: _Redirect) -> str:
        try:
            return onward(url, redirect.location, redirect.status, root=self._address.root, method=verb.upper(), shown=self._address.shown)
        except RedirectRefused as error:
            base = error.base_url and self._hidden(error.base_url)
            advice = error.advice and self._hidden(error.advice)
            raise error.replace(reason=self._hidden(error.reason), advice=advice, base_url=base) from None

    def _translated(self, error: openai.APIError, url: str) -> ServerError:
        import openai

        shown = self._address.shown(url)
        if isinstance(error, openai.APITimeoutError):
            advice = "Raise timeout_s, or check whether the server is overloaded"
            return ServerTimeout(f"{shown} did not answer in time", url=shown, advice=advice)
        if isinstance(error, openai.APIConnectionError):
            cause = error.__cause__ or error
            reason = f"({type(cause).__name__}: {self._hidden(str(cause))[:120]})"
            if "Connect" in type(cause).__name__:
                advice = "Check that the server is running and that base_url is its address"
                return ServerUnreachable(f"{shown} can't be reached {reason}", url=shown, advice=advice)
            advice = "The cause is in the server's log, or in the log of a proxy in front of it"
            return ServerUnreachable(f"{shown} closed the connection before its answer was complete {reason}", url=shown, advice=advice)
        if not isinstance(error, openai.APIStatusError):
            return ServerFailed(f"{shown} failed: {type(error).__name__}", url=shown)
        status, statement = error.status_code, self._hidden(_statement(error))
        kind, fix = self._kind(error, statement)
        return kind(f"{shown} answered {status} for {self._model}: {statement}", url=shown, status=status, advice=fix)

    def _hidden(self, text: str) -> str:
        """A text without the secrets that are sent: servers repeat them in error messages."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def _kind(self, error: openai.APIStatusError, statement: str) -> tuple[type[ServerError], str | None]:
        """The class of an error and the advice that goes with it."""
        status = error.status_code
        if status in (401, 403):
            advice = "The key is wrong, or does not permit this model" if self._has_key else "Pass api_key, or set QWEN3_API_KEY"
            return AuthenticationFailed, advice
        if status == 404 and (_blames_model(error) or _names(statement, self._model)):
            return ModelNotServed, "Pass the served name as model; the server's /v1/models lists it"
        if status in (404, 405):
            return RouteNotServed, "The server lacks this route: it may serve the model for the other task, or base_url may be wrong"
        if status == 429:
            return RateLimited, "Retries did not help: lower concurrency, raise max_retries, or request a higher limit"
        if status >= 500:
            return ServerFailed, "Retries did not help; the cause is in the server's log"
        return RequestRefused, None


def _direct_client(address: Address) -> Any:
    """A client without proxy, for a server on this machine."""
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
    """Whether a server's message contains the model's name as a whole word, as for an unknown model on servers without error codes."""
    return re.search(rf"(?<![\w/.-]){re.escape(model)}(?![\w/-])", statement) is not None


def _statement(error: openai.APIStatusError) -> str:
    """The server's message: `{"error": {"message"}}`, `{"message"}`, `{"detail"}`, or the answer's text."""
    body: Any = error.body
    for key in ("error", "message", "detail"):
        if isinstance(body, Mapping) and key in body:
            body = body[key]
    if isinstance(body, Mapping):
        body = body.get("message", body)
    text = body if isinstance(body, str) else json.dumps(body) if body else error.response.text
    return " ".join(str(text).split())[:300].rstrip(".") or "no reason given"
