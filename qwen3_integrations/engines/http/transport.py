"""One HTTP request through the OpenAI SDK: JSON out, JSON in, and every failure as an error of this package."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qwen3_integrations.engines.http.address import Address
from qwen3_integrations.engines.http.bounded import BOUNDS, Bounds, TooLarge, bounded
from qwen3_integrations.engines.http.failures import Failures
from qwen3_integrations.engines.http.headers import check_header, secrets_in
from qwen3_integrations.engines.http.library import async_client, http_library
from qwen3_integrations.engines.http.network import Network
from qwen3_integrations.engines.http.numbers import brief
from qwen3_integrations.engines.http.redirects import MOST, STATUSES, in_a_circle, onward
from qwen3_integrations.engines.http.replies import parsed
from qwen3_integrations.errors import BadReply, ConfigError, RedirectRefused, ServerFailed, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    import openai

NO_KEY = "none"
"""Stands for no key. Without it, the SDK would send OPENAI_API_KEY, which belongs to another server."""

ASKED_AGAIN = 2
"""Further requests after an answer that can't be used: a page of a proxy, half of a JSON, a vector that is not finite."""

LIST_BYTES = 16 << 20
"""Bytes of an answer to a GET: lists of models have up to some megabytes."""

ROW_BYTES = 1 << 18
"""Bytes of one row of an answer. 4,096 numbers with 25 characters each have 100 KiB."""

_RETRIES: ContextVar[int | None] = ContextVar("qwen3_http_retries", default=None)


@contextmanager
def retries(most: int) -> Iterator[None]:
    """Limit the retries of the requests within the block: a search for a bad text must not pay for them again and again."""
    token = _RETRIES.set(most)
    try:
        yield
    finally:
        _RETRIES.reset(token)


_MOST_500: ContextVar[int | None] = ContextVar("qwen3_http_most_500", default=None)


@contextmanager
def one_of_many_forms() -> Iterator[None]:
    """Retry a 500 once within the block: some servers answer so to a form of the body that they can't read. Other failures are retried."""
    token = _MOST_500.set(1)
    try:
        yield
    finally:
        _MOST_500.reset(token)


@dataclass(frozen=True, slots=True)
class _Redirect:
    status: int
    location: str | None


class Transport:
    """Sends JSON and reads JSON. The SDK does pooling, retries with backoff and Retry-After, and proxies.

    Redirects are followed within the server's origin only, with a user's client too: the SDK would send texts and headers to any host.
    Every attempt has a bounded time, and every answer a bounded size, which follows from its request.

    Args:
        address: The server's address. A server on this machine is reached without a proxy, whatever the environment contains.
        model: The model's name, for messages.
        api_key: Sent as a bearer token; None: no Authorization header at all.
        timeout_s: Seconds for one whole request; connecting may take `connect_timeout_s` of them. A time-out is retried once.
        connect_timeout_s: Seconds to connect.
        max_retries: Retries on 408, 409, 425, 429, 5xx and broken connections.
        headers: Additional headers, sent with a user's client too.
        client: A user's `OpenAI` or `AsyncOpenAI`; it keeps its key, proxies and timeouts.
        network: Proxy and certificates; not with a user's client.

    Raises:
        ConfigError: If `client` is something else, or the proxy or the certificates can't be used.
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
        network: Network | None = None,
    ) -> None:
        import openai

        if client is not None and not isinstance(client, openai.OpenAI | openai.AsyncOpenAI):
            raise ConfigError(f"must be an openai.OpenAI or openai.AsyncOpenAI, not {type(client).__name__}", option="client")
        check_header("api_key", api_key or getattr(client, "api_key", None))
        for name, value in (headers or {}).items():
            check_header("headers", value, name)
        self._model = model
        self._address = address
        self._secrets = sorted(secrets_in([api_key, getattr(client, "api_key", None), *(headers or {}).values()]), key=len, reverse=True)
        self._client: openai.OpenAI | openai.AsyncOpenAI
        if client is None:
            network = network or Network()
            self._timeout_s: float | None = timeout_s
            self._client = openai.AsyncOpenAI(
                base_url=address.root,
                api_key=api_key or NO_KEY,
                timeout=openai.Timeout(timeout_s, connect=connect_timeout_s),
                max_retries=max_retries,
                http_client=bounded(async_client(address, network)),
            )
        else:
            network = None
            self._timeout_s = client.timeout.read if isinstance(client.timeout, openai.Timeout) else client.timeout
            self._client = client.copy(http_client=bounded(client._client))
        self._failures = Failures(address, model, api_key is not None, network, self._hidden, self._timeout_s)
        # The SDK reads these from the environment, where they are for another server. `Omit` in every request keeps them out.
        names = ["OpenAI-Organization", "OpenAI-Project"] + (["Authorization"] if api_key is None else [])
        own = {name.lower() for name in headers or {}}
        unsent = {name: openai.Omit() for name in names if name.lower() not in own}
        self._options: dict[str, Any] = {
            "headers": (unsent if client is None else {}) | dict(headers or {}),
            "follow_redirects": False,
        }

    async def post(self, url: str, body: Mapping[str, Any], read: Callable[[Any], Any] | None = None) -> Any:
        """Post JSON to an absolute address.

        Args:
            url: The address.
            body: The JSON.
            read: Reads the answer's JSON. If it raises a `BadReply`, the request is made again, twice at most.

        Returns:
            What `read` makes of the answer's JSON; without it, the JSON.

        Raises:
            ServerError: One of its subclasses, after retries.
            RedirectRefused: If the server redirects to another origin.
            BadReply: If the answer is not complete JSON, or `read` refuses it.
        """
        return await self._call("post", url, {"body": dict(body)}, LIST_BYTES + ROW_BYTES * _rows(body) + 64 * _characters(body), read)

    async def get(self, url: str) -> Any:
        """Get JSON from an absolute address; errors as in `post`."""
        return await self._call("get", url, {}, LIST_BYTES, None)

    async def close(self) -> None:
        """Close connections. A user's sync client stays open; a user's async client can't be used on another event loop, and is closed."""
        import openai

        if isinstance(self._client, openai.AsyncOpenAI):
            await self._client.close()

    async def _call(self, verb: str, url: str, arguments: dict[str, Any], size: int, read: Callable[[Any], Any] | None) -> Any:
        most = _RETRIES.get()
        for left in range(ASKED_AGAIN if most is None else min(most, ASKED_AGAIN), -1, -1):
            try:
                answer = await self._followed(verb, url, arguments, size)
                return _content(answer, read) if read else answer
            except BadReply as error:
                if not left:
                    raise error.replace(url=error.url or self._address.shown(url), model=error.model or self._model) from error.__cause__
            await asyncio.sleep(0.05)
        raise AssertionError  # the last round returns or raises

    async def _followed(self, verb: str, url: str, arguments: dict[str, Any], size: int) -> Any:
        asked = url
        for _ in range(MOST + 1):
            answer = await self._answer(verb, asked, arguments, size)
            if not isinstance(answer, _Redirect):
                return answer
            asked, status = self._onward(verb, asked, answer), answer.status
        raise in_a_circle(url, status, self._address.shown).replace(model=self._model)

    async def _answer(self, verb: str, url: str, arguments: dict[str, Any], size: int) -> Any:
        """The answer to one request: JSON, or a redirect."""
        import openai

        method = getattr(self._client, verb)
        shown = self._address.shown(url)
        most = _RETRIES.get()
        options = self._options if most is None else self._options | {"max_retries": min(most, self._client.max_retries)}
        token = BOUNDS.set(Bounds(self._timeout_s, size, _MOST_500.get()))
        try:
            if isinstance(self._client, openai.AsyncOpenAI):
                answer = await method(url, cast_to=http_library().Response, options=options, **arguments)
            else:
                answer = await asyncio.to_thread(method, url, cast_to=http_library().Response, options=options, **arguments)
            return self._read(answer.content, shown)
        except openai.APIError as error:
            if isinstance(error, openai.APIStatusError) and error.status_code in STATUSES:
                return _Redirect(error.status_code, error.response.headers.get("location"))
            original = str(error)
            raise self._failures.of(error, url) from (error if self._hidden(original) == original else None)
        except TooLarge as error:
            raise BadReply(f"{shown} sent {error}", url=shown, model=self._model) from None
        except (
            openai.OpenAIError,
            ValueError,
            TypeError,
            RuntimeError,
        ) as error:  # of the SDK and its libraries, for headers that they can't read
            if isinstance(error, BadReply):
                raise
            reason = f"{shown} could not be asked, or sent an answer that can't be read ({type(error).__name__}"
            raise ServerFailed(f"{reason}: {printable(self._hidden(str(error)))[:120]})", url=shown, model=self._model) from None
        finally:
            BOUNDS.reset(token)

    def _read(self, content: bytes, shown: str) -> Any:
        try:
            answer = parsed(content)
        except ValueError as error:
            start = content.lstrip()[:80].decode("utf-8", "replace")
            if start.startswith("<") or not isinstance(error, json.JSONDecodeError) or not start.startswith(("{", "[")):
                page = self._hidden(start) if start else "an empty body"
                reason = (
                    f"{shown} did not answer with JSON, but with {page!r}"
                    if start[:1] not in "{["
                    else f"{shown} sent unusable JSON: {error}"
                )
                raise BadReply(printable(reason)[:400], advice="Check that base_url is the server's address", url=shown) from None
            raise BadReply(f"{shown} sent an incomplete reply, or one that is not JSON: {error}", url=shown) from None
        if not isinstance(answer, dict | list):
            reason = f"{shown} did not answer with JSON, but with {self._hidden(str(answer)[:80])!r}"
            raise BadReply(reason, advice="Check that base_url is the server's address", url=shown)
        return answer

    def _onward(self, verb: str, url: str, redirect: _Redirect) -> str:
        try:
            return onward(url, redirect.location, redirect.status, root=self._address.root, method=verb.upper(), shown=self._address.shown)
        except RedirectRefused as error:
            base = error.base_url and self._hidden(error.base_url)
            advice = error.advice and self._hidden(error.advice)
            raise error.replace(reason=self._hidden(error.reason), advice=advice, base_url=base, model=self._model) from None

    def _hidden(self, text: str) -> str:
        """A text without the secrets that are sent: servers repeat them in error messages."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def _content(answer: Any, read: Callable[[Any], Any]) -> Any:
    """What a function makes of an answer; whatever it can't read is a `BadReply`."""
    try:
        return read(answer)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise BadReply(f"the server's answer can't be read: {type(error).__name__}: {brief(error)}") from error


def _rows(body: Mapping[str, Any]) -> int:
    """The number of rows that an answer may have: the longest list in the request."""
    return max((len(value) for value in body.values() if isinstance(value, list)), default=1)


def _characters(body: Mapping[str, Any]) -> int:
    """The approximate size of a request."""
    return sum(
        len(one)
        for value in body.values()
        if isinstance(value, list | str)
        for one in (value if isinstance(value, list) else [value])
        if isinstance(one, str | list)
    )
