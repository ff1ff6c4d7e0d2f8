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
        text: The text as a server must be sent it.
        ids: Token ids, shape (tokens,), int32; None where no tokenizer is at hand.
    """

    text: str
    ids: Ids | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Prefix(PromptPart):
    """What a prompt begins with and must keep whole. All documents of one query share one `Prefix` object.

    Attributes:
        query: The query as it was given; None for an embedded document.
        instruction: The instruction as it was given; None for an embedded document.
    """

    query: str | None = None
    instruction: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """One finished prompt: prefix, body, suffix. Only the body may be cut; this one's has been where `truncated`.

    Attributes:
        prefix: Template, instruction and query; empty for an embedded document.
        body: The document; empty for an embedded query.
        suffix: The template's end: the reranker's suffix, or the embedder's end token (as text: empty, since
            the model's own tokenizer appends it).
        truncated: True when the body was cut to the budget.
        literal: True when a server that is sent `text` reads exactly `ids`. False when the text holds the
            spelling of a control token, or was cut inside a character: then only the ids are exact.
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
        """Characters of `text`, counted without joining it."""
        return len(self.prefix.text) + len(self.body.text) + len(self.suffix.text)

    @property
    def ids(self) -> Ids | None:
        """The whole prompt as token ids, shape (tokens,), int32; None where no tokenizer was at hand."""
        parts = (self.prefix.ids, self.body.ids, self.suffix.ids)
        known = [part for part in parts if part is not None]
        return np.concatenate(known) if len(known) == len(parts) else None

    @property
    def tokens(self) -> int | None:
        """How many `ids` there are, counted without joining them; None where no tokenizer was at hand."""
        prefix, body, suffix = self.prefix.ids, self.body.ids, self.suffix.ids
        return None if prefix is None or body is None or suffix is None else len(prefix) + len(body) + len(suffix)


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One call of a user, of which several jobs are slices.

    Attributes:
        size: Prompts of the whole call; None where the length of the input is not known.
    """

    size: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """Work for an engine.

    Attributes:
        task: `embed` or `rerank`.
        prompts: In the order in which the rows must come back.
        max_tokens: The longest prompt allowed, template included. Prompts with ids are within it already; an
            engine without a tokenizer must count and cut the bodies of the others itself.
        call: The call that this job is a slice of; None for a job that is a whole call.
    """

    task: Task
    prompts: tuple[Prompt, ...]
    max_tokens: int
    call: Call | None = None

    @property
    def turn(self) -> object:
        """Fairness key: jobs with equal keys belong to one caller, and callers take turns."""
        return self if self.call is None else self.call

    @property
    def call_size(self) -> int | None:
        """Prompts of the whole call; None where the length of its input is not known."""
        return len(self.prompts) if self.call is None else self.call.size


@dataclass(frozen=True, slots=True, eq=False)
class Reply:
    """What an engine answers.

    Attributes:
        rows: float32. `embed`: shape (prompts, width), as the model gives them or already of unit length.
            `rerank`: shape (prompts,), the probability of "yes" in [0, 1].
        tokens: Tokens of each prompt as the model read it (after a cut), in the order of the job; None for a prompt that no
            tokenizer at hand has counted.
        truncated: Positions whose bodies the engine itself had to cut.
        max_tokens: The budget that held, where it was less than the job's: a server's own limit. None otherwise.
        server_tokens: What the server says it has read for this job, in total; None where it does not say, or there is no server.
            Where several callers share a request, this job's share of it by length.
    """

    rows: Rows
    tokens: tuple[int | None, ...]
    truncated: frozenset[int] = frozenset()
    max_tokens: int | None = None
    server_tokens: int | None = None

    @property
    def total_tokens(self) -> int:
        """Prompt tokens that the model read: the server's count where it says one, else the sum of those that are known."""
        return sum(count or 0 for count in self.tokens) if self.server_tokens is None else self.server_tokens
