"""An inspector as JSON: its ranking in the format of `core.ranking_json`, with its comparison, labels, limits and view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qwen3_integrations.core.documents import metadata_words
from qwen3_integrations.core.ranking_json import compared_json, ranking_json
from qwen3_integrations.core.results import Ranking

IN_THE_DOCUMENT = ("_documents", "_view", "_other", "labels", "threshold", "top_n", "instruction", "presets")
"""Traits that the document has in another form, or that have no meaning without a kernel."""


def inspection_json(
    ranking: Ranking,
    documents: Sequence[Any],
    labels: Sequence[float | None],
    state: Mapping[str, Any],
    *,
    compare: Ranking | None = None,
    tau: float | None = None,
    whole: bool = True,
) -> dict[str, Any]:
    """An inspector's state in the format of a ranking.

    Args:
        ranking: The ranking.
        documents: The documents as passed, for their metadata.
        labels: One relevance per document, or None.
        state: The traits of a page without a kernel, by name.
        compare: The ranking beside it.
        tau: Kendall's tau between the two.
        whole: As in `ranking_json`.
    """
    made = ranking_json(ranking, whole=whole, metadata=[metadata_words(document) for document in documents])
    made |= {"top_n": state["top_n"], "score_threshold": state["threshold"] or None}
    for hit in made["hits"]:
        if (label := labels[hit["index"]]) is not None:
            hit["label"] = label
    if compare is not None:
        made["compare"] = compared_json(compare, made["hits"]) | {"kendall_tau": tau}
    listed = {hit["index"] for hit in made["hits"]}
    view = {name: value for name, value in state.items() if name not in IN_THE_DOCUMENT}
    return made | {"view": view | {"selection": [index for index in state["selection"] if index in listed]}}
