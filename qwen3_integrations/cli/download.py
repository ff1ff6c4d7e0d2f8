"""`qwen3-integrations download`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from qwen3_integrations.cli.output import console, messages, print_json
from qwen3_integrations.models.catalog import TINY, Source


def download(
    models: Annotated[list[str], typer.Argument(metavar="MODEL", help="Names such as Qwen/Qwen3-Embedding-0.6B.")],
    source: Annotated[
        Source, typer.Option(help="Where to look: auto tries local copies, Hugging Face, then ModelScope; local uses no network.")
    ] = "auto",
    revision: Annotated[str | None, typer.Option(help="A branch, tag or commit.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON for each model.")] = False,
) -> None:
    """Download models into the hubs' own caches, and print their folders.

    Files that are already here are not downloaded again; an interrupted download continues with the missing files. The size
    of every file is verified. Mirrors and tokens: HF_ENDPOINT, HF_TOKEN, MODELSCOPE_ENDPOINT, MODELSCOPE_API_TOKEN.
    """
    from rich.filesize import decimal

    from qwen3_integrations.models.checkpoint import read_model
    from qwen3_integrations.models.hub import find_model, resolve_model
    from qwen3_integrations.models.hub.caches import describe_model

    for model in models:
        if model == TINY:
            messages().print(f"{TINY} is part of this package: there is nothing to download", highlight=False)
            continue
        # The task matters for the bundled pair alone; for others it is read from the files.
        found = find_model(model, "embed", source=source, revision=revision)
        here = describe_model(model, found or resolve_model(model, "embed", source=source, revision=revision))
        task = here.task or "embed"
        files = read_model(here.folder, task)  # these raise for a model that this package can't run
        files.check(task)
        files.read_tokenizer()
        if as_json:
            facts = {field: value for field, value in asdict(here).items() if field != "damage"}  # it has none here
            print_json(facts | {"folder": str(here.folder), "missing": list(here.missing), "downloaded": found is None})
            continue
        shown = [here.name, here.task, decimal(here.size_bytes), here.revision and f"revision {here.revision}", found and "already here"]
        console().print(", ".join(str(part) for part in shown if part), markup=False, highlight=False, soft_wrap=True)
        console().print(f"  {here.folder}", markup=False, highlight=False, soft_wrap=True)
