"""Rankings of records: the hits, with the other fields of their lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from qwen3_integrations.bulk.error_report import ErrorReport, placed
from qwen3_integrations.bulk.sources import Lines, Record
from qwen3_integrations.core.reranker import Reranker
from qwen3_integrations.core.results import Ranking
from qwen3_integrations.errors import EngineError, InputError


def ranked_records(ranking: Ranking, records: Sequence[Record], field: str) -> Iterator[dict[str, Any]]:
    """The hits as plain dictionaries, best first.

    Args:
        ranking: Ranking of the records' texts.
        records: The ranked records, in the order of the texts.
        field: Name of the field with the text.

    Returns:
        As `Ranking.to_dicts`: rank and index from 0, score in [0, 1], moved, truncated, document. The other fields of the record's line
        are under `fields`, so that a retriever's own `score` or `rank` is kept separate.
    """
    for row in ranking.to_dicts():
        carried = {name: value for name, value in records[row["index"]].fields.items() if name != field}
        yield row | {"fields": carried} if carried else row


def rank_records(
    reranker: Reranker,
    query: str,
    records: Sequence[Record],
    lines: Lines,
    report: ErrorReport,
    top_n: int | None = None,
    score_threshold: float | None = None,
) -> tuple[Ranking, list[Record]]:
    """Rank records; those that can't be ranked are an error, or are left out and reported.

    Args:
        reranker: The reranker.
        query: The query.
        records: The records.
        lines: The input of the records, for messages.
        report: Takes the records that can't be ranked, if it skips them.
        top_n, score_threshold: As for `Reranker.rank`.

    Returns:
        The ranking, and the ranked records, in the order of its texts.

    Raises:
        InputError, EngineError: As `Reranker.rank`; names the line.
    """
    texts = [record.text for record in records]
    if not report.skips:
        try:
            return reranker.rank(query, texts, top_n, score_threshold), list(records)
        except (InputError, EngineError) as error:
            if error.index is None:
                raise
            raise placed(error, lines.place(records[error.index].line)) from error.__cause__
    ranking, failed = reranker.rank_valid(query, texts, top_n, score_threshold)
    for at, failure in failed.items():
        record = records[at]
        report.add(record.line, record.fields, placed(failure, lines.place(record.line)), failure.reason)
    report.write()
    return ranking, [record for at, record in enumerate(records) if at not in failed]
