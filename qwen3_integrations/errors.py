"""All errors that this package raises on purpose, as one tree.

    Qwen3Error                              `reason`, `advice`, `index`
    ├── InputError (ValueError)             a text or an argument of a call; `argument`
    │   ├── InvalidText                     not encodable as UTF-8 (lone surrogates)
    │   ├── PreprocessFailed                `preprocess` raised an error, or did not return text
    │   └── PromptTooLong                   instruction and query leave no room; `tokens`, `max_tokens`
    ├── ConfigError (ValueError)            a setting that can't work; `option`
    │   ├── MissingExtra (ImportError)      an optional dependency is not installed
    │   └── ModelNotFound                   a model in no folder, no cache and no hub
    └── EngineError (RuntimeError)          the engine or the server behind it; `url`, `model`, `partial`
        ├── EngineClosed                    used after `close()`
        ├── DeadlineExceeded (TimeoutError) a call did not end within its `deadline_s`
        ├── BadReply                        an answer of the wrong count, width or value
        └── ServerError                     `url`, `status`, `words`, `retry_after_s`
            ├── ServerUnreachable           refused, reset, unknown host, a proxy that does not answer
            ├── ServerTimeout (TimeoutError)
            ├── AuthenticationFailed        401, 403
            ├── QuotaExceeded               402: the account has no credit or no quota left
            ├── ModelNotServed              404: the server serves another model
            ├── RouteNotServed              404: the server is for another task
            ├── RedirectRefused             3xx: to another host, or in a circle
            ├── RequestRefused              400, 413, 422 and the like: the request itself
            ├── RateLimited                 429, after retries
            ├── ServerFailed                5xx, after retries
            └── HandshakeFailed             wrong answers for this model; `model`

Programs read the fields, not the message. The message is made from the fields each time it is read. For a value that is not a string,
the error is the built-in `TypeError`; its message has the index.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from unicodedata import category

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "AuthenticationFailed",
    "BadReply",
    "ConfigError",
    "DeadlineExceeded",
    "EngineClosed",
    "EngineError",
    "HandshakeFailed",
    "InputError",
    "InvalidText",
    "MissingExtra",
    "ModelNotFound",
    "ModelNotServed",
    "Partial",
    "PreprocessFailed",
    "PromptTooLong",
    "QuotaExceeded",
    "Qwen3Error",
    "RateLimited",
    "RedirectRefused",
    "RequestRefused",
    "RouteNotServed",
    "ServerError",
    "ServerFailed",
    "ServerTimeout",
    "ServerUnreachable",
]


class Qwen3Error(Exception):
    """Base of all errors that this package raises on purpose. They can be copied and pickled, for example to send them to another process.

    Attributes:
        reason: What happened, and to what. If the message begins with `argument` or `option`, the reason continues that sentence.
        advice: What to do; None if the reason says it.
        index: Position of the item at fault in the list that the caller passed (of the first, if there are several); None if no single
            item is at fault.
    """

    reason: str = ""
    advice: str | None = None
    index: int | None = None

    def __init__(self, reason: str, *, advice: str | None = None, index: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.advice = advice
        self.index = index

    @property
    def _subject(self) -> str:
        """The beginning of the message."""
        return "" if self.index is None else f"item {self.index} of this call: "

    def __str__(self) -> str:
        statement = f"{self._subject}{self.reason}"
        if not self.advice:
            return printable(statement)
        return printable(f"{statement} {self.advice}" if statement.endswith((".", "?", "!")) else f"{statement}. {self.advice}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def replace(self, **fields: Any) -> Self:
        """A copy with other values in some fields, and thus another message. Cause and traceback are kept.

        Args:
            fields: New values by attribute name.

        Raises:
            TypeError: For a name that is not a field.
        """
        if unknown := sorted(fields.keys() - self.__dict__.keys()):
            raise TypeError(f"{type(self).__name__} has no field {unknown[0]!r}")
        changed: Self = _twin(self)
        changed.__dict__.update(fields)
        changed.args = (changed.reason, *self.args[1:])
        return changed

    def at(self, offset: int) -> Self:
        """The error of a slice as the error of the whole call: `index` is moved by the position at which the slice begins.

        Args:
            offset: Position of the slice's first item in the whole call.
        """
        return self if self.index is None else self.replace(index=self.index + offset)

    def __reduce__(self) -> tuple[Any, ...]:
        fields = dict(self.__dict__)
        if "__notes__" in fields:
            fields["__notes__"] = list(fields["__notes__"])
        return _restored, (type(self), self.args, fields)


def _restored(kind: type[Qwen3Error], args: tuple[Any, ...], fields: dict[str, Any]) -> Qwen3Error:
    base: Any = kind.__base__  # of several bases, the one that defines the memory layout
    error: Qwen3Error = base.__new__(kind, *args)
    error.args = args
    error.__dict__.update(fields)
    return error


def printable(text: str) -> str:
    r"""A text whose control characters, and other characters that a terminal may obey, are escaped (`\x1b`); line breaks stay."""
    if text.isprintable():
        return text
    kept = (one.isprintable() or one == "\n" or category(one) == "Zs" for one in text)
    return "".join(one if keep else one.encode("unicode_escape").decode() for one, keep in zip(text, kept, strict=True))


def one_line(text: str) -> str:
    """A text in one line: as `printable`, with a blank for line breaks and other white space."""
    return printable(" ".join(text.split()))


def own_copy(error: BaseException) -> BaseException:
    """A copy of an error, for one of several callers.

    Raising an exception extends its traceback. If several threads raised one shared object, its traceback would grow with each of them
    and contain the calls of all.

    Returns:
        An equal error with the same cause and traceback. If an exception of another library can't be copied, an `EngineError` with that
        exception as its cause.
    """
    try:
        copied = _twin(error)
    except Exception:  # noqa: BLE001  the constructors of other libraries' exceptions may raise anything
        copied = None
    if type(copied) is type(error):
        return copied
    wrapped = EngineError(f"{type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped


def _twin(error: Any) -> Any:
    copied = copy.copy(error)
    copied.__cause__, copied.__context__ = error.__cause__, error.__context__
    copied.__suppress_context__ = error.__suppress_context__
    return copied.with_traceback(error.__traceback__)


class InputError(Qwen3Error, ValueError):
    """A text or an argument of a call can't be used.

    Attributes:
        argument: The argument's name. The message begins with it: `documents[3] contains ...`. None if the reason has the name.
    """

    argument: str | None = None

    def __init__(self, reason: str, *, argument: str | None = None, advice: str | None = None, index: int | None = None) -> None:
        super().__init__(reason, advice=advice, index=index)
        self.argument = argument

    @property
    def _subject(self) -> str:
        if self.argument is None:
            return super()._subject
        return f"{self.argument} " if self.index is None else f"{self.argument}[{self.index}] "


class InvalidText(InputError):
    """A text that can't be encoded as UTF-8; `index` is None for a query or an instruction."""


class PreprocessFailed(InputError):
    """The caller's `preprocess` raised an error for a text (`__cause__`), or did not return text."""


class PromptTooLong(InputError):
    """The parts of a prompt that are never cut (template, instruction, query) exceed the budget.

    Attributes:
        tokens: Number of tokens of these parts.
        max_tokens: The budget.
    """

    def __init__(self, reason: str, *, tokens: int, max_tokens: int, advice: str | None = None, index: int | None = None) -> None:
        super().__init__(reason, advice=advice, index=index)
        self.tokens = tokens
        self.max_tokens = max_tokens
        self.index = index


class ConfigError(Qwen3Error, ValueError):
    """A setting that can't work; raised when a component or an engine is made.

    Attributes:
        option: The setting's name. The message begins with it: `max_tokens must be ...`. None if no single setting is at fault. The
            command line replaces it by its flag: `--max-tokens must be ...`.
    """

    option: str | None = None

    def __init__(self, reason: str, *, option: str | None = None, advice: str | None = None, index: int | None = None) -> None:
        super().__init__(reason, advice=advice, index=index)
        self.option = option

    @property
    def _subject(self) -> str:
        return super()._subject if self.option is None else f"{self.option} "


class MissingExtra(ConfigError, ImportError):
    """An optional dependency is not installed; `advice` has the pip command."""


class ModelNotFound(ConfigError):
    """A model could not be found in a folder, in the local caches or on a hub."""


@dataclass(frozen=True, slots=True, eq=False)
class Partial:
    """The part of a call that was computed before it failed.

    Attributes:
        rows: float32, one row for each position; in a call of an `Embedder` or a `Reranker`, as that call returns them.
        which: The positions of these rows in the list that the caller passed, ascending.
    """

    rows: np.ndarray
    which: tuple[int, ...]


class EngineError(Qwen3Error, RuntimeError):
    """The engine, or its server, failed.

    Attributes:
        url: The address of the request, without credentials; None for an engine in this process, and where no request was made.
        model: The model's name as the caller passed it; None if unknown.
        partial: What was computed before the failure; None if nothing was.
    """

    url: str | None = None
    model: str | None = None
    partial: Partial | None = None

    def __init__(
        self, reason: str, *, advice: str | None = None, index: int | None = None, url: str | None = None, model: str | None = None
    ) -> None:
        super().__init__(reason, advice=advice, index=index)
        self.url = url
        self.model = model
        self.partial = None


class EngineClosed(EngineError):
    """An engine was used after it was closed."""


class DeadlineExceeded(EngineError, TimeoutError):
    """A call did not end within its `deadline_s`."""


class BadReply(EngineError):
    """An answer that can't be right: wrong count, width, index, norm, or not finite."""


class ServerError(EngineError):
    """A request to a server failed.

    Attributes:
        url: The address of the request, without credentials.
        status: The HTTP status; None if there was no answer.
        retry_after_s: Seconds after which the server permits the next request (`Retry-After`); None if it does not say.
        words: The server's own words, in one line; None if there was no answer.
    """

    url: str

    def __init__(
        self,
        reason: str,
        *,
        url: str,
        status: int | None = None,
        advice: str | None = None,
        index: int | None = None,
        model: str | None = None,
        retry_after_s: float | None = None,
        words: str | None = None,
    ) -> None:
        super().__init__(reason, advice=advice, index=index, url=url, model=model)
        self.status = status
        self.retry_after_s = retry_after_s
        self.words = words


class ServerUnreachable(ServerError):
    """No connection, or a broken one: refused, reset, unknown host."""


class ServerTimeout(ServerError, TimeoutError):
    """No answer in time."""


class AuthenticationFailed(ServerError):
    """401 or 403: no key, a wrong key, or no right to this model."""


class QuotaExceeded(ServerError):
    """402, or the code `insufficient_quota`: the account has no credit or no quota left."""


class ModelNotServed(ServerError):
    """The server runs, but serves other models."""


class RouteNotServed(ServerError):
    """The server runs, but not for this task."""


class RedirectRefused(ServerError):
    """301, 302, 303, 307 or 308: the server redirects to another origin, or endlessly.

    Attributes:
        base_url: The `base_url` to use if the other origin is the right server, without credentials; None if unknown.
    """

    def __init__(
        self,
        reason: str,
        *,
        url: str,
        status: int | None = None,
        advice: str | None = None,
        index: int | None = None,
        base_url: str | None = None,
        model: str | None = None,
    ) -> None:
        super().__init__(reason, url=url, status=status, advice=advice, index=index, model=model)
        self.base_url = base_url


class RequestRefused(ServerError):
    """400, 413, 422 or another 4xx: the server refuses this request."""


class RateLimited(ServerError):
    """429, and retrying did not help."""


class ServerFailed(ServerError):
    """5xx, and retrying did not help."""


class HandshakeFailed(ServerError):
    """The server's answers are wrong for this model: another template, no end token, another width or another model.

    Attributes:
        model: The model that the server was expected to serve.
    """

    model: str

    def __init__(self, reason: str, *, url: str, model: str, status: int | None = None, advice: str | None = None) -> None:
        super().__init__(reason, url=url, status=status, advice=advice, model=model)

    @property
    def _subject(self) -> str:
        return f"{self.url} does not answer as {self.model} must: "

    def __str__(self) -> str:
        return f"{super().__str__()}. engine_options={{'handshake': 'off'}} skips this check"
