"""The streaming run: reading, the model and writing go on at the same time, and memory stays flat."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial

from qwen3_integrations.bulk.sinks import Target
from qwen3_integrations.bulk.sources import Lines, Mark, Record
from qwen3_integrations.core.embedder import Embedder
from qwen3_integrations.core.fingerprint import Fingerprint
from qwen3_integrations.core.results import Usage
from qwen3_integrations.core.slicing import SLICE, SliceSize
from qwen3_integrations.core.validation import whole_number
from qwen3_integrations.errors import EngineError, PromptTooLong, Qwen3Error


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


def embed_records(
    embedder: Embedder,
    lines: Lines,
    records: Iterable[Record],
    target: Target,
    *,
    queries: bool = False,
    chunk: int = SLICE,
    progress: Callable[[int, Mark], None] | None = None,
) -> Summary:
    """Embed records and write them, in their order.

    Memory holds at most `pipeline.IN_FLIGHT` chunks, whatever the length of the input.

    Args:
        embedder: What embeds.
        lines: The input, for its marks.
        records: What is to do, from `Target.resume`.
        target: Where the rows go.
        queries: Embed the texts as queries, behind the embedder's instruction.
        chunk: Texts handed to the engine and written at once, at least 1.
        progress: Called after each write with the rows written, and how far the input was read for them.

    Raises:
        InputError: For a bad line, and for a query that exceeds the budget; names the line. What came before a bad line is
            written. Also if an earlier run has written rows with another model, or in another number format.
        EngineError: If the engine or its server fails.
    """
    chunk = whole_number(chunk, "chunk")
    target.match(partial(_made_by, embedder))
    begun, resumed, width, used = time.perf_counter(), target.rows, 0, Usage()
    drawn: deque[Record] = deque()  # those not written yet, for the place of one at fault

    def marked() -> Iterator[tuple[Record, Mark]]:
        for record in records:
            drawn.append(record)
            yield record, lines.mark()

    parts = embedder.slices(marked(), lambda item: item[0].text, queries=queries, size=SliceSize(most=chunk, first=chunk))
    written = 0
    try:
        with closing(parts):
            for part in parts:
                done = [drawn.popleft() for _ in part.items]
                mark = part.items[-1][1]
                target.write(done, part.rows, mark)
                written, width, used = written + len(done), part.rows.shape[1], used + part.usage
                if progress:
                    progress(target.rows, mark)
    except (PromptTooLong, EngineError) as error:
        if error.index is None:
            raise
        raise _placed(error, lines.place(drawn[error.index - written].line)) from error.__cause__
    # Only a run that had nothing to do asks for the width; a server of an unknown model tells it with its first answer.
    width = width or embedder.embed_documents([]).shape[1] or embedder.embed_documents([""]).shape[1]
    target.finish(width)
    return Summary(
        rows=target.rows,
        resumed=resumed,
        skipped=lines.skipped,
        tokens=used.tokens,
        truncated=used.truncated,
        dimensions=width,
        seconds=time.perf_counter() - begun,
    )


def _made_by(embedder: Embedder) -> Fingerprint:
    """What the rows depend on besides the settings, the budget that holds included."""
    engine = embedder.engine
    found = engine.fingerprint()
    budget = min(embedder.max_tokens, engine.max_tokens or embedder.max_tokens)  # a server's is known once it was asked
    return replace(found, numerics={**found.numerics, "budget in tokens": budget})


def _placed(error: Qwen3Error, place: str) -> Qwen3Error:
    """The same error, with the place of the text at fault instead of its index: the caller passed a file and no list."""
    return error.replace(reason=f"{place}: {error.reason}", index=None)
