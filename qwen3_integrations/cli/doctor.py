"""`qwen3-integrations doctor`."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

from qwen3_integrations.cli.output import ExitCode, console, print_json
from qwen3_integrations.core.types import Task

if TYPE_CHECKING:
    from qwen3_integrations.diagnosis import Finding

STYLES = {"ok": "green", "note": "cyan", "warning": "yellow", "problem": "bold red"}


def doctor(
    model: Annotated[
        str | None,
        typer.Argument(metavar="[MODEL]", help="A model on this machine: a folder, or a name in a hub's cache.", show_default=False),
    ] = None,
    task: Annotated[Task | None, typer.Option(help="What to read the model for. Default: what its files say.", show_default=False)] = None,
    revision: Annotated[str | None, typer.Option(help="A branch, tag or commit of the model.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Check everything that this package needs, and say how to fix what is wrong.

    Python, extras, GPU, PyTorch and vLLM, memory, model caches, disk, servers and environment variables. Nothing is changed, and no
    secret is shown. Exits with 1 if there is a problem; warnings and notes do not count.

    With a model: check its folder as an engine does before it starts, and print what it is, what was taken from which file, and which
    engines can run it.
    """
    if model is not None:
        _model(model, task, revision, as_json=as_json)
        return
    from qwen3_integrations.diagnosis import diagnose

    findings = diagnose()
    if as_json:
        print_json({"findings": [asdict(finding) for finding in findings]})
    else:
        _show(findings)
    if any(finding.state == "problem" for finding in findings):
        raise typer.Exit(ExitCode.FAILED)


def _model(model: str, task: Task | None, revision: str | None, *, as_json: bool) -> None:
    from rich.text import Text

    from qwen3_integrations.diagnosis import diagnose_model

    found = diagnose_model(model, task, revision=revision)
    if as_json:
        print_json(found.to_dict())
        return
    out = console()
    out.print(Text(f"{found.model}: {found.folder}", style="bold"), soft_wrap=True)
    width = max(len(fact.name) for fact in found.facts)
    for fact in found.facts:
        value = "none" if fact.value is None else repr(fact.value) if "prompt of" in fact.name else str(fact.value)
        out.print(Text(f"  {fact.name:<{width}}  {value}  ") + Text(f"({fact.source})", style="dim"), soft_wrap=True)
    for each in found.engines:
        out.print(Text(f"  {'engine ' + each.engine:<{width}}  {each.reason or 'can run it'}"), soft_wrap=True)


def _show(findings: Sequence[Finding]) -> None:
    from rich.text import Text

    out = console()
    for area, group in groupby(findings, key=lambda finding: finding.area):
        out.print(Text(area, style="bold"))
        for finding in group:
            # Wrapped at blanks only, so that paths and versions stay whole; a fix stays on one line, to be copied.
            indent = " " * 12
            lines = textwrap.wrap(
                f"{finding.subject}: {finding.text}",
                max(out.width, 40),
                initial_indent=indent,
                subsequent_indent=indent,
                break_long_words=False,
                break_on_hyphens=False,
            )
            head = Text(f"  {finding.state:<10}", style=STYLES[finding.state])
            out.print(head + "\n".join(lines)[len(indent) :], soft_wrap=True)
            if finding.fix:
                out.print(Text(f"{indent}$ {finding.fix}", style="bold"), soft_wrap=True)
    counts = {state: sum(finding.state == state for finding in findings) for state in ("problem", "warning", "note")}
    out.print(", ".join(f"{count} {state}{'s' * (count != 1)}" for state, count in counts.items()), highlight=False)
