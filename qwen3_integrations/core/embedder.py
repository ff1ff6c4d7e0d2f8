"""Texts to unit vectors: plan, run, finish."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence

import numpy as np

from qwen3_integrations.core.engine import Engine
from qwen3_integrations.core.html import engine_facts, facts_table, usage_words
from qwen3_integrations.core.pipeline import Call, CallResult, arun_call, is_quick, run_call
from qwen3_integrations.core.planning import document_prompts, query_prompts
from qwen3_integrations.core.progress import texts_bar
from qwen3_integrations.core.prompts import DEFAULT_INSTRUCTION
from qwen3_integrations.core.results import Usage
from qwen3_integrations.core.tokenizer import checked_text, checked_texts
from qwen3_integrations.core.types import Job, Reply, Rows
from qwen3_integrations.core.validation import checked_budget, checked_dimensions
from qwen3_integrations.errors import BadReply, ConfigError

log = logging.getLogger("qwen3_integrations")


class Embedder:
    """Embeds documents and queries with a Qwen3-Embedding model behind any engine.

    Args:
        engine: An opened engine for the task `embed`.
        instruction: What queries are embedded with; one English sentence. Empty: bare queries.
        dimensions: Width of the vectors (Matryoshka), from 32 to the model's; None for the model's own.
        max_tokens: Budget of a text, end token included; kept where tokens can be counted (see `HttpEngine`). Longer documents
            are cut, which is logged and counted in `usage`; a longer query is an error.

    Raises:
        ConfigError: For an engine of the other task, or dimensions or a budget that the model does not have.
    """

    def __init__(
        self, engine: Engine, *, instruction: str = DEFAULT_INSTRUCTION, dimensions: int | None = None, max_tokens: int = 8192
    ) -> None:
        if engine.task != "embed":
            raise ConfigError(f"must be opened for embed, but it runs {engine.model} for {engine.task}", option="engine")
        self.engine = engine
        self.instruction = checked_text(instruction, "instruction")
        self.dimensions = checked_dimensions(dimensions, engine.dimensions, engine.model)
        self.max_tokens = checked_budget(max_tokens, engine.max_tokens)
        self._usage = Usage()
        self._lock = threading.Lock()

    @property
    def usage(self) -> Usage:
        """What all calls so far have used."""
        return self._usage

    def embed_documents(self, texts: Sequence[str], *, progress: bool = False) -> Rows:
        """Embed texts as they stand.

        Args:
            texts: Any number of strings; an empty one is embedded as the model does.
            progress: Show a progress bar (tqdm) where it takes more than half a second.

        Returns:
            float32, shape (texts, dimensions), rows of unit length, in the order of `texts`.

        Raises:
            TypeError: For an item that is no string; names its index.
            InvalidText: For lone surrogates; names the index.
            EngineError: If the engine or its server fails; the tree is in `qwen3_integrations.errors`.
            MissingExtra: For a bar, if tqdm is not installed.
        """
        call = self._documents(texts)
        with texts_bar(len(call), shown=progress) as tell:
            return self._told(run_call(self.engine, call, tell))

    async def aembed_documents(self, texts: Sequence[str], *, progress: bool = False) -> Rows:
        """As `embed_documents`, without blocking the event loop."""
        call = self._documents(texts) if is_quick(texts) else await asyncio.to_thread(self._documents, texts)
        with texts_bar(len(call), shown=progress) as tell:
            return self._told(await arun_call(self.engine, call, tell))

    def embed_queries(self, texts: Sequence[str], instruction: str | None = None) -> Rows:
        """Embed queries, each behind the instruction.

        Args:
            texts: Any number of strings.
            instruction: Instead of the embedder's own; empty for bare queries.

        Returns:
            float32, shape (texts, dimensions), rows of unit length, in the order of `texts`.

        Raises:
            PromptTooLong: If instruction and query exceed `max_tokens`: a query is never cut.
            TypeError, InvalidText, EngineError: As in `embed_documents`.
        """
        return self._told(run_call(self.engine, self._queries(texts, instruction)))

    async def aembed_queries(self, texts: Sequence[str], instruction: str | None = None) -> Rows:
        """As `embed_queries`, without blocking the event loop."""
        quick = is_quick(texts)
        call = self._queries(texts, instruction) if quick else await asyncio.to_thread(self._queries, texts, instruction)
        return self._told(await arun_call(self.engine, call))

    def _documents(self, texts: Sequence[str]) -> Call:
        checked = checked_texts(texts)

        def plan(begin: int, end: int) -> Job:
            return Job("embed", document_prompts(checked[begin:end], self.engine.tokenizer, self.max_tokens), self.max_tokens)

        return Call([len(text) for text in checked], plan, self._finish)

    def _queries(self, texts: Sequence[str], instruction: str | None) -> Call:
        told = self.instruction if instruction is None else checked_text(instruction, "instruction")
        checked = checked_texts(texts)

        def plan(begin: int, end: int) -> Job:
            return Job("embed", query_prompts(checked[begin:end], told, self.engine.tokenizer, self.max_tokens), self.max_tokens)

        return Call([len(told) + len(text) for text in checked], plan, self._finish)

    def _finish(self, rows: Rows, count: int, begin: int) -> Rows:
        return unit_rows(rows, count, self.dimensions, begin)

    def _told(self, outcome: CallResult) -> Rows:
        used = outcome.usage
        with self._lock:
            self._usage += used
        if used.truncated:
            log.warning("%d of %d texts were truncated to %d tokens", used.truncated, used.prompts, outcome.max_tokens or self.max_tokens)
        return outcome.rows

    def __repr__(self) -> str:
        width = self.dimensions or self.engine.dimensions
        return f"Embedder({self.engine!r}, dimensions={width}, max_tokens={self.max_tokens}, instruction={self.instruction!r})"

    def _repr_html_(self) -> str:
        facts = engine_facts(self.engine) | {
            "dimensions": self.dimensions or self.engine.dimensions,
            "budget": f"{self.max_tokens:,} tokens",
            "instruction": self.instruction or "none",
            "so far": usage_words(self.usage),
        }
        return facts_table("Embedder", facts)


def unit_rows(rows: Rows, count: int, dimensions: int | None, first: int = 0) -> Rows:
    """Vectors fit for use: counted, finite, cut to `dimensions` and then of unit length.

    Source: Matryoshka as in the model card: slice, then normalise again.

    Args:
        rows: What the engine answered.
        count: How many rows there must be.
        dimensions: Their width; None for the model's own.
        first: The first row's position in the whole call, for messages.

    Raises:
        BadReply: If the count, the width, a value or a length can't be right.
    """
    rows = np.asarray(rows, dtype=np.float32)
    if count == 0:
        width = rows.shape[1] if rows.ndim == 2 else 0
        return np.empty((0, dimensions or width), dtype=np.float32)
    if rows.ndim != 2 or rows.shape[0] != count:
        raise BadReply(f"the engine returned an array of shape {rows.shape} for {count} prompts, not one vector for each")
    if dimensions is not None and rows.shape[1] < dimensions:
        reason = f"the engine returned vectors of {rows.shape[1]} dimensions, fewer than the {dimensions} wanted"
        raise BadReply(reason, advice=f"Set dimensions to {rows.shape[1]} or less")
    vectors = rows[:, :dimensions]
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    bad = np.flatnonzero(~np.isfinite(norms[:, 0]) | (norms[:, 0] == 0))
    if len(bad):
        reason = f"the vector is zero or not finite ({len(bad)} of {count} vectors)"
        raise BadReply(reason, index=first + int(bad[0]))
    return np.asarray(vectors / norms, dtype=np.float32)


def usage_of(job: Job, reply: Reply) -> Usage:
    """What one job used, with the truncations of plan and engine together."""
    cut = {index for index, prompt in enumerate(job.prompts) if prompt.truncated} | reply.truncated
    return Usage(len(job.prompts), reply.tokens, len(cut))
