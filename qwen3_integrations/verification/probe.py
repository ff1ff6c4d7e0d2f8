"""The server under check: its raw routes, and this package's own client for it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np

from qwen3_integrations.core.embedder import unit_rows, usage_of
from qwen3_integrations.core.planning import document_prompts, rerank_prompts
from qwen3_integrations.core.prompts import DEFAULT_INSTRUCTION
from qwen3_integrations.core.reranker import probabilities
from qwen3_integrations.core.results import Usage
from qwen3_integrations.core.tokenizer import Tokenizer
from qwen3_integrations.core.types import Job, Prefix, Prompt, PromptPart, Rows, Task
from qwen3_integrations.engines.http.connection import Connection
from qwen3_integrations.engines.http.dialects import Answer
from qwen3_integrations.engines.http.engine import HttpEngine
from qwen3_integrations.engines.http.server_info import ServerInfo
from qwen3_integrations.engines.http.transport import Transport
from qwen3_integrations.errors import BadReply
from qwen3_integrations.models.catalog import Checkpoint
from qwen3_integrations.verification.report import State

T = TypeVar("T")

QUERY = "How do I sort a list?"
"""The query of all reranking checks."""

QueryDocumentPairs: TypeAlias = Sequence[tuple[str, str]]


class CheckResult(NamedTuple):
    """The result of a check; see `Check`."""

    state: State
    detail: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Probe:
    """A server, and the ways to send requests to it.

    Attributes:
        task: Its task.
        connection: Sends prompts in its dialect.
        transport: Sends JSON to any of its routes.
        engine: This package's client for it, without a handshake.
        published: The published checkpoint that it claims to serve; None for another model.
        adapter_of: The name of the model whose adapter is checked; None if none is.
        notes: Results that several checks need, by name.
    """

    task: Task
    connection: Connection
    transport: Transport
    engine: HttpEngine
    published: Checkpoint | None
    adapter_of: str | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def server(self) -> ServerInfo:
        """What is known about the server."""
        assert self.connection.info is not None
        return self.connection.info

    @property
    def tokenizer(self) -> Tokenizer | None:
        """The model's tokenizer, if this machine has it."""
        return self.engine.tokenizer

    def prompts(self, texts: Sequence[str], *, max_tokens: int = 1 << 20, tokenizer: Tokenizer | None = None) -> tuple[Prompt, ...]:
        """Finished prompts for documents to embed, or to score for `QUERY`. Without a tokenizer nothing is truncated."""
        if self.task == "embed":
            return document_prompts(texts, tokenizer, max_tokens)
        return rerank_prompts([(QUERY, text) for text in texts], DEFAULT_INSTRUCTION, "\n", tokenizer, max_tokens)

    async def post(self, route: str, body: Mapping[str, Any]) -> Any:
        """Post to a route outside `/v1`, with the model's name."""
        return await self.transport.post(self.server.root + route, {"model": self.server.model, **body})

    async def raw(self, prompts: Sequence[Prompt]) -> Answer:
        """The answer to one request in the server's dialect, with the rows that the server sent."""
        return await self.connection.ask(self.server, prompts)

    async def ask(self, prompts: Sequence[Prompt]) -> Answer:
        """The answer to one request in the server's dialect, with finished rows: unit vectors, or probabilities."""
        answer = await self.raw(prompts)
        return Answer(self.finished(answer.rows, len(prompts)), answer.tokens)

    async def alone(self, prompts: Sequence[Prompt]) -> Rows:
        """The rows of prompts, each in a request of its own, one after another."""
        return np.concatenate([(await self.ask([prompt])).rows for prompt in prompts])

    async def ours(self, texts: Sequence[str], max_tokens: int = 8192) -> tuple[Rows, Usage]:
        """The rows and the usage that this package's client gets."""
        prompts = self.prompts(texts, max_tokens=max_tokens, tokenizer=self.tokenizer)
        job = Job(self.task, prompts, max_tokens)
        reply = await self.engine.arun(job)
        return self.finished(reply.rows, len(texts)), usage_of(job, reply)

    async def count(self, text: str, *, end: bool = True) -> list[int]:
        """The server's token ids of a text (`/tokenize`), with or without the tokens that its tokenizer adds."""
        answer = await self.post("/tokenize", {"prompt": text, "add_special_tokens": end})
        tokens = answer.get("tokens") if isinstance(answer, Mapping) else None
        if not isinstance(tokens, list):
            raise BadReply(f"{self.server.root}/tokenize did not send a list of tokens")
        return tokens

    def finished(self, rows: Rows, count: int) -> Rows:
        """Rows after the checks and the normalisation that the client does."""
        return unit_rows(rows, count, None) if self.task == "embed" else probabilities(rows, count)

    def distances(self, these: Rows, those: Rows) -> Rows:
        """Pairwise distances, shape (these, those): 1 - cosine, or the difference of scores."""
        if self.task == "embed":
            return np.asarray(1 - these.astype(np.float64) @ those.astype(np.float64).T, dtype=np.float32)
        return np.asarray(np.abs(these[:, None] - those[None, :]), dtype=np.float32)

    def furthest(self, these: Rows, those: Rows) -> float:
        """The largest distance between rows at the same position."""
        return float(np.diagonal(self.distances(these, those)).max())


def plain(text: str) -> Prompt:
    """A prompt that is sent as this text, in which control tokens are control tokens."""
    return Prompt(Prefix(text), PromptPart(""), PromptPart(""))


async def together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The answers of concurrent requests; the first failure cancels the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in work]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]
