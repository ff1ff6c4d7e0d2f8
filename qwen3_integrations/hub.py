"""From a model's name to a folder on this machine: a path, the caches of both hubs, then a hub.

Downloading is the hubs' own clients' work (`huggingface_hub`, `modelscope`): resuming, checks, progress bars, mirrors
and tokens are theirs, with their environment variables.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import get_args

from qwen3_integrations.errors import ConfigError, ModelNotFound, Qwen3Error
from qwen3_integrations.extras import installed, require
from qwen3_integrations.jobs import Task
from qwen3_integrations.models import TINY, Source

log = logging.getLogger("qwen3_integrations")

FILES = ("*.json", "*.safetensors", "*.txt", "*/config.json")
"""What is downloaded: descriptions, tokenizer and safetensors weights; never pickled weights or code."""


def find_model(model: str, task: Task, *, source: Source = "auto", revision: str | None = None) -> Path | None:
    """A model that is on this machine already, or None. Never asks a network.

    Args:
        model: A folder, `qwen3-tiny-demo`, or a hub's name such as `Qwen/Qwen3-Embedding-0.6B`.
        task: Which of the tiny pair is meant.
        source: Whose cache to look in.
        revision: A branch, tag or commit of the hub's repository.

    Raises:
        ConfigError: If `source` is none of the four.
    """
    if source not in get_args(Source):
        raise ConfigError(f"source must be one of {', '.join(get_args(Source))}, not {source!r}")
    if model == TINY:
        return Path(__file__).parent / "tiny" / {"embed": "embedding", "rerank": "reranker"}[task]
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    caches = {"huggingface": _cached_by_hugging_face, "modelscope": _cached_by_modelscope}
    for name, look in caches.items():
        if source in ("auto", name) and (found := look(model, revision)):
            return found
    return None


def resolve_model(model: str, task: Task, *, source: Source = "auto", revision: str | None = None) -> Path:
    """A model's folder on this machine, downloaded if it has to be; shows the hub client's progress bars.

    Args:
        model, task, source, revision: As in `find_model`. `auto` asks Hugging Face first, then ModelScope.

    Raises:
        ModelNotFound: If no cache has it and no hub gives it; says what each hub answered.
        MissingExtra: If `source="modelscope"` and its client is not installed.
        ConfigError: If `source` is none of the four.
    """
    if found := find_model(model, task, source=source, revision=revision):
        return found
    if source == "local" or _is_path(model):
        raise ModelNotFound(
            f"there is no folder {model!r}" if _is_path(model) else f"{model} is in no local cache, and source='local' asks no hub"
        )
    refusals: list[str] = []
    if source in ("auto", "huggingface"):
        try:
            return _from_hugging_face(model, revision)
        except ModelNotFound as error:
            refusals.append(str(error))
    if source == "modelscope" or (source == "auto" and installed("modelscope")):
        try:
            return _from_modelscope(model, revision)
        except ModelNotFound as error:
            refusals.append(str(error))
    elif source == "auto":
        refusals.append("ModelScope was not asked: pip install 'qwen3-integrations[modelscope]'")
    raise ModelNotFound(
        f"{model} could not be had. " + "; ".join(refusals) + ". Pass a local folder as model, or name the bundled toy pair: "
        f"model={TINY!r}"
    )


def _is_path(model: str) -> bool:
    return model.startswith((".", "/", "~", "\\")) or model.count("/") > 1 or (len(model) > 1 and model[1] == ":")


def _cached_by_hugging_face(model: str, revision: str | None) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(model, revision=revision, allow_patterns=list(FILES), local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return folder if _is_complete(folder) else None


def _cached_by_modelscope(model: str, revision: str | None) -> Path | None:
    if not installed("modelscope"):
        return None
    try:
        folder = Path(
            require("modelscope", "modelscope").snapshot_download(
                model, revision=revision, allow_patterns=list(FILES), local_files_only=True
            )
        )
    except Qwen3Error:
        raise
    except Exception as error:  # its client raises ValueError, and others by version, for "not in the cache"
        log.debug("not in ModelScope's cache: %s", error)
        return None
    return folder if _is_complete(folder) else None


def _is_complete(folder: Path) -> bool:
    """True when config, tokenizer and every weight file that the index names are there."""
    import json

    if not (folder / "config.json").is_file() or not (folder / "tokenizer.json").is_file():
        return False
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return (folder / "model.safetensors").is_file()
    named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    return all((folder / name).is_file() for name in named)


def _from_hugging_face(model: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    hub = f"Hugging Face ({os.environ.get('HF_ENDPOINT', 'its default address')})"
    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=list(FILES)))
    except GatedRepoError as error:
        raise ModelNotFound(f"{hub} wants you to log in for {model}: hf auth login") from error
    except RevisionNotFoundError as error:
        raise ModelNotFound(f"{hub} has no revision {revision!r} of {model}") from error
    except RepositoryNotFoundError as error:
        raise ModelNotFound(f"{hub} has no model {model}, or it is private and needs a token (HF_TOKEN)") from error
    except HFValidationError as error:
        raise ModelNotFound(f"{model!r} is no name of a Hugging Face model: {error}") from error
    except Exception as error:
        raise ModelNotFound(f"{hub} did not give {model}: {type(error).__name__}: {_first_line(error)}") from error


def _from_modelscope(model: str, revision: str | None) -> Path:
    client = require("modelscope", "modelscope")
    try:
        return Path(client.snapshot_download(model, revision=revision, allow_patterns=list(FILES)))
    except Exception as error:
        raise ModelNotFound(f"ModelScope did not give {model}: {type(error).__name__}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[0][:300]
