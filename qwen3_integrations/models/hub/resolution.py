"""Find a model's folder by its name: a path, the caches of both hubs, then a download (`downloads.py`)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from qwen3_integrations.core.extras import installed, require
from qwen3_integrations.core.types import Task
from qwen3_integrations.core.validation import check_choice
from qwen3_integrations.errors import ConfigError, ModelNotFound
from qwen3_integrations.models.adapter_config import ADAPTER_CONFIG
from qwen3_integrations.models.catalog import TINY, Source
from qwen3_integrations.models.checkpoint import CONFIG
from qwen3_integrations.models.hub.downloads import OnProgress, from_hugging_face, from_modelscope, missing_files, named

log = logging.getLogger("qwen3_integrations")

MODELSCOPE_BRANCH = "master"
"""ModelScope's default revision. Source: the default of its client."""


def find_model(model: str, task: Task, *, source: Source = "auto", revision: str | None = None) -> Path | None:
    """Find a model on this machine, without network access.

    A branch in a cache has the commit of the time of its download.

    Args:
        model: A folder, `qwen3-tiny-demo`, or a name on the hub such as `Qwen/Qwen3-Embedding-0.6B`. If a folder has the name of a model
            on a hub, the folder is used, unless `source` names a hub or `revision` is given.
        task: Selects the model of the tiny pair.
        source: The cache to search; `auto` and `local` search both.
        revision: A branch, tag or commit of the hub's repository.

    Returns:
        The folder; None if there is none. A folder from a cache has at least config, tokenizer and all weights.

    Raises:
        ConfigError: If `source` is not one of the four, or `revision` is given for a folder.
    """
    check_choice(source, get_args(Source), "source")
    is_folder = model == TINY or _is_path(model)
    if is_folder and revision is not None:
        reason = f"{revision!r} selects a version on a hub, but {model!r} is a folder on this machine"
        raise ConfigError(reason, option="revision", advice="Leave revision out, or pass a name on a hub as model")
    folder = _bundled(task) if model == TINY else Path(model).expanduser()
    if folder.is_dir() and (is_folder or (source in ("auto", "local") and revision is None)):
        return folder
    if is_folder:
        return None
    caches: dict[Source, Callable[[str, str | None], Path | None]] = {
        "huggingface": _cached_by_hugging_face,
        "modelscope": _cached_by_modelscope,
    }
    for hub, look in caches.items():
        if source in ("auto", "local", hub):
            cached = look(model, revision)
            if cached is not None and not missing_files(cached):
                return cached
    return None


def resolve_model(
    model: str, task: Task, *, source: Source = "auto", revision: str | None = None, progress: OnProgress | None = None
) -> Path:
    """Find a model on this machine, or download it with the progress bars of the hub's client.

    Args:
        model, task, revision: As in `find_model`.
        source: `auto` searches this machine, then Hugging Face, then ModelScope; with `HF_HUB_OFFLINE` set only this machine.
            `huggingface` and `modelscope` use that hub and its cache; `local` uses no hub.
        progress: Called during a download, see `DownloadProgress`; not called if the model is on this machine.

    Returns:
        The folder.

    Raises:
        ModelNotFound: If the model could not be found or downloaded; with the answer of each hub.
        MissingExtra: If `source="modelscope"` and its client is not installed.
        ConfigError: If `source` is not one of the four, or `revision` is given for a folder.
    """
    if found := find_model(model, task, source=source, revision=revision):
        return found
    if _is_path(model):
        raise ModelNotFound(f"the folder {model!r} does not exist")
    if source == "local":
        reason = f"{named(model, revision)} is not in a local cache, and source='local' does not download"
        raise ModelNotFound(reason, advice="Leave source out to download")
    if source != "modelscope" and _is_offline():
        raise ModelNotFound(
            f"{named(model, revision)} is not in a local cache, and HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE forbids a download",
            advice="Unset it to download",
        )
    refusals: list[str] = []
    for download in _downloads(source):
        if refusals:
            log.warning("%s. Trying the next hub", refusals[-1])
        try:
            return download(model, revision, progress)
        except ModelNotFound as error:
            refusals.append(_sentence(str(error)))
    if source == "auto" and not installed("modelscope_hub"):
        refusals.append("ModelScope was not tried: its client is not installed (pip install 'qwen3-integrations[modelscope]')")
    raise ModelNotFound(
        f"{named(model, revision)} could not be found or downloaded. {'. '.join(refusals)}",
        advice="Or set a mirror's address in HF_ENDPOINT, pass a folder that contains the model, or use the bundled toy pair: "
        f"model={TINY!r}",
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _downloads(source: Source) -> list[Callable[[str, str | None, OnProgress | None], Path]]:
    """The hubs to try, in order."""
    if source == "auto" and installed("modelscope_hub"):
        return [from_hugging_face, from_modelscope]
    return [from_modelscope if source == "modelscope" else from_hugging_face]


def _is_offline() -> bool:
    """The offline setting of Hugging Face's client. In `auto` it applies to both hubs: the machine must not use the network."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE


def _bundled(task: Task) -> Path:
    return Path(__file__).parents[2] / "tiny" / {"embed": "embedding", "rerank": "reranker"}[task]


def _is_path(model: str) -> bool:
    """Whether a name can only be a folder; `owner/name` may be a folder or a model on a hub."""
    return model.startswith((".", "/", "~", "\\")) or model.count("/") > 1 or model[1:2] == ":"


def _cached_by_hugging_face(model: str, revision: str | None) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = (try_to_load_from_cache(model, name, revision=revision) for name in (CONFIG, ADAPTER_CONFIG))
        description = next((path for path in found if isinstance(path, str)), None)
    except HFValidationError:  # not a valid name on this hub
        return None
    return Path(description).parent if description else None


def _cached_by_modelscope(model: str, revision: str | None) -> Path | None:
    if not installed("modelscope_hub"):
        return None
    client = require("modelscope_hub", "modelscope")
    wanted = revision or MODELSCOPE_BRANCH  # without a revision, the client returns any cached revision
    try:
        folder = Path(client.HubApi().download_repo(model, "model", revision=wanted, local_files_only=True))
    except client.CacheNotFound:
        return None
    # Cache folders of versions before 1.38 do not contain the revision, so they can't be used for a given revision.
    return folder if revision is None or folder.as_posix().endswith(f"/snapshots/{revision}") else None
