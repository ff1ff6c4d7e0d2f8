"""Widgets as HTML without a kernel: static tables for code hosts, and pages with the whole widget. Pure functions over values."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from qwen3_integrations.core.results import NO_FORMULAS, Hit, Ranking, moved_in_words, text_bar
from qwen3_integrations.core.table_cells import CELL, CELL_RIGHT
from qwen3_integrations.notebook.inspector_views import all_hits

CLIP = 240
"""Characters of a document in a table."""

DARK = {
    "--jp-layout-color1": "#1e2024",
    "--jp-layout-color2": "#2a2d33",
    "--jp-ui-font-color0": "#eceef2",
    "--jp-ui-font-color2": "#a9b0bc",
    "--jp-border-color2": "#444953",
    "--jp-brand-color1": "#64a8f5",
    "--jp-success-color1": "#6cc27f",
    "--jp-error-color1": "#f2877f",
    "--jp-warn-color1": "#e0a84e",
    "--jp-ui-inverse-font-color1": "#10131a",
}
"""Colours of a page of its own for readers who prefer dark; inside a notebook the host decides."""


def inspection_html(
    ranking: Ranking,
    *,
    kept: Collection[int],
    same: Sequence[int | None],
    labels: Sequence[float | None],
    compare: Ranking | None = None,
    tau: float | None = None,
    metrics: Sequence[Mapping[str, Any]] = (),
    k: int = 10,
    most: int | None = 50,
) -> str:
    """A ranking before and after as a plain table with text bars; readable where styles and scripts are removed.

    Args:
        ranking: The ranking.
        kept: Positions, in the order passed, of the documents that are kept.
        same: For each position the first document with the same text, or None.
        labels: For each position its relevance, or None.
        compare: Another ranking of the same documents, shown as A.
        tau: Kendall's tau between the two, in [-1, 1].
        metrics: One mapping for each order: `order`, `ndcg`, `mrr`, `hit_rate`.
        k: The cut-off of the metrics.
        most: Most rows; None for all.
    """
    hits = all_hits(ranking)
    shown = hits[:most]
    other = None if compare is None else {hit.index: hit for hit in all_hits(compare)}
    labelled = any(label is not None for label in labels)
    heads = ["new", "old", "from\u00a0A" if other else "change", "score", "0 to 1"]
    heads += [*(["A", "A\u00a0score"] if other else []), *(["relevance"] if labelled else []), "document"]
    rows = []
    for hit in shown:
        before = other[hit.index] if other else None
        cells = [
            _right(hit.rank + 1),
            _right(hit.index + 1),
            _left(changed_in_words(before.rank - hit.rank if before else hit.moved)),
            _right(f"{hit.score:.3f}"),
            f"<td {CELL}><code>{text_bar(hit.score)}</code></td>",
        ]
        if before:
            cells += [_right(before.rank + 1), _right(f"{before.score:.3f}")]
        if labelled:
            cells.append(_right(relevance_words(labels[hit.index])))
        rows.append(f"<tr>{''.join(cells)}<td {CELL}>{_document(hit, same[hit.index], hit.index in kept)}</td></tr>")
    more = f"<p>and {len(hits) - len(shown):,} more documents</p>" if len(shown) < len(hits) else ""
    head = "".join(f"<th scope='col' {CELL}>{name}</th>" for name in heads)
    return (
        f"<div class='{NO_FORMULAS}'>{_about(ranking, len(kept), compare, tau)}"
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>{more}{metrics_html(metrics, k)}</div>"
    )


def metrics_html(metrics: Sequence[Mapping[str, Any]], k: int) -> str:
    """The metrics of several orders as a table; empty for none. Where not all documents are judged, also without the others."""
    if not metrics:
        return ""
    names = (f"nDCG@{k}", "MRR", f"hit rate@{k}")
    partly = any(one["condensed"] for one in metrics)
    rows = "".join(
        f"<tr><th scope='row' {CELL}>{html.escape(str(one['order']))}</th>"
        + _right(f"{one['judged']} of {one['seen']}")
        + "".join(_right(f"{figures[name]:.3f}") for figures in (one, one["condensed"]) if figures for name in ("ndcg", "mrr", "hit_rate"))
        + "</tr>"
        for one in metrics
    )
    heads = "".join(f"<th scope='col' {CELL_RIGHT}>{name}</th>" for name in ("", f"judged@{k}", *names, *(names if partly else ())))
    groups = "".join(f"<th scope='colgroup' colspan='3' {CELL}>{name}</th>" for name in ("unjudged = irrelevant", "unjudged left out"))
    over = f"<tr><td colspan='2'></td>{groups}</tr>" if partly else ""
    return f"<table><thead>{over}<tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"


def page_html(title: str, script: str, style: str, state: Mapping[str, Any], fallback: str) -> str:
    """A page with a whole widget: it needs no kernel and no network, and its policy forbids both.

    Args:
        title: The page's title.
        script: The widget's module, with `render` in its scope.
        style: Its styles.
        state: Its traits, as JSON values.
        fallback: HTML for readers without scripts.

    Returns:
        An HTML document. Its policy forbids every request, and every script but this one.
    """
    dark = "".join(f"{name}: {value};" for name, value in DARK.items())
    data = json.dumps(dict(state), ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    module = f"\n{script}\n"
    digest = base64.b64encode(hashlib.sha256(module.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
        f'<meta http-equiv="Content-Security-Policy" content="{policy}"><title>{html.escape(title)}</title>'
        "<style>body { margin: 24px auto; max-width: 1200px; padding: 0 16px; font-family: system-ui, sans-serif; }"
        f"@media (prefers-color-scheme: dark) {{ :root {{ color-scheme: dark; {dark} }} body {{ background: #16181b; color: #eceef2; }} }}"
        f"\n{style}</style></head><body><noscript>{fallback}</noscript><div id='root'></div>"
        f"<script type='application/json' id='state'>{data}</script><script type='module'>{module}</script></body></html>\n"
    )


def changed_in_words(moved: int) -> str:
    """`▲ up 3`, `▼ down 1` or `= same`, without a line break."""
    return f"{'▲' if moved > 0 else '▼' if moved < 0 else '='} {moved_in_words(moved)}".replace(" ", "\u00a0")


def relevance_words(label: float | None) -> str:
    """A relevance as text: whole numbers without a decimal point, a dash for none."""
    return "–" if label is None else f"{label:g}"


def _about(ranking: Ranking, kept: int, compare: Ranking | None, tau: float | None) -> str:
    usage = ranking.usage
    facts = [ranking.model, f"{kept:,} of {usage.prompts:,} documents kept"]
    facts += [f"{usage.tokens:,} tokens"] * bool(usage.tokens) + [f"{usage.truncated:,} truncated"] * bool(usage.truncated)
    lines = [
        f"<b>{html.escape(ranking.query)}</b>",
        html.escape(ranking.instruction),
        html.escape(", ".join([*facts, f"{ranking.timing.total_s:.2f} s"])),
    ]
    if compare is not None:
        agreement = "" if tau is None else f"; Kendall's tau {tau:.3f}"
        lines.append(f"A: {html.escape(compare.model)}, {html.escape(compare.instruction)}{agreement}")
    return f"<p>{'<br>'.join(lines)}</p>"


def _document(hit: Hit, same: int | None, kept: bool) -> str:
    marks = [
        *["dropped"] * (not kept),
        *["truncated"] * hit.truncated,
        *([] if same is None else [f"duplicate of old {same + 1}"]),
    ]
    line = " ".join(hit.document[: 4 * CLIP].split())
    text = line if len(line) <= CLIP else line[: CLIP - 1] + "…"
    return "".join(f"<i>({mark})</i> " for mark in marks) + (html.escape(text) or "<i>(empty)</i>")


def _left(value: object) -> str:
    return f"<td {CELL}>{value}</td>"


def _right(value: object) -> str:
    return f"<td {CELL_RIGHT}>{value}</td>"
