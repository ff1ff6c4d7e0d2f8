"""HTML of values in a notebook: plain tables that are readable without styles, on code hosts and in exported HTML."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import TYPE_CHECKING

from qwen3_integrations.core.table_cells import LEFT
from qwen3_integrations.errors import printable

if TYPE_CHECKING:
    from qwen3_integrations.core.engine import Engine
    from qwen3_integrations.core.results import Usage


def facts_table(title: str, facts: Mapping[str, object]) -> str:
    """A small table of names and values.

    Args:
        title: Caption of the table.
        facts: Names and values, in order; a value of None is omitted.
    """
    rows = "".join(
        f"<tr><th scope='row' style='{LEFT}'>{html.escape(name)}</th><td style='{LEFT}'>{html.escape(printable(str(value)))}</td></tr>"
        for name, value in facts.items()
        if value is not None
    )
    return f"<table><caption style='{LEFT}'><b>{html.escape(title)}</b></caption><tbody>{rows}</tbody></table>"


def engine_facts(engine: Engine) -> dict[str, object]:
    """Properties of an engine: model, task, backend, device, width and context."""
    return {
        "model": engine.model,
        "task": engine.task,
        "backend": engine.backend,
        "where": getattr(engine, "where", None),
        "width": engine.dimensions,
        "context": None if engine.max_tokens is None else f"{engine.max_tokens:,} tokens",
    }


def usage_words(usage: Usage) -> str:
    """Usage as text, such as `12 prompts, 3,456 tokens, 1 truncated`."""
    counts = {"truncated": usage.truncated, "with replaced surrogates": usage.replaced, "preprocessed": usage.preprocessed}
    return f"{usage.prompts:,} prompts, {usage.tokens:,} tokens" + "".join(f", {n:,} {what}" for what, n in counts.items() if n)
