"""The answer to a request, and its JSON."""

from __future__ import annotations

import asyncio
from binascii import b2a_base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from qwen3_integrations.core.results import Usage
from qwen3_integrations.core.types import Rows

_LARGE = 1 << 16
"""Rows with so many numbers are written in a worker thread, so that the event loop is not blocked."""


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """The answer to a request.

    Attributes:
        content: Makes what is written as JSON. NumPy arrays are allowed.
        usage: The work of the request.
        model: The name of the model that did it.
        numbers: About how many numbers the content has.
    """

    content: Callable[[], Any]
    usage: Usage
    model: str
    numbers: int = 0


async def json_of(answer: Answer) -> bytes:
    """The content as JSON."""
    return await asyncio.to_thread(_dumped, answer.content) if answer.numbers >= _LARGE else _dumped(answer.content)


def _dumped(content: Callable[[], Any]) -> bytes:
    return orjson.dumps(content(), option=orjson.OPT_SERIALIZE_NUMPY)


def base64_of(row: Rows) -> str:
    """A vector as base64 of little-endian float32, as OpenAI's API has it."""
    return b2a_base64(row.astype("<f4", copy=False).data, newline=False).decode("ascii")


def tokens_of(usage: Usage) -> dict[str, int]:
    """Usage in the form of OpenAI's API."""
    return {"prompt_tokens": usage.tokens, "total_tokens": usage.tokens}
