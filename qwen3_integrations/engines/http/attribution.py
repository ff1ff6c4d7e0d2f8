"""Which item of a call an error is about, and what the user can do about it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import numpy as np

from qwen3_integrations.core.types import Job, Rows
from qwen3_integrations.engines.http.failures import EXACT_CUT
from qwen3_integrations.engines.http.server_info import ServerInfo
from qwen3_integrations.errors import EngineError, Partial, PromptTooLong, RequestRefused

T = TypeVar("T")

_TOO_LARGE = 413
"""HTTP's status for a request that is too large."""


Finished = list[tuple[Sequence[int], Rows]]
"""Positions in a job, and their rows, of the requests that were answered."""


def in_job(error: EngineError, positions: Sequence[int]) -> EngineError:
    """The error of a request as the error of a job: `index` and `partial` become those of the job.

    Args:
        error: An error with an index in the request, or none.
        positions: Position in the job of each prompt in the request.
    """
    partial = error.partial and Partial(error.partial.rows, tuple(positions[at] for at in error.partial.which))
    if error.index is None:
        return error.replace(partial=partial)
    return error.replace(index=positions[error.index], partial=partial, advice=error.advice or _refusal_advice(error))


def of_server(error: EngineError, *, url: str, model: str, finished: Finished) -> EngineError:
    """The error of a job with all that is known: address, model, and the rows that were answered.

    Args:
        error: The error.
        url: The address of the server, for an error without address.
        model: The model's name, for an error without it.
        finished: The rows of the other requests of the job.
    """
    parts = finished + ([(error.partial.which, error.partial.rows)] if error.partial else [])
    parts = [part for part in parts if part[1].shape[1:] == parts[0][1].shape[1:]]
    which = np.array([at for positions, _ in parts for at in positions], dtype=int)
    order = np.argsort(which)
    partial = Partial(np.concatenate([rows for _, rows in parts])[order], tuple(which[order].tolist())) if parts else None
    return error.replace(url=error.url or url, model=error.model or model, partial=partial)


@contextmanager
def index_in_error(job: Job, position: int) -> Iterator[None]:
    """Add the position to a `PromptTooLong`; not for a reranker, because its error is about the query and not about a document."""
    try:
        yield
    except PromptTooLong as error:
        raise error.replace(index=position if job.task == "embed" else None) from None


def too_long_for(server: ServerInfo, error: PromptTooLong) -> PromptTooLong:
    """The error of a prompt that fits into the budget of the job, but not into the context of the server."""
    return error.replace(
        reason=(
            f"template, instruction and query take {error.tokens} tokens, but {server.url} accepts {error.max_tokens} (its max_model_len)"
        ),
        advice="Shorten the query or the instruction, or serve the model with a larger max_model_len",
    )


def _refusal_advice(error: EngineError) -> str | None:
    """What to do when a server refuses one prompt without a reason. Most refuse only texts that are too long."""
    if not isinstance(error, RequestRefused):
        return None
    if error.status == _TOO_LARGE:
        return f"Lower max_tokens; {EXACT_CUT}"
    return f"If the text is too long, lower max_tokens; {EXACT_CUT}. If it is not too long, check the text"


async def all_or_first(tasks: Sequence[asyncio.Task[T]]) -> list[T]:
    """The results of all tasks.

    Raises:
        EngineError: The error about the first item, after all tasks have ended; an error about no item at once, and the other tasks are
            cancelled.
    """
    pending = set(tasks)
    failures: list[BaseException] = []
    try:
        while pending and all(isinstance(failure, EngineError) and failure.index is not None for failure in failures):
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_EXCEPTION)
            failures += [failure for task in done if not task.cancelled() and (failure := task.exception())]
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
    if failures:
        raise min(failures, key=lambda failure: -1 if (index := getattr(failure, "index", None)) is None else index)
    return [task.result() for task in tasks]
