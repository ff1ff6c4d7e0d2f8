"""Find a model's folder by its name: a path, the caches of both hubs, then a download (`downloads.py`)."""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import get_args

from qwen3_integrations.core.extras import installed, require
from qwen3_integrations.core.types import Task
from qwen3_integrations.core.validation import check_choice
from qwen3_integrations.errors import ConfigError, ModelNotFound
from qwen3_integrations.models.adapter_config import ADAPTER_CONFIG
from qwen3_integrations.models.catalog import TINY, Source
from qwen3_integrations.models.folders import CONFIG, check_folder, is_folder
from qwen3_integrations.models.hub.downloads import OnProgress, from_hugging_face, from_modelscope, missing_files, named

log = logging.getLogger("qwen3_integrations")

MODELSCOPE_BRANCH = "master"
"""ModelScope's default revision. Source: the default of its client."""


def find_model(model: str | os.PathLike[str], task: Task, *, source: Source = "auto", revision: str | None = None) -> Path | None:
    """Find a model on this machine, without network access.

    A branch in a cache has the commit of the time of its download.

    Args:
        model: A folder, `qwen3-tiny-demo`, or a name on the hub such as `Qwen/Qwen3-Embedding-0.6B`. If a folder has the name of a model
            on a hub, the folder is used, unless `source` names a hub or `revision` is given. A `Path` is always a folder.
        task: Selects the model of the tiny pair.
        source: The cache to search; `auto` and `local` search both, ModelScope's first if `VLLM_USE_MODELSCOPE` is set.
        revision: A branch, tag or commit of the hub's repository.

    Returns:
        The folder; None if there is none. A folder from a cache has at least config, tokenizer and all weights.

    Raises:
        ConfigError: If `source` is not one of the four, or `revision` is given for a folder.
    """
    check_choice(source, get_args(Source), "source")
    names_folder = model == TINY or _is_path(model)
    if names_folder and revision is not None:
        reason = f"{revision!r} selects a version on a hub, but {model!r} is a folder on this machine"
        raise ConfigError(reason, option="revision", advice="Leave revision out, or pass a name on a hub as model")
    folder = _bundled(task) if model == TINY else _as_folder(model)
    if is_folder(folder) and (names_folder or (source in ("auto", "local") and revision is None)):
        return folder
    return (
        None
        if names_folder
        else next((cached for cached in _cached(os.fspath(model), source, revision) if not missing_files(cached)), None)
    )


def resolve_model(
    model: str | os.PathLike[str], task: Task, *, source: Source = "auto", revision: str | None = None, progress: OnProgress | None = None
) -> Path:
    """Find a model on this machine, or download it with the progress bars of the hub's client.

    Args:
        model, task, revision: As in `find_model`.
        source: `auto` searches this machine, then Hugging Face, then ModelScope, or ModelScope first if `VLLM_USE_MODELSCOPE` is set; with
            `HF_HUB_OFFLINE` set only this machine.
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
        check_folder(_as_folder(model))
        raise ModelNotFound(f"the folder {os.fspath(model)!r} does not exist")
    model = os.fspath(model)
    if source in ("auto", "local") and revision is None and "/" not in model and os.path.lexists(model):
        check_folder(Path(model))
    if source == "local":
        raise _not_here(model, source, revision, ", and source='local' does not download", "Leave source out to download")
    if source != "modelscope" and _is_offline():
        reason = ", and HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE forbids a download"
        raise _not_here(model, source, revision, reason, "Unset it to download")
    refusals: list[str] = []
    for download in _downloads(source):
        if refusals:
            log.warning("%s. Trying the next hub", refusals[-1])
        try:
            return download(model, revision, progress)
        except ModelNotFound as error:
            refusals.append(_sentence(str(error)))
    partial, advice = _partial(model, source, revision)
    if source == "auto" and not installed("modelscope_hub"):
        refusals.append("ModelScope was not tried: its client is not installed (pip install 'qwen3-integrations[modelscope]')")
    raise ModelNotFound(
        f"{named(model, revision)} could not be found or downloaded. {'. '.join(refusals)}{partial}",
        advice=f"{advice}Or set a mirror's address in HF_ENDPOINT, pass a folder that contains the model, or use the bundled toy pair: "
        f"model={TINY!r}",
    )


def local_model(model: str | os.PathLike[str], task: Task, *, source: Source = "auto", revision: str | None = None) -> Path:
    """As `find_model`, with an error where that finds nothing.

    Args:
        model, task, source, revision: As in `find_model`.

    Raises:
        ModelNotFound: If the model is not on this machine, or not complete; with the files that it lacks.
        ConfigError: As `find_model`.
    """
    if found := find_model(model, task, source=source, revision=revision):
        return found
    if _is_path(model):
        check_folder(_as_folder(model))
    name = os.fspath(model)
    if "/" not in name and os.path.lexists(name):
        check_folder(Path(name))
    raise _not_here(name, source, revision, "", f"Run `qwen3-integrations download {shlex.quote(name)}`")


def _not_here(model: str, source: Source, revision: str | None, reason: str, advice: str) -> ModelNotFound:
    partial, first = _partial(model, source, revision)
    return ModelNotFound(f"{named(model, revision)} is not in a local cache{partial}{reason}", advice=f"{first}{advice}")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _downloads(source: Source) -> Sequence[Callable[[str, str | None, OnProgress | None], Path]]:
    """The hubs to try, in order."""
    if source == "auto" and installed("modelscope_hub"):
        both = [from_hugging_face, from_modelscope]
        return both[::-1] if _prefers_modelscope() else both
    if source == "auto" and _prefers_modelscope():
        log.warning("VLLM_USE_MODELSCOPE is set, but ModelScope's client is not installed: pip install 'qwen3-integrations[modelscope]'")
    return [from_modelscope if source == "modelscope" else from_hugging_face]


def _is_offline() -> bool:
    """The offline setting of Hugging Face's client. In `auto` it applies to both hubs: the machine must not use the network."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE


def _bundled(task: Task) -> Path:
    return Path(__file__).parents[2] / "tiny" / {"embed": "embedding", "rerank": "reranker"}[task]


def _prefers_modelscope() -> bool:
    """Whether vLLM's own variable says that models come from ModelScope. Source: vLLM's `envs.py`."""
    return os.environ.get("VLLM_USE_MODELSCOPE", "").strip().lower() in ("1", "true")


def _as_folder(model: str | os.PathLike[str]) -> Path:
    """The path, with `~` replaced where such a user exists."""
    return Path(os.path.expanduser(model))  # noqa: PTH111  `Path.expanduser` raises


def _is_path(model: str | os.PathLike[str]) -> bool:
    """Whether a name can only be a folder; `owner/name` may be a folder or a model on a hub."""
    return not isinstance(model, str) or model.startswith((".", "/", "~", "\\")) or model.count("/") > 1 or model[1:2] == ":"


def _cached(model: str, source: Source, revision: str | None) -> Iterator[Path]:
    """The folders of a model in the caches, complete or not."""
    caches: list[tuple[Source, Callable[[str, str | None], Path | None]]] = [
        ("huggingface", _cached_by_hugging_face),
        ("modelscope", _cached_by_modelscope),
    ]
    for hub, look in caches[::-1] if _prefers_modelscope() else caches:
        if source in ("auto", "local", hub) and (cached := look(model, revision)) is not None:
            yield cached


def _partial(model: str, source: Source, revision: str | None) -> tuple[str, str]:
    """What a cache has of a model that is not complete, for messages, and the advice; empty if it has nothing."""
    for cached in _cached(model, source, revision):
        if missing := missing_files(cached):
            return f" ({cached} is not complete: it lacks {', '.join(missing)})", ""
    return _without_reference(model) if revision is None and source != "modelscope" else ("", "")


def _without_reference(model: str) -> tuple[str, str]:
    """Of a cache of Hugging Face's client that has commits, but not the file that says which of them the default branch is."""
    from huggingface_hub import constants

    repository = Path(constants.HF_HUB_CACHE) / f"models--{model.replace('/', '--')}"
    reference = repository / "refs" / "main"
    if not is_folder(repository / "snapshots"):
        return "", ""
    commits = sorted(path.name for path in (repository / "snapshots").iterdir() if is_folder(path))
    if not commits:
        return "", ""
    if reference.is_file():
        snapshot = repository / "snapshots" / reference.read_text(encoding="utf-8", errors="replace").strip()
        if snapshot.name in commits:
            return f" ({snapshot} is not complete: it lacks {', '.join(missing_files(snapshot))})", ""
        return f" ({reference} names a commit that {repository / 'snapshots'} does not have whole; it has {', '.join(commits)})", ""
    return f" ({reference} is missing; {repository / 'snapshots'} has {', '.join(commits)})", f"Pass revision={commits[-1]!r} to use it. "


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
