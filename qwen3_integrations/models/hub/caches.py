"""Models in the caches of both hubs: names, sizes, and missing files. No network access."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from qwen3_integrations.core.extras import installed, require
from qwen3_integrations.core.types import Task
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.catalog import CHECKPOINTS
from qwen3_integrations.models.checkpoint import stated_task
from qwen3_integrations.models.hub.downloads import missing_files

Hub = Literal["huggingface", "modelscope"]

_FAMILIES = ("qwen3-embedding", "qwen3-reranker")


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model on this machine.

    Attributes:
        name: The model's name.
        task: `embed` or `rerank`; None if neither name nor files show it.
        folder: The model's folder.
        hub: The hub that the cache belongs to; None for a folder outside the caches.
        revision: The downloaded commit (Hugging Face), or branch, tag or commit (ModelScope); None if unknown.
        size_bytes: Size of its files.
        missing: Names of missing files without which the model cannot run.
        damage: What is wrong with a file that the model needs; empty if nothing is known.
    """

    name: str
    task: Task | None
    folder: Path
    hub: Hub | None
    revision: str | None
    size_bytes: int
    missing: tuple[str, ...]
    damage: str = ""


def cache_folders() -> dict[Hub, Path]:
    """The cache folder of each hub's client; ModelScope only if its client is installed."""
    from huggingface_hub import constants

    folders: dict[Hub, Path] = {"huggingface": Path(constants.HF_HUB_CACHE)}
    if installed("modelscope_hub"):
        folders["modelscope"] = Path(require("modelscope_hub", "modelscope").get_default_config().cache_dir)
    return folders


def cached_models() -> tuple[LocalModel, ...]:
    """The Qwen3 embedding models and rerankers in the caches, sorted by name: published models, and others with their names."""
    found = [
        describe_model(name, folder)
        for hub, cache in cache_folders().items()
        for name, folder in (_in_hugging_face(cache) if hub == "huggingface" else _in_modelscope(cache))
        if any(family in name.lower() for family in _FAMILIES)
    ]
    return tuple(sorted(found, key=lambda model: (model.name.lower(), model.folder)))


def describe_model(name: str, folder: Path) -> LocalModel:
    """Describe the model in a folder.

    Args:
        name: The model's name.
        folder: From `find_model` or `resolve_model`.
    """
    hub: Hub | None = next((hub for hub, cache in cache_folders().items() if folder.is_relative_to(cache)), None)
    task: Task | None = None
    missing: tuple[str, ...] = ()
    damage = ""
    try:
        missing = tuple(missing_files(folder))
        task = task_of(name, folder)
    except ConfigError as error:
        damage = "" if missing else str(error)  # a link to a missing file is an error, too
    return LocalModel(
        name=name,
        task=task,
        folder=folder,
        hub=hub,
        revision=folder.name if hub and folder.parent.name == "snapshots" else None,
        size_bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        missing=missing,
        damage=damage,
    )


def task_of(name: str, folder: Path) -> Task | None:
    """The task of a model, by its files or else by its name."""
    if name in CHECKPOINTS:
        return CHECKPOINTS[name].task
    stated = stated_task(folder)
    if stated == "rerank" or "rerank" in name.lower():
        return "rerank"
    return "embed" if stated == "embed" or "embed" in name.lower() else None


def _in_hugging_face(cache: Path) -> Iterator[tuple[str, Path]]:
    """Source: https://huggingface.co/docs/huggingface_hub/guides/manage-cache."""
    for folder in cache.glob("models--*--*/snapshots/*"):
        owner, name = folder.parents[1].name.removeprefix("models--").split("--", 1)
        yield f"{owner}/{name}", folder


def _in_modelscope(cache: Path) -> Iterator[tuple[str, Path]]:
    """Source: the layout of modelscope_hub 0.5, and of the versions before it, as its `_download.py` describes both."""
    for folder in cache.glob("models/*--*/snapshots/*"):
        owner, name = folder.parents[1].name.split("--", 1)
        yield f"{owner}/{name}", folder
    for pattern in ("models/*/*/config.json", "hub/models/*/*/config.json"):
        for description in cache.glob(pattern):
            owner, name = description.parts[-3:-1]
            yield f"{owner}/{name.replace('___', '.')}", description.parent
