"""Texts to unit vectors: plan, run, finish."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator, Sequence
from contextlib import aclosing, closing, contextmanager
from typing import Any, TypeVar

import numpy as np

from qwen3_integrations.core.call_result import CallResult, arun_call, run_call
from qwen3_integrations.core.component import Component
from qwen3_integrations.core.engine import Engine, conventions_of
from qwen3_integrations.core.fingerprint import digest_of
from qwen3_integrations.core.html import engine_facts, facts_table, usage_words
from qwen3_integrations.core.pipeline import arun_slices, is_quick, run_slices
from qwen3_integrations.core.planned import Plan, Slice, Work
from qwen3_integrations.core.planning import declared_budget, document_prompts, query_prompts
from qwen3_integrations.core.preparation import OnBadText, Preprocess, identity_of
from qwen3_integrations.core.progress import texts_bar
from qwen3_integrations.core.results import Usage
from qwen3_integrations.core.slicing import SliceSize
from qwen3_integrations.core.tokenizer import checked_stream, checked_text, checked_texts
from qwen3_integrations.core.types import Job, Reply, Rows
from qwen3_integrations.core.validation import checked_budget, checked_dimensions
from qwen3_integrations.errors import BadReply, ConfigError

log = logging.getLogger("qwen3_integrations")

T = TypeVar("T")


class Embedder(Component):
    """Embeds documents and queries with a Qwen3-Embedding model behind any engine.

    Args:
        engine: An opened engine for the task `embed`.
        instruction: The instruction before each query; one English sentence. Empty for queries without instruction. None: the prompt
            that the model's folder declares, else the model card's with the default instruction.
        dimensions: Width of the vectors (Matryoshka), from 32 to the model's width; None for the model's width.
        max_tokens: Budget of a text, end token included. It applies if tokens can be counted (see `HttpEngine`). Longer documents
            are cut, which is logged and counted in `usage`; a longer query is an error. None: 8192, or what the model's folder declares
            (`max_seq_length`) where that is less.
        on_bad_text: What happens to a text with lone surrogates, which UTF-8 can't encode: `error`, or `replace` each by U+FFFD. The
            number of such texts is logged and counted in `usage`.
        preprocess: A function that is called with one document and returns the text that the model reads, for example
            `functools.partial(unicodedata.normalize, "NFKC")`. It is called from any thread, several calls at once are possible, and
            an async call never runs it on the event loop. Queries are not changed. The number of changed documents is counted in `usage`.

    Attributes:
        instruction: The instruction of queries; None where the model's folder declares a prompt of another form (see `query_prompt`).

    Raises:
        ConfigError: For an engine of the other task, or for dimensions or a budget outside the model's range.

    Example:
        >>> from qwen3_integrations import Embedder, open_engine
        >>> embedder = Embedder(open_engine("embed", "qwen3-tiny-demo", backend="torch"), dimensions=64)
        >>> documents = embedder.embed_documents(["The csv module reads and writes tabular data.", "Gravity attracts bodies."])
        >>> documents.shape
        (2, 64)
        >>> query = embedder.embed_queries(["how do I read a csv file"])
        >>> int((documents @ query.T).argmax())
        0
    """

    def __init__(
        self,
        engine: Engine,
        *,
        instruction: str | None = None,
        dimensions: int | None = None,
        max_tokens: int | None = None,
        on_bad_text: OnBadText = "error",
        preprocess: Preprocess | None = None,
    ) -> None:
        if engine.task != "embed":
            raise ConfigError(f"must be opened for embed, but it runs {engine.model} for {engine.task}", option="engine")
        super().__init__(engine, on_bad_text, preprocess)
        self._conventions = conventions_of(engine)
        self.instruction = self._conventions.instruction if instruction is None else checked_text(instruction, "instruction")
        self.dimensions = checked_dimensions(dimensions, engine.dimensions, f"{engine.model} on the {engine.backend} engine")
        self.max_tokens = checked_budget(declared_budget(self._conventions) if max_tokens is None else max_tokens, engine.max_tokens)

    def _settings(self) -> dict[str, Any]:
        return {"instruction": self.instruction, "dimensions": self.dimensions, "max_tokens": self.max_tokens}

    @property
    def query_prompt(self) -> str:
        """The text before a query, such as `Instruct: ...`, a newline and `Query:`."""
        return self._conventions.before_query(self.instruction)

    @property
    def document_prompt(self) -> str:
        """The text before a document; empty unless the model's folder declares one."""
        return self._conventions.before_document

    def cache_namespace(self) -> str:
        """A name for a cache of document vectors whose keys are the texts.

        It is made from the identity of the engine's fingerprint, the width, the budget and the code of `preprocess`: equal if an equal
        text gets an equal vector, but for rounding. Another instruction, number format, batch size or address of a server does not change
        it. An engine in this process reads the weights. A server says only where it loaded its model from, so the same model has another
        name there; the address of a server that does not say that is part of the name.

        Returns:
            Letters, digits, `-`: `qwen3-embedding-1024d-` and 16 hexadecimal digits.

        Raises:
            EngineError: If a server fails: an engine over HTTP asks it, each time (see `Engine.fingerprint`).
        """
        fingerprint = self.engine.fingerprint()
        width = self.dimensions or self.engine.dimensions
        facts: list[object] = [fingerprint.identity, width, min(self.max_tokens, self.engine.max_tokens or self.max_tokens)]
        if self.preprocess:
            facts.append(identity_of(self.preprocess))
        if fingerprint.partial:
            source = fingerprint.identity.get("loaded from") or getattr(self.engine, "where", None)
            facts += [self.engine.model, source]
        return f"qwen3-embedding-{width}d-{digest_of(json.dumps(facts, sort_keys=True))}"

    def embed_documents(self, texts: Sequence[str], *, progress: bool = False) -> Rows:
        """Embed texts without an instruction.

        Args:
            texts: Any number of strings; an empty one is embedded like any other.
            progress: Show a progress bar (tqdm) if the call takes more than half a second.

        Returns:
            float32, shape (texts, dimensions), rows of unit length, in the order of `texts`.

        Raises:
            TypeError: For an item that is not a string; the message has its index.
            InvalidText: For lone surrogates, unless they are replaced; the message has the index.
            PreprocessFailed: If `preprocess` raises an error or does not return text; the message has the index.
            EngineError: If the engine or its server fails; the tree is in `qwen3_integrations.errors`.
            MissingExtra: If `progress` is true and tqdm is not installed.
        """
        checked = self._checked(texts)
        with texts_bar(len(checked), shown=progress) as report:
            return self._counted(run_call(self.engine, self._documents(_itself), checked, report))

    async def aembed_documents(self, texts: Sequence[str], *, progress: bool = False) -> Rows:
        """As `embed_documents`, without blocking the event loop."""
        checked = self._checked(texts) if is_quick(texts) else await asyncio.to_thread(self._checked, texts)
        with texts_bar(len(checked), shown=progress) as report:
            return self._counted(await arun_call(self.engine, self._documents(_itself), checked, report))

    def iter_documents(self, texts: Iterable[str]) -> Generator[Rows, None, None]:
        """Embed any number of texts in constant memory: texts are read when the engine needs them, and rows are yielded slice by slice.

        Texts are read in the caller's thread, at most `pipeline.IN_FLIGHT` slices of `slicing.SLICE` texts ahead of the consumer. Closing
        the generator cancels the slices in flight.

        Args:
            texts: Any iterable of strings, a generator too.

        Yields:
            float32, shape (texts of a slice, dimensions), rows of unit length. Together they are the rows of all texts in their order.
            Without texts, there are no arrays.

        Raises:
            TypeError: For an item that is not a string; the message has its index. The texts before it are embedded and yielded first.
            InvalidText, PreprocessFailed: As in `embed_documents`; the message has the index. The slices before it are yielded first.
            EngineError: If the engine or its server fails. The slices before it are yielded first.
        """
        return _rows(self.slices(checked_stream(texts, any_text=self._takes_any_text), _itself))

    def aiter_documents(self, texts: Iterable[str]) -> AsyncGenerator[Rows, None]:
        """As `iter_documents`, without blocking the event loop: texts are read in worker threads, one slice at a time."""
        return _arows(self.aslices(checked_stream(texts, any_text=self._takes_any_text), _itself))

    def embed_queries(self, texts: Sequence[str], instruction: str | None = None) -> Rows:
        """Embed queries, each with the instruction before it.

        Args:
            texts: Any number of strings.
            instruction: Replaces the embedder's instruction; empty for queries without instruction.

        Returns:
            float32, shape (texts, dimensions), rows of unit length, in the order of `texts`.

        Raises:
            PromptTooLong: If instruction and query exceed `max_tokens`: a query is never cut.
            TypeError, InvalidText, EngineError: As in `embed_documents`.
        """
        work, checked = self._queries(_itself, instruction), self._checked(texts)
        return self._counted(run_call(self.engine, work, checked))

    async def aembed_queries(self, texts: Sequence[str], instruction: str | None = None) -> Rows:
        """As `embed_queries`, without blocking the event loop."""
        work = self._queries(_itself, instruction)
        checked = self._checked(texts) if is_quick(texts) else await asyncio.to_thread(self._checked, texts)
        return self._counted(await arun_call(self.engine, work, checked))

    def slices(
        self, items: Iterable[T], text: Callable[[T], str], *, queries: bool = False, size: SliceSize | None = None, skip: bool = False
    ) -> Generator[Slice[T], None, None]:
        """Embed the texts of any items, as finished slices. `iter_documents`, files and surveys use it.

        Args:
            items: Any iterable.
            text: From an item to its text, which must be checked.
            queries: Embed the texts as queries with the embedder's instruction, not as documents.
            size: Bounds of a slice.
            skip: Leave out the items that can't be embedded: their errors are in `Slice.failed`.

        Raises:
            Qwen3Error: As in `pipeline.run_slices`.
        """
        work = self._queries(text, None) if queries else self._documents(text)
        with self._tally() as count, closing(run_slices(self.engine, work, items, size, skip=skip)) as parts:
            for part in parts:
                count(part)
                yield part

    async def aslices(
        self, items: Iterable[T], text: Callable[[T], str], *, queries: bool = False, size: SliceSize | None = None, skip: bool = False
    ) -> AsyncGenerator[Slice[T], None]:
        """As `slices`, without blocking the event loop."""
        work = self._queries(text, None) if queries else self._documents(text)
        with self._tally() as count:
            async with aclosing(arun_slices(self.engine, work, items, size, skip=skip)) as parts:
                async for part in parts:
                    count(part)
                    yield part

    def _documents(self, text: Callable[[T], str]) -> Work[T]:
        def plan(items: Sequence[T]) -> Plan:
            made = self._preparation.documents([text(item) for item in items], "texts")
            prompts = document_prompts(made.texts, self.engine.tokenizer, self.max_tokens, self._conventions)
            return Plan(prompts, replaced=made.replaced, preprocessed=made.preprocessed)

        return Work("embed", self.max_tokens, plan, self._finish, lambda item: len(text(item)), blocks=self.preprocess is not None)

    def _queries(self, text: Callable[[T], str], instruction: str | None) -> Work[T]:
        instruction = self.instruction if instruction is None else checked_text(instruction, "instruction")  # None: the folder's prompt

        def plan(items: Sequence[T]) -> Plan:
            made = self._preparation.queries([text(item) for item in items])
            prompts = query_prompts(made.texts, instruction, self.engine.tokenizer, self.max_tokens, self._conventions)
            return Plan(prompts, replaced=made.replaced)

        before = len(self._conventions.before_query(instruction))
        return Work("embed", self.max_tokens, plan, self._finish, lambda item: before + len(text(item)))

    def _checked(self, texts: Sequence[str]) -> list[str]:
        return checked_texts(texts, any_text=self._takes_any_text)

    def _finish(self, rows: Rows, plan: Plan, begin: int) -> Rows:
        return unit_rows(rows, len(plan.prompts), self.dimensions, begin)

    def _counted(self, result: CallResult) -> Rows:
        """The rows of a call; counts its usage and logs the number of cut texts."""
        with self._tally() as count:
            count(result)
        return result.rows

    @contextmanager
    def _tally(self) -> Iterator[Callable[[CallResult | Slice[Any]], None]]:
        """Counts the usage of each part; at the end, logs the number of cut texts once."""
        used, limit = Usage(), self.max_tokens

        def count(part: CallResult | Slice[Any]) -> None:
            nonlocal used, limit
            used, limit = used + part.usage, part.max_tokens or limit
            self._count(part.usage)

        try:
            yield count
        finally:
            if used.truncated:
                log.warning("%d of %d texts were truncated to %d tokens", used.truncated, used.prompts, limit)
            if used.replaced:
                log.warning("lone surrogates in %d of %d texts were replaced by U+FFFD", used.replaced, used.prompts)

    def __repr__(self) -> str:
        width = self.dimensions or self.engine.dimensions
        prompts = f"instruction={self.instruction!r}" if self.instruction is not None else f"query_prompt={self.query_prompt!r}"
        prompts += f", document_prompt={self.document_prompt!r}" if self.document_prompt else ""
        declared = self._conventions.facts is not None and self.instruction == self._conventions.instruction
        prompts += " (declared by the folder)" if declared else ""
        return f"Embedder({self.engine!r}, dimensions={width}, max_tokens={self.max_tokens}, {prompts}{self._preparation_words()})"

    def _repr_html_(self) -> str:
        facts = engine_facts(self.engine) | {
            "dimensions": self.dimensions or self.engine.dimensions,
            "budget": f"{self.max_tokens:,} tokens",
            "instruction": self.instruction or "none",
            **({"query prompt": repr(self.query_prompt)} if self.instruction is None else {}),
            **({"document prompt": repr(self.document_prompt)} if self.document_prompt else {}),
            **self._preparation_facts(),
            "so far": usage_words(self.usage),
        }
        return facts_table("Embedder", facts)


def _itself(text: str) -> str:
    return text


def _rows(parts: Generator[Slice[str], None, None]) -> Generator[Rows, None, None]:
    with closing(parts):
        for part in parts:
            yield part.rows


async def _arows(parts: AsyncGenerator[Slice[str], None]) -> AsyncGenerator[Rows, None]:
    async with aclosing(parts):
        async for part in parts:
            yield part.rows


def unit_rows(rows: Rows, count: int, dimensions: int | None, first: int = 0) -> Rows:
    """Checked vectors: the right number, finite, cut to `dimensions`, then normalised to unit length.

    Source: the model card, for Matryoshka: cut, then normalise again.

    Args:
        rows: The engine's rows.
        count: The required number of rows.
        dimensions: The width; None for the model's width.
        first: Position of the first row in the whole call, for messages.

    Raises:
        BadReply: If the count or the width is wrong, or a vector is zero or not finite.
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
    """The usage of one job. Prompts that the plan or the engine cut count as truncated."""
    cut = {index for index, prompt in enumerate(job.prompts) if prompt.truncated} | reply.truncated
    return Usage(len(job.prompts), reply.total_tokens, len(cut))
