"""Rankings of records: the hits, with the other fields of their lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from qwen3_integrations.bulk.sources import Record
from qwen3_integrations.core.results import Ranking


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
