"""Which item of a call an error is about, and what the user can do about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from qwen3_integrations.core.types import Job
from qwen3_integrations.engines.http.discovery import ServerInfo
from qwen3_integrations.engines.http.failures import EXACT_CUT
from qwen3_integrations.errors import EngineError, PromptTooLong, RequestRefused

_TOO_LARGE = 413
"""HTTP's status for a request that is too large."""


def at_position_in_job(error: EngineError, positions: Sequence[int]) -> EngineError:
    """The error of a request as the error of a job: `index` becomes the position in the job.

    Args:
        error: An error with an index in the request.
        positions: Position in the job of each prompt in the request.
    """
    assert error.index is not None
    advice = _refusal_advice(error) if isinstance(error, RequestRefused) else error.advice
    return error.replace(index=positions[error.index], advice=advice)


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


def _refusal_advice(error: RequestRefused) -> str:
    """What to do when a server refuses one prompt. Most refuse only texts that are too long; few report it by a status or a code."""
    if error.status == _TOO_LARGE:
        return f"Lower max_tokens; {EXACT_CUT}"
    return f"If the text is too long, lower max_tokens; {EXACT_CUT}. If it is not too long, check the text"
