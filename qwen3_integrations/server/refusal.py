"""Errors of requests, and how each API says them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

import msgspec

from qwen3_integrations.errors import (
    ConfigError,
    DeadlineExceeded,
    EngineClosed,
    EngineError,
    InputError,
    PromptTooLong,
    Qwen3Error,
    one_line,
)

Api: TypeAlias = Literal["openai", "cohere", "tei", "vllm"]


@dataclasses.dataclass(eq=False)
class Refusal(Exception):
    """A request that is not answered.

    Attributes:
        status: The HTTP status.
        reason: What is wrong and what to do, in one line.
        code: A short word for programs.
        field: The field of the body at fault; None if there is none.
        index: Position of the item at fault in that field; None if no single item is at fault.
        headers: More headers of the answer.
    """

    status: int
    reason: str
    code: str = "invalid_request"
    field: str | None = None
    index: int | None = None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        return self.reason

    @property
    def place(self) -> str | None:
        """The field and the index: `input[3]`."""
        return self.field if self.field is None or self.index is None else f"{self.field}[{self.index}]"


def refusal_of(error: Exception, items: str) -> Refusal:
    """The refusal for an error of this package.

    Args:
        error: The error.
        items: The field of the body with the texts, for an error with an index.
    """
    if isinstance(error, Refusal):
        return error
    make = next((make for kind, make in _REFUSALS if isinstance(error, kind)), _internal)
    return make(error, items)


def _about(status: int, code: str) -> Callable[[Any, str], Refusal]:
    def make(error: Qwen3Error, items: str) -> Refusal:
        if error.index is None:
            return Refusal(status, one_line(str(error)), code=code)
        bare = error.replace(index=None, **({"argument": None} if isinstance(error, InputError) else {}))
        return Refusal(status, one_line(f"{items}[{error.index}]: {bare}"), code=code, field=items, index=error.index)

    return make


def _plain(status: int, code: str, words: str, **headers: str) -> Callable[[Any, str], Refusal]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda error, _: Refusal(status, words.format(one_line(str(error))), code=code, headers=named)


def _setting(error: ConfigError, _: str) -> Refusal:
    return Refusal(400, one_line(str(error)), code="invalid_field", field=error.option)


def _internal(error: Exception, _: str) -> Refusal:
    return Refusal(500, f"{type(error).__name__} in the server; its log has the details", code="internal_error")


_REFUSALS: tuple[tuple[type[Exception], Callable[[Any, str], Refusal]], ...] = (
    (msgspec.ValidationError, _plain(422, "invalid_field", "the body has a wrong field: {}")),
    (msgspec.DecodeError, _plain(400, "invalid_json", "the body is not JSON: {}")),
    (UnicodeDecodeError, _plain(400, "invalid_json", "the body is not UTF-8: {}")),
    (PromptTooLong, _about(400, "context_length_exceeded")),
    (InputError, _about(400, "invalid_text")),
    (ConfigError, _setting),
    (EngineClosed, _plain(503, "closing", "the server is closing", Retry_After="1")),
    (DeadlineExceeded, _about(504, "timeout")),
    (EngineError, _about(500, "engine_error")),
)
"""The first row whose class an error has."""


def body_of(refusal: Refusal, api: Api) -> dict[str, Any]:
    """The body of an answer in the form of an API, with the item's index where there is one."""
    return _BODIES[api](refusal)


def _openai(refusal: Refusal) -> dict[str, Any]:
    """Source: OpenAI's API reference; vLLM's is the same."""
    kind = "server_error" if refusal.status >= 500 else "invalid_request_error"
    error = {"message": refusal.reason, "type": kind, "param": refusal.place, "code": refusal.code}
    return {"error": error | _index(refusal)}


def _cohere(refusal: Refusal) -> dict[str, Any]:
    """Source: Cohere's API reference. `detail` is Jina's."""
    return {"message": refusal.reason, "detail": refusal.reason} | _index(refusal)


_TEI_KINDS = {413: "validation", 422: "validation", 429: "overloaded", 503: "unhealthy"}


def _tei(refusal: Refusal) -> dict[str, Any]:
    """Source: the OpenAPI description of Text Embeddings Inference."""
    kind = _TEI_KINDS.get(refusal.status, "backend" if refusal.status >= 500 else "validation")
    return {"error": refusal.reason, "error_type": kind} | _index(refusal)


def _index(refusal: Refusal) -> dict[str, int]:
    return {} if refusal.index is None else {"index": refusal.index}


_BODIES: Mapping[Api, Callable[[Refusal], dict[str, Any]]] = {"openai": _openai, "vllm": _openai, "cohere": _cohere, "tei": _tei}
