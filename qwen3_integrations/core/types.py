"""The types exchanged between core and engines: finished prompts in, rows out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Task: TypeAlias = Literal["embed", "rerank"]
Ids: TypeAlias = NDArray[np.int32]
Rows: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class PromptPart:
    """Some text of a prompt and its token ids.

    Attributes:
        text: The text, as it must be sent to a server.
        ids: Token ids, shape (tokens,), int32; None without a tokenizer.
    """

    text: str
    ids: Ids | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Prefix(PromptPart):
    """The beginning of a prompt, which is never cut. All documents of one query share one `Prefix` object.

    Attributes:
        query: The query as the caller passed it; None for an embedded document.
        instruction: The instruction as the caller passed it; None for an embedded document.
    """

    query: str | None = None
    instruction: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """One finished prompt: prefix, body, suffix. Only the body may be cut.

    Attributes:
        prefix: Template, instruction and query; empty for an embedded document.
        body: The document; empty for an embedded query.
        suffix: The template's end: the reranker's suffix, or the embedder's end token (as text: empty, since
            the model's own tokenizer appends it).
        truncated: True if the body was cut to the budget.
        literal: True if a server's tokenizer makes exactly `ids` from `text`. False if the text contains the spelling of a control
            token, or was cut inside a character: then only the ids are exact.
        unpooled: Tokens at the beginning that the model's pooling leaves out.
    """

    prefix: Prefix
    body: PromptPart
    suffix: PromptPart
    truncated: bool = False
    literal: bool = True
    unpooled: int = 0

    @property
    def text(self) -> str:
        """The whole prompt as one string."""
        return self.prefix.text + self.body.text + self.suffix.text

    @property
    def characters(self) -> int:
        """Number of characters of `text`, counted without joining the parts."""
        return len(self.prefix.text) + len(self.body.text) + len(self.suffix.text)

    @property
    def ids(self) -> Ids | None:
        """The whole prompt as token ids, shape (tokens,), int32; None without a tokenizer."""
        parts = (self.prefix.ids, self.body.ids, self.suffix.ids)
        known = [part for part in parts if part is not None]
        return np.concatenate(known) if len(known) == len(parts) else None

    @property
    def tokens(self) -> int | None:
        """Number of `ids`, counted without joining the parts; None without a tokenizer."""
        prefix, body, suffix = self.prefix.ids, self.body.ids, self.suffix.ids
        return None if prefix is None or body is None or suffix is None else len(prefix) + len(body) + len(suffix)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Call:
    """One call of a user. Several jobs may be slices of it.

    Attributes:
        size: Number of prompts of the whole call; None if the length of the input is unknown.
    """

    size: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """Work for an engine.

    Attributes:
        task: `embed` or `rerank`.
        prompts: In the order in which the rows must come back.
        max_tokens: Length of the longest allowed prompt in tokens, template included. Prompts with ids already have at most this
            length. An engine without a tokenizer must count and cut the bodies of the other prompts itself.
        call: The call that this job is a slice of; None for a job that is a whole call.
    """

    task: Task
    prompts: tuple[Prompt, ...]
    max_tokens: int
    call: Call | None = None

    @property
    def fairness_key(self) -> object:
        """Fairness key: jobs with equal keys belong to one caller, and callers take turns."""
        return self if self.call is None else self.call

    @property
    def call_size(self) -> int | None:
        """Number of prompts of the whole call; None if the length of its input is unknown."""
        return len(self.prompts) if self.call is None else self.call.size


@dataclass(frozen=True, slots=True, eq=False)
class Reply:
    """The answer of an engine to a job.

    Attributes:
        rows: float32. `embed`: shape (prompts, width), as the model gives them or already of unit length.
            `rerank`: shape (prompts,), the probability of "yes" in [0, 1].
        tokens: Number of tokens of each prompt as the model read it (after a cut), in the order of the job; None for a prompt that
            was not counted, for lack of a tokenizer.
        truncated: Positions of the prompts whose bodies the engine itself cut.
        max_tokens: The budget that the engine used, if it is less than the job's (a server's own limit); else None.
        server_tokens: Total number of tokens that the server reports for this job; None without a server, or if it does not report
            it. If several callers share a request, the count is divided among them by length.
    """

    rows: Rows
    tokens: tuple[int | None, ...]
    truncated: frozenset[int] = frozenset()
    max_tokens: int | None = None
    server_tokens: int | None = None

    @property
    def total_tokens(self) -> int:
        """Number of prompt tokens that the model read: the server's count if it reports one, else the sum of the known counts."""
        return sum(count or 0 for count in self.tokens) if self.server_tokens is None else self.server_tokens
