"""A ranking as JSON, for notebooks and files: the MIME type `application/vnd.qwen3.ranking+json` and files named `*.ranking.json`.

`ranking.schema.json`, beside this module, is the format's JSON schema; `docs/ranking-format.md` explains it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

Ranking: TypeAlias = Any
"""A `core.results.Ranking`: that module imports this one."""

Hit: TypeAlias = Any
"""A `core.results.Hit`."""

MIME_TYPE = "application/vnd.qwen3.ranking+json"

VERSION = 1
"""Version of the format. Optional fields may be added to a version; a change that old readers misread gets a new one."""

MOST_HITS = 1000
"""Most documents of a ranking in a notebook's output; a file has all of them."""

MOST_CHARACTERS = 10_000
"""Most characters of a document in a notebook's output."""


def ranking_json(ranking: Ranking, *, whole: bool = True, metadata: Sequence[Mapping[str, str]] = ()) -> dict[str, Any]:
    """A ranking as plain JSON values.

    Args:
        ranking: The ranking.
        whole: False limits the documents to `MOST_HITS`, and each text to `MOST_CHARACTERS`, because notebooks store every output.
        metadata: For each document, in the order passed, its metadata as text; empty for none.

    Returns:
        A value that fits the schema of version 1.
    """
    every = (*ranking.hits, *ranking.dropped)
    shown = every if whole else every[:MOST_HITS]
    return {
        "version": VERSION,
        **_about(ranking),
        "top_n": ranking.top_n,
        "score_threshold": ranking.score_threshold,
        "total": len(every),
        "hits": [_hit(hit, metadata, whole=whole) for hit in shown],
    }


def compared_json(ranking: Ranking, shown: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A second ranking of the same documents, without their texts.

    Args:
        ranking: The second ranking.
        shown: The hits of the first one; only their documents are listed, with their ranks among all where these are more.
    """
    wanted = {hit["index"] for hit in shown}
    every = (*ranking.hits, *ranking.dropped)
    is_whole = len(wanted) == len(every)
    hits = [
        {"index": hit.index, "score": hit.score, **({} if is_whole else {"rank": hit.rank}), **_cut(hit)}
        for hit in every
        if hit.index in wanted
    ]
    return _about(ranking) | {"hits": hits}


def _about(ranking: Ranking) -> dict[str, Any]:
    return {
        "query": ranking.query,
        "instruction": ranking.instruction,
        "model": ranking.model,
        "tokens": ranking.usage.tokens or None,
        "seconds": ranking.timing.total_s,
    }


def _hit(hit: Hit, metadata: Sequence[Mapping[str, str]], *, whole: bool) -> dict[str, Any]:
    is_long = not whole and len(hit.document) > MOST_CHARACTERS
    text = f"{hit.document[: MOST_CHARACTERS - 1]}…" if is_long else hit.document
    about = dict(metadata[hit.index]) if metadata else {}
    return {"index": hit.index, "score": hit.score, "text": text, **_cut(hit), **({"metadata": about} if about else {})}


def _cut(hit: Hit) -> dict[str, bool]:
    return {"truncated": True} if hit.truncated else {}
