"""Every error this package raises on purpose, as one tree.

    Qwen3Error
    ├── InputError (ValueError)             a text or an argument of a call
    │   ├── InvalidText                     not encodable as UTF-8 (lone surrogates)
    │   └── PromptTooLong                   instruction and query leave no room
    ├── ConfigError (ValueError)            a setting that can't work
    │   ├── MissingExtra (ImportError)      an optional dependency is not installed
    │   └── ModelNotFound                   no folder, no cache and no hub has it
    └── EngineError (RuntimeError)          the engine or the server behind it
        ├── EngineClosed                    used after `close()`
        ├── BadReply                        an answer of the wrong count, width or value
        └── ServerError                     has `url` and `status`
            ├── ServerUnreachable           refused, reset, unknown host
            ├── ServerTimeout (TimeoutError)
            ├── AuthenticationFailed        401, 403
            ├── ModelNotServed              404: another model lives there
            ├── RouteNotServed              404: another task lives there
            ├── RedirectRefused             3xx: to another host, or in a circle
            ├── RequestRefused              400, 413, 422: the request itself
            ├── RateLimited                 429, after retries
            ├── ServerFailed                5xx, after retries
            └── HandshakeFailed             it answers, but not as this model must

A value that is no text at all is the built-in `TypeError`, with its index.
"""

from __future__ import annotations

from typing import Any


class Qwen3Error(Exception):
    """Base of every error this package raises on purpose. May be copied and pickled, to cross from a worker process."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[Qwen3Error], args: tuple[Any, ...], state: dict[str, Any]) -> Qwen3Error:
    base: Any = kind.__base__  # the one of several bases whose memory layout the class has
    error: Qwen3Error = base.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class InputError(Qwen3Error, ValueError):
    """A text or an argument of a call can't be used; the message names it."""


class InvalidText(InputError):
    """A text that UTF-8 can't express.

    Attributes:
        index: Position of the text in the list that was passed; None for a query or an instruction.
    """

    def __init__(self, message: str, *, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index


class PromptTooLong(InputError):
    """What must stay whole (template, instruction, query) does not fit the budget.

    Attributes:
        tokens: Tokens that must stay whole.
        max_tokens: The budget they had to fit into.
    """

    def __init__(self, message: str, *, tokens: int, max_tokens: int) -> None:
        super().__init__(message)
        self.tokens = tokens
        self.max_tokens = max_tokens


class ConfigError(Qwen3Error, ValueError):
    """A setting that can't work; raised when a component or an engine is made."""


class MissingExtra(ConfigError, ImportError):
    """An optional dependency is not installed; the message holds the exact pip line."""


class ModelNotFound(ConfigError):
    """A model name leads to no folder, no local cache and no hub that answers."""


class EngineError(Qwen3Error, RuntimeError):
    """The engine, or the server behind it, could not do the work."""


class EngineClosed(EngineError):
    """An engine was used after it was closed."""


class BadReply(EngineError):
    """An answer that can't be right: wrong count, width, index, norm, or not finite."""


class ServerError(EngineError):
    """A server could not be used.

    Attributes:
        url: The address that was asked, without credentials.
        status: The HTTP status; None when there was no answer.
        index: Position of the prompt at fault in the list that was passed, where one is at fault.
    """

    def __init__(self, message: str, *, url: str, status: int | None = None, index: int | None = None) -> None:
        super().__init__(message)
        self.url = url
        self.status = status
        self.index = index


class ServerUnreachable(ServerError):
    """No connection, or one that broke: refused, reset, unknown host."""


class ServerTimeout(ServerError, TimeoutError):
    """No answer in time."""


class AuthenticationFailed(ServerError):
    """401 or 403: no key, a wrong key, or no right to this model."""


class ModelNotServed(ServerError):
    """The server is there but serves other models."""


class RouteNotServed(ServerError):
    """The server is there but not for this task."""


class RedirectRefused(ServerError):
    """301, 302, 303, 307 or 308: the server redirects to another origin, or without end.

    Attributes:
        base_url: What to use as `base_url` if the other origin is the right server, without credentials; None where that is not known.
    """

    def __init__(self, message: str, *, url: str, status: int | None = None, index: int | None = None, base_url: str | None = None) -> None:
        super().__init__(message, url=url, status=status, index=index)
        self.base_url = base_url


class RequestRefused(ServerError):
    """400, 413 or 422: the server refuses this request."""


class RateLimited(ServerError):
    """429, and retrying did not help."""


class ServerFailed(ServerError):
    """5xx, and retrying did not help."""


class HandshakeFailed(ServerError):
    """The server answers, but not as this model must: template, end token, width or another model."""
