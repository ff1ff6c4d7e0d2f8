"""The explorer without scripts: plain HTML tables, for exported notebooks and code hosts. They count texts and dimensions from 1."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from qwen3_integrations.analysis.clusters import Cluster
from qwen3_integrations.analysis.vectors import Health, Pairs
from qwen3_integrations.core.html import facts_table
from qwen3_integrations.core.results import NO_FORMULAS, text_bar

MOST_PAIRS = 10
"""Maximum number of nearest pairs in a table."""

_LEFT = "text-align:left"
_BAR = "font-family:monospace;white-space:pre"


def health_table(health: Health, explained: tuple[float, float] | None, pairs: Pairs | None, above: float) -> str:
    """Table of the properties of vectors."""
    norms = "none"
    if health.norms:
        least, median, largest = health.norms
        norms = f"{least:.3f} to {largest:.3f}, median {median:.3f}"
    facts = {
        "vectors": f"{health.count:,} of {health.width:,} dimensions",
        "lengths": norms,
        "mean cosine of two texts": None if health.mean_cosine is None else f"{health.mean_cosine:.3f}",
        "not finite": numbers(health.non_finite, "text"),
        "zero": numbers(health.zero, "text"),
        "dimensions that hardly vary": numbers(health.constant, "dimension"),
        "variance that the two axes of the map hold": None if explained is None else f"{sum(explained):.1%}",
        f"near-duplicates (cosine from {above:g})": None if pairs is None else counted(pairs.above, "pair"),
    }
    return facts_table("Vectors", facts)


def recall_table(recall: Mapping[int, float], k: int) -> str:
    """Table of recall@k by width, with text bars."""
    rows = "".join(
        f"<tr><td>{width:,}</td><td>{value:.3f}</td><td style='{_BAR}'>{text_bar(value)}</td></tr>" for width, value in recall.items()
    )
    return (
        f"<table><caption style='{_LEFT}'><b>Neighbours kept at smaller widths</b></caption><thead><tr><th scope='col'>dimensions</th>"
        f"<th scope='col'>recall@{k}</th><th scope='col'></th></tr></thead><tbody>{rows}</tbody></table>"
    )


def clusters_table(clusters: Sequence[Cluster]) -> str:
    """Table of clusters: name and number of texts."""
    rows = "".join(
        f"<tr><td style='{_LEFT}'>{html.escape(cluster.name)}</td><td>{len(cluster.indices):,}</td></tr>" for cluster in clusters
    )
    return (
        f"<table class='{NO_FORMULAS}'><caption style='{_LEFT}'><b>Clusters, by typical words</b></caption><thead><tr>"
        f"<th scope='col' style='{_LEFT}'>words</th><th scope='col'>texts</th></tr></thead><tbody>{rows}</tbody></table>"
    )


def pairs_table(pairs: Pairs, texts: Sequence[str]) -> str:
    """Table of the most similar pairs of texts."""
    rows = "".join(
        f"<tr><td>{cosine:.3f}</td><td style='{_LEFT}'>{_text(first, texts)}</td><td style='{_LEFT}'>{_text(second, texts)}</td></tr>"
        for first, second, cosine in pairs.best[:MOST_PAIRS]
    )
    return (
        f"<table class='{NO_FORMULAS}'><caption style='{_LEFT}'><b>Nearest pairs</b></caption><thead><tr><th scope='col'>cosine</th>"
        f"<th scope='col' style='{_LEFT}'>text</th><th scope='col' style='{_LEFT}'>text</th></tr></thead><tbody>{rows}</tbody></table>"
    )


def counted(count: int, what: str) -> str:
    """A count with its noun: `none`, `1 row`, `3 rows`."""
    return "none" if not count else f"{count:,} {what}{'' if count == 1 else 's'}"


def numbers(indices: Sequence[int], what: str) -> str:
    """A count with the numbers of the first ones, counted from 1, or `none`."""
    first = ", ".join(str(index + 1) for index in indices[:MOST_NAMED])
    return counted(len(indices), what) + (f": {first}" if indices else "") + (", …" if len(indices) > MOST_NAMED else "")


def _text(index: int, texts: Sequence[str]) -> str:
    return f"{index + 1}: {html.escape(clipped(texts[index], 120))}"


MOST_CHARACTERS = 160
"""Maximum length of a text in lists and in the map. The focused text is shown up to `MOST_READ`."""


MOST_NAMED = 20
"""Maximum number of indices that are listed."""


def clipped(text: str, length: int = MOST_CHARACTERS) -> str:
    """The beginning of a text, on one line."""
    line = " ".join(text[: 4 * length].split())
    return line if len(line) <= length else line[: length - 1] + "…"
