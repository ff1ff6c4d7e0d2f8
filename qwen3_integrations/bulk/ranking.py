"""Rankings of records: the hits, with the fields that their lines carried."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from qwen3_integrations.bulk.sources import Record
from qwen3_integrations.core.results import Ranking


def ranked_records(ranking: Ranking, records: Sequence[Record], field: str) -> Iterator[dict[str, Any]]:
    """The hits as plain dictionaries, best first.

    Args:
        ranking: Of the records' texts, in their order.
        records: What was ranked.
        field: The field that held the text.

    Returns:
        As `Ranking.to_dicts`: rank and index from 0, score in [0, 1], moved, truncated, document; and under `fields` what else
        the record's line held, so that a `score` or `rank` of the retriever's own stays apart.
    """
    for row in ranking.to_dicts():
        carried = {name: value for name, value in records[row["index"]].fields.items() if name != field}
        yield row | {"fields": carried} if carried else row
