"""Failed requests as errors of this package: whose fault it is, in the server's own words."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from qwen3_integrations.engines.http.address import Address, shown_url
from qwen3_integrations.engines.http.dialects import Misplaced
from qwen3_integrations.engines.http.network import Network
from qwen3_integrations.engines.http.replies import Statement, retry_after, statement
from qwen3_integrations.errors import (
    AuthenticationFailed,
    BadReply,
    EngineError,
    ModelNotServed,
    QuotaExceeded,
    RateLimited,
    RedirectRefused,
    RequestRefused,
    RouteNotServed,
    ServerError,
    ServerFailed,
    ServerTimeout,
    ServerUnreachable,
    printable,
)

_CAUSE = 120
"""Characters of another library's message."""

EXACT_CUT = "for an exact cut on this machine, pass the model's folder: engine_options={'tokenizer': ...}"

_NOT_A_TEXT = frozenset((401, 402, 403, 404, 405, 407, 408, 409, 421, 425, 426, 429, 431, 451, 501, 505, 511))
"""Statuses of errors that no text of the request causes: key, quota, route, time, rate, headers, law."""


_NO_ROUTE = (RouteNotServed, "The server lacks this route: it may serve the model for the other task, or base_url may be wrong")
_NOT_NOW = (ServerFailed, "The server can't take the request now, and retries did not help")

_KINDS: dict[int, tuple[type[ServerError], str]] = {
    404: _NO_ROUTE,
    405: _NO_ROUTE,
    407: (AuthenticationFailed, "The proxy wants a user and a password: proxy='http://user:password@host:port'"),
    408: (
        ServerTimeout,
        "The server did not get the request in time, and retries did not help: check the connection and the server's load",
    ),
    409: _NOT_NOW,
    425: _NOT_NOW,
    429: (RateLimited, "Retries did not help: lower concurrency, raise max_retries, or request a higher limit"),
    431: (RequestRefused, "The headers are too large: check headers and api_key"),
    451: (RequestRefused, "The provider does not serve this for legal reasons"),
}
"""Classes and advice by status. Source: RFC 9110 and RFC 6585; RFC 7725 (451); RFC 8470 (425)."""


def may_be_a_text_s_fault(error: Exception) -> bool:
    """Whether one text of the request may be the cause of an error, so that it is worth to search for it."""
    if isinstance(error, BadReply):
        return not isinstance(error, Misplaced)
    if not isinstance(error, RequestRefused | ServerFailed):
        return False
    return error.status is None or (error.status not in _NOT_A_TEXT and not 300 <= error.status < 400)


def blames_length(error: EngineError) -> bool:
    """Whether a server says that its request is too long: of one text, this text is at fault."""
    words = getattr(error, "words", None)
    return isinstance(error, RequestRefused | ServerFailed) and words is not None and Statement(words, frozenset(), None).is_too_long


@dataclass(frozen=True, slots=True)
class Failures:
    """Makes the errors of one server.

    Attributes:
        address: The server's address.
        model: The model's name.
        has_key: Whether a key is sent.
        network: Proxy and certificates; None with a user's client.
        hidden: Removes from a text the secrets that are sent.
        timeout_s: The bound of one attempt; None for none.
    """

    address: Address
    model: str
    has_key: bool
    network: Network | None
    hidden: Callable[[str], str]
    timeout_s: float | None

    def of(self, error: Any, url: str) -> ServerError:
        """The error for an error of the SDK."""
        import openai

        shown = self.address.shown(url)
        if isinstance(error, openai.APITimeoutError):
            return self.late(shown)
        if isinstance(error, openai.APIConnectionError):
            return self._unconnected(error, shown)
        if not isinstance(error, openai.APIStatusError):
            return ServerFailed(f"{shown} failed: {type(error).__name__}", url=shown, model=self.model)
        return self.answered(error.response, shown)

    def late(self, shown: str) -> ServerTimeout:
        """The error for a request without a complete answer in time."""
        advice = "Raise timeout_s, or check whether the server is overloaded"
        bound = "" if self.timeout_s is None else f" (timeout_s={self.timeout_s:g})"
        return ServerTimeout(f"{shown} did not answer in time{bound}", url=shown, model=self.model, advice=advice)

    def answered(self, response: Any, shown: str) -> ServerError:
        """The error for an answer with an error status."""
        said = statement(response.content, self.hidden)
        status = response.status_code
        sent = response.extensions.get("answered", status)
        waiting = retry_after(response.headers)
        kind, advice = self._kind(status, said)
        answered = f"answered {status}" if sent == status else f"answered {sent} with an error in the body"
        later = "" if waiting is None else f" (Retry-After: {waiting:.0f} s)"
        reason = f"{shown} {answered} for {self.model}: {said.words}{later}"
        status_field = status if sent == status or said.status is not None else sent
        error: ServerError = kind(reason, url=shown, status=status_field, model=self.model, advice=advice)
        error.retry_after_s, error.words = waiting, said.words
        return error

    def _kind(self, status: int, said: Statement) -> tuple[Any, str | None]:
        """The class of an error and the advice that goes with it."""
        if said.codes & {"invalid_api_key", "invalidapikey"}:
            status = 401
        elif "model_not_found" in said.codes or (status == 404 and (_blames_model(said) or _names(said.words, self.model))):
            return ModelNotServed, "Pass the served name as model; the server's /v1/models lists it"
        spent = {"insufficient_quota", "billing_hard_limit_reached", "arrearage"}
        if status == 402 or (status in (400, 403, 429) and said.codes & spent) or (status == 403 and said.is_about_money):
            return QuotaExceeded, "The account has no quota or credit left: check it with the provider"
        if status in (401, 403):
            advice = "The key is wrong, or does not permit this model" if self.has_key else "Pass api_key, or set QWEN3_API_KEY"
            return AuthenticationFailed, advice
        if status in _KINDS:
            return _KINDS[status]
        if 300 <= status < 400:
            return RedirectRefused, "Check that base_url is the server's address"
        too_long = f"Lower max_tokens; {EXACT_CUT}" if said.is_too_long else None
        return (
            (ServerFailed, too_long or "Retries did not help; the cause is in the server's log")
            if status >= 500
            else (RequestRefused, too_long)
        )

    def _unconnected(self, error: Any, shown: str) -> ServerError:
        cause = error.__cause__ or error
        name = type(cause).__name__
        reason = f"({name}: {printable(self.hidden(str(cause)))[:_CAUSE]})"
        if any(isinstance(each, ssl.SSLCertVerificationError) for each in _chain(cause)) or "CERTIFICATE_VERIFY_FAILED" in str(cause):
            advice = "Name the certificates to trust: ca='file.pem' or SSL_CERT_FILE; verify=False checks none"
            return ServerUnreachable(f"the certificate of {shown} is not trusted {reason}", url=shown, model=self.model, advice=advice)
        proxy = self.network.proxy_for(self.address) if self.network else None
        if proxy and (name == "ProxyError" or "Connect" in name):
            where = f"the proxy {shown_url(proxy[0])} (from {proxy[1]})"
            what = "refused to connect" if name == "ProxyError" else "can't be reached, so no request was sent"
            advice = f"Check {proxy[1]}; NO_PROXY lists hosts that are reached without a proxy, and proxy='' uses none"
            return ServerUnreachable(f"{where} {what} to {shown} {reason}", url=shown, model=self.model, advice=advice)
        if "Connect" in name:
            advice = "Check that the server is running and that base_url is its address"
            return ServerUnreachable(f"{shown} can't be reached {reason}", url=shown, model=self.model, advice=advice)
        advice = "The cause is in the server's log, or in the log of a proxy in front of it"
        broken = f"{shown} closed the connection before its answer was complete {reason}"
        return ServerUnreachable(broken, url=shown, model=self.model, advice=advice)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(10):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def _blames_model(said: Statement) -> bool:
    """Whether a 404 is about the model and not the route.

    Source: OpenAI's API reference (`code`); vLLM's `entrypoints/serve/engine/serving.py` (`type`, `param`).
    """
    return bool(said.codes & {"model_not_found", "model", "notfounderror"})


def _names(words: str, model: str) -> bool:
    """Whether a server's message contains the model's name as a whole word, as for an unknown model on servers without error codes."""
    return re.search(rf"(?<![\w/.-]){re.escape(model)}(?![\w/-])", words) is not None
