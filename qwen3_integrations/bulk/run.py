"""The streaming run: reading, embedding and writing overlap, and memory stays constant."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial

from qwen3_integrations.bulk.error_report import ErrorReport, placed
from qwen3_integrations.bulk.sinks import Target
from qwen3_integrations.bulk.sources import Lines, Mark, Record
from qwen3_integrations.core.embedder import Embedder
from qwen3_integrations.core.fingerprint import Fingerprint
from qwen3_integrations.core.results import Usage
from qwen3_integrations.core.slicing import SLICE, SliceSize
from qwen3_integrations.core.validation import whole_number
from qwen3_integrations.errors import EngineError, InputError


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run did.

    Attributes:
        rows: Rows in the output.
        resumed: Number of these rows that an earlier run wrote.
        skipped: Number of lines in the report, also by earlier runs.
        tokens: Number of tokens of this run's texts.
        truncated: Texts of this run that were cut to the budget.
        dimensions: Width of the vectors.
        seconds: Wall-clock time of this run, without the time to open the engine.
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
    report: ErrorReport | None = None,
    progress: Callable[[int, Mark], None] | None = None,
) -> Summary:
    """Embed records and write them, in their order.

    Memory holds at most `pipeline.IN_FLIGHT` chunks, whatever the length of the input.

    Args:
        embedder: The embedder.
        lines: The input; its marks are saved with the rows.
        records: The remaining records, from `Target.resume`.
        target: The destination of the rows.
        queries: Embed the texts as queries, with the embedder's instruction in front.
        chunk: Number of texts that are embedded and written at once, at least 1.
        report: Takes the records that can't be embedded, if it skips them; None for an error at the first of them.
        progress: Called after each write with the number of rows and the position in the input.

    Raises:
        InputError: For a bad line, and for a query that exceeds the budget; names the line. Rows before a bad line are written.
            Also if an earlier run wrote rows with another model, or in another number format.
        EngineError: If the engine or its server fails.
    """
    chunk, report = whole_number(chunk, "chunk"), report or ErrorReport(None, skips=False)
    target.match(partial(_made_by, embedder))
    started, resumed, width, used = time.perf_counter(), target.rows, 0, Usage()
    unwritten: deque[Record] = deque()  # an error gives an index into these; the message names the line

    def marked() -> Iterator[tuple[Record, Mark]]:
        for record in records:
            unwritten.append(record)
            yield record, lines.mark()

    parts = embedder.slices(
        marked(), lambda item: item[0].text, queries=queries, size=SliceSize(most=chunk, first=chunk), skip=report.skips
    )
    taken = 0
    try:
        with closing(parts):
            for part in parts:
                done = [unwritten.popleft() for _ in part.items]
                taken, used = taken + len(done), used + part.usage
                for position, error in part.failed.items():
                    record = done[position - part.begin]
                    report.add(record.line, record.fields, placed(error, lines.place(record.line)), error.reason)
                good = [at for at in range(len(done)) if part.begin + at not in part.failed]
                if not good:
                    continue
                mark = part.items[good[-1]][1]  # later records are read again by a run that continues after this write
                report.write(mark.lines)
                target.write([done[at] for at in good], part.rows, mark)
                width = part.rows.shape[1]
                if progress:
                    progress(target.rows, mark)
    except (InputError, EngineError) as error:
        if error.index is None:
            raise
        raise placed(error, lines.place(unwritten[error.index - taken].line)) from error.__cause__
    report.write()
    # Only a run without records has no width yet. A server of an unknown model shows its width in its first answer.
    width = width or embedder.embed_documents([]).shape[1] or embedder.embed_documents([""]).shape[1]
    target.finish(width)
    return Summary(
        rows=target.rows,
        resumed=resumed,
        skipped=report.count,
        tokens=used.tokens,
        truncated=used.truncated,
        dimensions=width,
        seconds=time.perf_counter() - started,
    )


def _made_by(embedder: Embedder) -> Fingerprint:
    """What the rows depend on besides the settings: the engine's fingerprint and the effective budget."""
    engine = embedder.engine
    found = engine.fingerprint()
    budget = min(embedder.max_tokens, engine.max_tokens or embedder.max_tokens)  # a server's budget is known after the first contact
    return replace(found, numerics={**found.numerics, "budget in tokens": budget})
