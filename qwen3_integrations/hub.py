"""From a model's name to a folder on this machine: a path, the caches of both hubs, then a hub.

Downloading is the hubs' own clients' work (`huggingface_hub`, `modelscope_hub`): resuming, checks, progress bars, mirrors
and tokens are theirs, with their environment variables.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from qwen3_integrations.errors import ConfigError, ModelNotFound
from qwen3_integrations.extras import installed, require
from qwen3_integrations.jobs import Task
from qwen3_integrations.models import TINY, Source

log = logging.getLogger("qwen3_integrations")

FILES = ("*.json", "*.safetensors", "*.txt")
"""What is downloaded, in every folder: descriptions, tokenizer and safetensors weights; never pickled weights or code."""

MODELSCOPE_BRANCH = "master"
"""What ModelScope means by no revision. Source: its client's default."""


def find_model(model: str, task: Task, *, source: Source = "auto", revision: str | None = None) -> Path | None:
    """A model that is on this machine already, or None. Never asks a network.

    A branch in a cache is the commit it was when it was downloaded.

    Args:
        model: A folder, `qwen3-tiny-demo`, or a hub's name such as `Qwen/Qwen3-Embedding-0.6B`. A folder that is
            called as a model on a hub goes first, unless `source` names a hub or `revision` is given.
        task: Which of the tiny pair is meant.
        source: Whose cache to look in; `auto` and `local` look in both.
        revision: A branch, tag or commit of the hub's repository.

    Returns:
        A folder; one from a cache holds at least a description, a tokenizer and all its weights.

    Raises:
        ConfigError: If `source` is none of the four, or a folder is given a revision.
    """
    if source not in get_args(Source):
        raise ConfigError(f"source must be one of {', '.join(get_args(Source))}, not {source!r}")
    is_folder = model == TINY or _is_path(model)
    if is_folder and revision is not None:
        raise ConfigError(f"revision={revision!r} is a hub's, but {model!r} is a folder on this machine: leave one of them out")
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
            if cached is not None and not _missing(cached):
                return cached
    return None


def resolve_model(model: str, task: Task, *, source: Source = "auto", revision: str | None = None) -> Path:
    """A model's folder on this machine, downloaded if it has to be; shows the hub client's progress bars.

    Args:
        model, task, revision: As in `find_model`.
        source: `auto` takes what this machine has, then asks Hugging Face, then ModelScope; with `HF_HUB_OFFLINE` set
            it asks neither. `huggingface` and `modelscope` are that hub and its cache; `local` asks no hub.

    Raises:
        ModelNotFound: If this machine does not have it and no hub gives it; says what each hub answered.
        MissingExtra: If `source="modelscope"` and its client is not installed.
        ConfigError: If `source` is none of the four, or a folder is given a revision.
    """
    if found := find_model(model, task, source=source, revision=revision):
        return found
    if _is_path(model):
        raise ModelNotFound(f"there is no folder {model!r}")
    if source == "local":
        raise ModelNotFound(f"{_named(model, revision)} is in no local cache, and source='local' asks no hub: leave it out")
    if source != "modelscope" and _is_offline():
        raise ModelNotFound(
            f"{_named(model, revision)} is in no local cache, and no hub was asked, "
            "because HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set: unset it to download"
        )
    refusals: list[str] = []
    for download in _downloads(source):
        if refusals:
            log.warning("%s; asking the next hub", refusals[-1])
        try:
            return download(model, revision)
        except ModelNotFound as error:
            refusals.append(str(error))
    if source == "auto" and not installed("modelscope_hub"):
        refusals.append("ModelScope was not asked, its client is not installed: pip install 'qwen3-integrations[modelscope]'")
    raise ModelNotFound(
        f"{_named(model, revision)} could not be had. {'. '.join(refusals)}. "
        f"Other ways: a mirror's address in HF_ENDPOINT, a folder that holds the model, or the bundled toy pair, model={TINY!r}"
    )


def _downloads(source: Source) -> list[Callable[[str, str | None], Path]]:
    """Whom to ask, in order."""
    if source == "auto" and installed("modelscope_hub"):
        return [_from_hugging_face, _from_modelscope]
    return [_from_modelscope if source == "modelscope" else _from_hugging_face]


def _is_offline() -> bool:
    """The mark of one client; in `auto` it counts for both hubs, for it says that this machine shall not go out."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE


def _bundled(task: Task) -> Path:
    return Path(__file__).parent / "tiny" / {"embed": "embedding", "rerank": "reranker"}[task]


def _is_path(model: str) -> bool:
    """True for what can only be a folder; `owner/name` may be either."""
    return model.startswith((".", "/", "~", "\\")) or model.count("/") > 1 or model[1:2] == ":"


def _named(model: str, revision: str | None) -> str:
    return model if revision is None else f"{model} (revision {revision!r})"


def _missing(folder: Path) -> list[str]:
    """Which of the files that every engine needs are not there: description, tokenizer, and each file of weights.

    Stricter than a folder that exists, laxer than a whole repository: other programs fetch what they need into the same cache.
    """
    index = folder / "model.safetensors.index.json"
    weights = (
        sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())) if index.is_file() else ["model.safetensors"]
    )
    return [name for name in ("config.json", "tokenizer.json", *weights) if not (folder / name).is_file()]


def _whole(folder: Path, model: str, hub: str) -> Path:
    if missing := _missing(folder):
        raise ModelNotFound(f"{hub} has {model}, but without {', '.join(missing)}: only models with safetensors weights can be run")
    return folder


def _cached_by_hugging_face(model: str, revision: str | None) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        description = try_to_load_from_cache(model, "config.json", revision=revision)
    except HFValidationError:  # no name of this hub
        return None
    return Path(description).parent if isinstance(description, str) else None


def _cached_by_modelscope(model: str, revision: str | None) -> Path | None:
    if not installed("modelscope_hub"):
        return None
    client = require("modelscope_hub", "modelscope")
    wanted = revision or MODELSCOPE_BRANCH  # else it takes any one revision that it has
    try:
        folder = Path(client.HubApi().download_repo(model, "model", revision=wanted, local_files_only=True))
    except client.CacheNotFound:
        return None
    # Folders of its versions before 1.38 do not tell their revision: they can't stand for a pinned one.
    return folder if revision is None or folder.as_posix().endswith(f"/snapshots/{revision}") else None


def _from_hugging_face(model: str, revision: str | None) -> Path:
    from huggingface_hub import constants, errors, snapshot_download

    hub = f"Hugging Face ({_clean(constants.ENDPOINT)})"
    log.info("downloading %s from %s", _named(model, revision), hub)
    try:
        folder = Path(snapshot_download(model, revision=revision, allow_patterns=list(FILES)))
    except errors.GatedRepoError as error:
        raise ModelNotFound(
            f"{hub} gives {model} to permitted users only: ask on its page there, then hf auth login, or set HF_TOKEN"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ModelNotFound(f"{hub} has {model}, but no revision {revision!r} of it") from error
    except errors.RepositoryNotFoundError as error:
        raise ModelNotFound(f"{hub} has no model {model}, or a private one: then hf auth login, or set HF_TOKEN") from error
    except errors.HFValidationError as error:
        raise ModelNotFound(f"{model!r} can't be the name of a model on {hub}") from error
    except Exception as error:  # httpx', hf_xet's and the file system's errors have no base in common
        raise ModelNotFound(f"{hub} did not give {model}: {_reason(error)}") from error
    return _whole(folder, model, hub)


def _from_modelscope(model: str, revision: str | None) -> Path:
    client = require("modelscope_hub", "modelscope")
    hub = f"ModelScope ({_clean(client.get_default_config().endpoint)})"
    log.info("downloading %s from %s", _named(model, revision), hub)
    try:
        folder = Path(client.HubApi().download_repo(model, "model", revision=revision, allow_patterns=list(FILES)))
    except client.NotExistError as error:
        raise ModelNotFound(f"{hub} has no {_named(model, revision)}") from error
    except (client.HubError, OSError) as error:  # requests' errors are OSErrors
        reasons = [error, *getattr(error, "failed_files", {}).values()]
        if any(isinstance(reason, client.AuthenticationError | client.PermissionDeniedError) for reason in reasons):
            raise ModelNotFound(f"{hub} gives {model} to permitted users only: ms login, or set MODELSCOPE_API_TOKEN") from error
        raise ModelNotFound(f"{hub} did not give {model}: {_reason(error)}") from error
    return _whole(folder, model, hub)


def _reason(error: BaseException) -> str:
    """What a client said, in one line. Its wrapper for "not in the cache either" gives way to what the hub said."""
    if isinstance(error, FileNotFoundError) and error.__cause__ is not None:
        error = error.__cause__
    return _clean(f"{type(error).__name__}: {' '.join(str(error).split()) or 'no reason given'}"[:600]).rstrip(".")


def _clean(text: str) -> str:
    """The text without the credentials that an address in it may hold."""
    return re.sub(r"://[^/@\s]*@", "://", text)
