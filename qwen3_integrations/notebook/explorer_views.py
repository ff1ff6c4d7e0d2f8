"""State of the explorer for the browser: small dictionaries of JSON values. Cosines have 6 decimals; the browser shows 3."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from qwen3_integrations.analysis.clusters import MOST_CLUSTERS, seriated
from qwen3_integrations.analysis.neighbours import Neighbour, Space
from qwen3_integrations.analysis.tables import MOST_NAMED
from qwen3_integrations.analysis.vectors import Pairs, Projection
from qwen3_integrations.core.types import Rows

if TYPE_CHECKING:
    from qwen3_integrations.analysis.corpus import Survey


MOST_READ = 4000

MOST_CELLS = 60
"""Most texts on a side of the heat map."""

MOST_BARS = 128
"""Most bars in the chart of variances; with more dimensions, a bar stands for several."""


MOST_GROUPS = MOST_CLUSTERS
"""Most groups: colours and shapes that can be distinguished."""

FEW = 5
"""Nearest pairs to show where there is no near-duplicate."""

OTHERS = "others"


def groups_view(labels: Sequence[str]) -> dict[str, Any]:
    """Group names in order of appearance, at most `MOST_GROUPS`, and the group of each text; rare groups are merged."""
    if not labels:
        return {}
    counts = Counter(labels)
    if len(counts) > MOST_GROUPS:
        common = {name for name, _ in counts.most_common(MOST_GROUPS - 1)}
        labels = [label if label in common else OTHERS for label in labels]
    names = list(dict.fromkeys(labels))
    if OTHERS in names and len(counts) > MOST_GROUPS:
        names = [*(name for name in names if name != OTHERS), OTHERS]
    place = {name: number for number, name in enumerate(names)}
    sizes = Counter(labels)
    return {"names": names, "sizes": [sizes[name] for name in names], "of": [place[label] for label in labels]}


def map_view(space: Space, plane: Projection) -> dict[str, Any]:
    """Points [x, y] by text, None for one without a direction, and the axes' shares of the variance."""
    points: list[list[float] | None] = [None] * len(space.rows)
    for index, point in zip(space.usable.tolist(), point_view(plane, space.unit), strict=True):
        points[index] = point
    return {"points": points, "explained": [round(share, 4) for share in plane.explained]}


def point_view(plane: Projection, rows: Rows) -> list[list[float]]:
    """Rows in the plane, to 4 decimals: a ten-thousandth of the unit sphere's radius is less than a pixel."""
    placed: list[list[float]] = np.round(plane.place(rows).astype(np.float64), 4).tolist()
    return placed


def clusters_view(survey: Survey) -> dict[str, Any]:
    """Names and sizes of the clusters, as `groups_view` has those of groups; a text of no cluster has -1."""
    if survey.cluster_of is None or not survey.cluster_names:
        return {}
    sizes = Counter(survey.cluster_of.tolist())
    names = list(survey.cluster_names)
    return {"names": names, "sizes": [sizes[place] for place in range(len(names))], "of": survey.cluster_of.tolist()}


def heat_view(survey: Survey, selection: Sequence[int]) -> dict[str, Any]:
    """The similarity heat map: of a selection of two or more texts, otherwise of all texts; similar texts stand side by side.

    Of more than `MOST_CELLS` texts, as many that represent them are shown.
    """
    assert survey.space is not None
    wanted = [index for index in selection if survey.space.place(index) is not None]
    chosen = len(wanted) > 1
    count = len(wanted) if chosen else len(survey.space.usable)
    indices, values = survey.space.similarities(survey.typical(MOST_CELLS, wanted if chosen else None))
    order = seriated(values).tolist()
    return {
        "indices": [indices[place] for place in order],
        "values": np.round(values[np.ix_(order, order)].astype(np.float64), 6).tolist(),
        "chosen": chosen,
        "of": count,
    }


def nearest_view(neighbours: Sequence[Neighbour]) -> dict[str, Any]:
    """A list of neighbours, and how many of those at full width are kept."""
    rows = [{"index": one.index, "cosine": round(one.cosine, 6), "cut": round(one.cut, 6), "fate": one.fate} for one in neighbours]
    fates = Counter(one.fate for one in neighbours)
    return {"rows": rows, "kept": fates["kept"], "k": fates["kept"] + fates["lost"]}


def recall_view(survey: Survey) -> dict[str, Any]:
    """The curve of recall by width, and the number of texts in its measurement."""
    curve = {"widths": list(survey.recall), "recall": [round(value, 6) for value in survey.recall.values()]}
    return curve | {"k": survey.k, "asked": survey.asked}


def health_view(space: Space, pairs: Pairs | None, above: float, texts: Sequence[str]) -> dict[str, Any]:
    """The figures of `Health`, the chart of variances, and near-duplicates once they are found."""
    health = space.health
    edges = np.linspace(0, health.width, min(health.width, MOST_BARS) + 1).astype(int)
    bars = [float(health.variance[left:right].mean()) for left, right in pairwise(edges)]
    total = float(health.variance.sum())
    return {
        "count": health.count,
        "width": health.width,
        "norms": health.norms and list(health.norms),
        "mean": health.mean_cosine,
        "nonFinite": named(health.non_finite),
        "zero": named(health.zero),
        "constant": named(health.constant),
        "variance": {
            "bars": bars,
            "edges": edges.tolist(),
            "top": [int(health.variance.argmax()), float(health.variance.max()) / total] if total else None,
            "cumulated": (np.cumsum(health.variance) / total).round(4)[edges[1:] - 1].tolist() if total else [],
        },
        "above": above,
        "pairs": None
        if pairs is None
        else {"above": pairs.above, "best": [_pair(pair, texts) for pair in pairs.best[: pairs.above or FEW]]},
    }


def named(indices: Sequence[int]) -> dict[str, Any]:
    """The first indices, and the number of all."""
    return {"count": len(indices), "first": list(indices[:MOST_NAMED])}


def _pair(pair: tuple[int, int, float], texts: Sequence[str]) -> dict[str, Any]:
    first, second, cosine = pair
    return {"first": first, "second": second, "cosine": round(cosine, 6), "equal": texts[first] == texts[second]}
