"""The hubs' caches: their models, and the free disk space."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from rich.filesize import decimal

from qwen3_integrations.diagnosis.finding import Finding
from qwen3_integrations.models.catalog import CHECKPOINTS, DEFAULT_MODELS
from qwen3_integrations.models.hub.caches import Hub, LocalModel, cache_folders, cached_models
from qwen3_integrations.models.shapes import PUBLISHED_SHAPES, PUBLISHED_VOCABULARY

VARIABLES: dict[Hub, str] = {"huggingface": "HF_HUB_CACHE", "modelscope": "MODELSCOPE_CACHE"}
"""The variable that sets each client's cache. Source: the clients' documentation."""


def models() -> list[Finding]:
    """The Qwen3 embedders and rerankers on this machine."""
    return model_findings(cached_models())


def model_findings(found: Sequence[LocalModel]) -> list[Finding]:
    """The cached models, and the published ones that are missing."""
    findings = [model_finding(model) for model in found]
    absent = [name for name in CHECKPOINTS if name not in {model.name for model in found}]
    if absent:
        default = next((name for name in DEFAULT_MODELS.values() if name in absent), absent[0])
        text = "not here: " + ", ".join(name.removeprefix("Qwen/Qwen3-") for name in absent)
        findings.append(Finding("models", "published", "note", text, f"qwen3-integrations download {default}"))
    return findings


def model_finding(model: LocalModel) -> Finding:
    """A model in a cache."""
    if model.damage:
        return Finding("models", model.name, "warning", model.damage, f"ls -l {shlex.quote(str(model.folder))}")
    place = f"{decimal(model.size_bytes)} in {model.folder}"
    if not model.missing:
        return Finding("models", model.name, "ok", place)
    source = f" --source {model.hub}" if model.hub else ""
    text = f"incomplete: {', '.join(model.missing)} missing; {place}"
    return Finding("models", model.name, "note", text, f"qwen3-integrations download {shlex.quote(model.name)}{source}")


def disk() -> list[Finding]:
    """The free space at each cache."""
    return [disk_finding(folder, VARIABLES[hub], shutil.disk_usage(_existing(folder)).free) for hub, folder in cache_folders().items()]


def disk_finding(folder: Path, variable: str, free_bytes: int) -> Finding:
    """The free space at a cache, compared with the published models' sizes.

    Args:
        folder: The cache; it need not exist yet.
        variable: The environment variable that sets it.
        free_bytes: Free space on its disk.
    """
    fix = f"export {variable}=/a/larger/disk/{folder.name}"
    if not os.access(_existing(folder), os.W_OK):
        return Finding("disk", str(folder), "warning", "can't be written to: nothing can be downloaded", fix)
    sizes = {name: shape.weights_bytes(PUBLISHED_VOCABULARY, 2) for name, shape in PUBLISHED_SHAPES.items()}
    room = [name for name, size in sizes.items() if size <= free_bytes]
    text = f"{decimal(free_bytes)} free"
    if not room:
        return Finding("disk", str(folder), "warning", f"{text}: too little for any published model", fix)
    return Finding(
        "disk", str(folder), "ok", f"{text}, room for any one of {', '.join(f'{name} ({decimal(sizes[name])})' for name in room)}"
    )


def _existing(folder: Path) -> Path:
    return next(part for part in (folder, *folder.absolute().parents) if part.exists())
