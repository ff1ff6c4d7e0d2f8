"""The streaming run: reading, the model and writing go on at the same time, and memory stays flat."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from qwen3_integrations.bulk.sinks import Target
from qwen3_integrations.bulk.sources import Lines, Mark, Record
from qwen3_integrations.core.embedder import Embedder
from qwen3_integrations.core.event_loop import BackgroundLoop
from qwen3_integrations.core.types import Rows
from qwen3_integrations.errors import InputError, PromptTooLong, Qwen3Error, ServerError
from qwen3_integrations.models.fingerprint import Fingerprint, fingerprint_of

CHUNK = 256
"""Texts handed over at once."""

IN_FLIGHT = 4
"""Chunks that the engine has at once: 1,024 texts, as many as `HttpEngine` sends at once (8 requests of 128)."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run did.

    Attributes:
        rows: Rows in the output.
        resumed: How many of them an earlier run had written.
        skipped: Lines left out since they held no text, those that were read again included.
        tokens: Tokens this run's texts took.
        truncated: Texts of this run that were cut to the budget.
        dimensions: Width of the vectors.
        seconds: Wall-clock time of this run, the opening of the engine not included.
    """

    rows: int
    resumed: int
    skipped: int
    tokens: int
    truncated: int
    dimensions: int
    seconds: float


@dataclass(frozen=True, slots=True)
class _Chunk:
    records: Sequence[Record]
    mark: Mark
    bad: InputError | None = None
    """Why nothing can be read behind this chunk."""


def embed_records(
    embedder: Embedder,
    lines: Lines,
    records: Iterable[Record],
    target: Target,
    *,
    queries: bool = False,
    chunk: int = CHUNK,
    progress: Callable[[int, Mark], None] | None = None,
) -> Summary:
    """Embed records and write them, in their order.

    What the engine has at once, and so what memory holds, is `IN_FLIGHT` chunks, whatever the length of the input.

    Args:
        embedder: What embeds.
        lines: The input, for its marks.
        records: What is to do, from `Target.resume`.
        target: Where the rows go.
        queries: Embed the texts as queries, behind the embedder's instruction.
        chunk: Texts handed over at once, at least 1.
        progress: Called after each write with the rows written, and how far the input was read for them.

    Raises:
        InputError: For a bad line, and for a query that exceeds the budget; names the line. What came before a bad line is
            written. Also if an earlier run has written rows with another model, or in another number format.
        EngineError: If the engine or its server fails.
    """
    target.match(partial(_made_by, embedder))
    begun, before, resumed, width = time.perf_counter(), embedder.usage, target.rows, 0
    loop = BackgroundLoop("embedding files")
    running: deque[tuple[_Chunk, Future[Rows]]] = deque()

    def write_oldest() -> int:
        done, future = running.popleft()
        vectors = future.result()
        target.write(done.records, vectors, done.mark)
        if progress:
            progress(target.rows, done.mark)
        return int(vectors.shape[1])

    try:
        bad: InputError | None = None
        for part in _chunks(lines, records, chunk):
            bad = part.bad
            if part.records:
                running.append((part, loop.submit(_vectors(embedder, lines, part.records, queries))))
            if len(running) == IN_FLIGHT:
                width = write_oldest()
        while running:
            width = write_oldest()
    finally:
        loop.close(_nothing)  # cancels what still runs
    if bad:
        raise bad
    # Only a run that had nothing to do asks for the width; a server of an unknown model tells it with its first answer.
    width = width or embedder.embed_documents([]).shape[1] or embedder.embed_documents([""]).shape[1]
    target.finish(width)
    used = embedder.usage
    return Summary(
        rows=target.rows,
        resumed=resumed,
        skipped=lines.skipped,
        tokens=used.tokens - before.tokens,
        truncated=used.truncated - before.truncated,
        dimensions=width,
        seconds=time.perf_counter() - begun,
    )


def _made_by(embedder: Embedder) -> Fingerprint:
    """What the rows depend on besides the settings, the budget that holds included."""
    engine = embedder.engine
    found = fingerprint_of(engine)
    budget = min(embedder.max_tokens, engine.max_tokens or embedder.max_tokens)  # a server's is known once it was asked
    return replace(found, numerics={**found.numerics, "budget in tokens": budget})


def _chunks(lines: Lines, records: Iterable[Record], size: int) -> Iterator[_Chunk]:
    """The records in chunks; the last one, which may be empty, tells why it is the last."""
    some: list[Record] = []
    try:
        for record in records:
            some.append(record)
            if len(some) == size:
                yield _Chunk(some, lines.mark())
                some = []
    except InputError as error:
        yield _Chunk(some, lines.mark(), error)
    else:
        yield _Chunk(some, lines.mark())


async def _vectors(embedder: Embedder, lines: Lines, records: Sequence[Record], queries: bool) -> Rows:
    texts = [record.text for record in records]
    try:
        return await (embedder.aembed_queries(texts) if queries else embedder.aembed_documents(texts))
    except PromptTooLong as error:  # which one? halve until it is alone
        if len(records) == 1:
            raise _placed(error, lines.place(records[0].line)) from None
        middle = len(records) // 2
        halves = [await _vectors(embedder, lines, half, queries) for half in (records[:middle], records[middle:])]
        return np.concatenate(halves)
    except ServerError as error:
        raise error if error.index is None else _placed(error, lines.place(records[error.index].line)) from None


def _placed(error: Qwen3Error, place: str) -> Qwen3Error:
    """The same error, with the place of the text at fault."""
    error.args = (f"{place}: {error}", *error.args[1:])
    return error


async def _nothing() -> None:
    pass
