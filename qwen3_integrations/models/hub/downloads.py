"""Download of a model by the hub's own client, with progress in bytes and a check of each file's size.

The clients (`huggingface_hub`, `modelscope_hub`) and their environment variables control resuming, mirrors, tokens and progress bars.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from qwen3_integrations.core.extras import require
from qwen3_integrations.errors import ModelNotFound
from qwen3_integrations.models.adapter_config import ADAPTER_WEIGHTS
from qwen3_integrations.models.checkpoint import is_adapter_alone
from qwen3_integrations.models.folders import CONFIG, is_folder
from qwen3_integrations.models.tokenizer_files import TOKENIZER, missing_tokenizer
from qwen3_integrations.models.weights import INDEX, SINGLE, weight_names

log = logging.getLogger("qwen3_integrations")

FILES = ("*.json", "*.safetensors", "*.txt", "chat_template.jinja")
"""Patterns of the files to download: config, tokenizer, safetensors weights and the chat template; never pickled weights or code."""


@dataclass(frozen=True, slots=True)
class DownloadProgress:
    """Progress of a download, over all its files.

    Attributes:
        done_bytes: Bytes on disk; for a resumed file with those of the earlier download.
        total_bytes: Size of all files whose download has started. For small models all files start at once, so it is soon the whole.
    """

    done_bytes: int
    total_bytes: int


OnProgress = Callable[[DownloadProgress], None]
"""Called from the clients' threads, one call at a time. It must return quickly and must not raise."""


def from_hugging_face(model: str, revision: str | None, progress: OnProgress | None = None) -> Path:
    """Download a model from Hugging Face, or from the mirror in HF_ENDPOINT, into its client's cache.

    Args:
        model: The repository's name.
        revision: A branch, tag or commit; None for the default branch.
        progress: Called with the number of bytes, instead of the client's progress bars.

    Raises:
        ModelNotFound: If the download fails, with the hub's answer.
    """
    from huggingface_hub import HfApi, constants, errors, snapshot_download

    # Its client reads the variable once, when it is imported; a notebook may set it later.
    endpoint = (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")
    hub = f"Hugging Face ({clean(endpoint)})"
    log.info("downloading %s from %s", named(model, revision), hub)
    bars = {"tqdm_class": _hugging_face_bar(_Count(progress))} if progress else {}
    try:
        folder = Path(snapshot_download(model, revision=revision, allow_patterns=list(FILES), endpoint=endpoint, **bars))
        tree = HfApi(endpoint=endpoint).list_repo_tree(model, revision=folder.name, recursive=True)
        listed = {entry.path: getattr(entry, "size", None) for entry in tree}
    except errors.GatedRepoError as error:
        raise ModelNotFound(
            f"{hub} restricts access to {model}",
            advice="Request access on the model's page there, then run `hf auth login` or set HF_TOKEN",
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ModelNotFound(f"{hub} has {model}, but not its revision {revision!r}") from error
    except errors.RepositoryNotFoundError as error:
        advice = "For a private model, run `hf auth login` or set HF_TOKEN"
        raise ModelNotFound(f"{hub} has no public model {model}", advice=advice) from error
    except errors.HFValidationError as error:
        raise ModelNotFound(f"{model!r} is not a valid name of a model on {hub}") from error
    except Exception as error:  # the errors of httpx, hf_xet and the file system have no common base class
        raise ModelNotFound(f"the download of {model} from {hub} failed: {_reason(error)}") from error
    # The client compares each file with the size in its own HTTP header. ModelScope's client compares with the list.
    _verify_sizes(folder, listed, model, hub)
    return _whole(folder, model, hub)


def from_modelscope(model: str, revision: str | None, progress: OnProgress | None = None) -> Path:
    """Download a model from ModelScope into its client's cache.

    Args:
        model, revision: As in `from_hugging_face`.
        progress: Called with the number of bytes, in addition to the client's progress bars, which can't be switched off.

    Raises:
        MissingExtra: If its client is not installed.
        ModelNotFound: If the download fails, with the hub's answer.
    """
    client = require("modelscope_hub", "modelscope")
    hub = f"ModelScope ({clean(client.get_default_config().endpoint)})"
    log.info("downloading %s from %s", named(model, revision), hub)
    calls = {"progress_callbacks": [_modelscope_callback(client, _Count(progress))]} if progress else {}
    target = Path(client.get_default_config().cache_dir) / "models" / model.replace("/", "--")
    try:
        folder = Path(client.HubApi().download_repo(model, "model", revision=revision, allow_patterns=list(FILES), **calls))
    except client.NotExistError as error:
        _remove_empty(target)
        raise ModelNotFound(f"{hub} has no {named(model, revision)}") from error
    except (client.HubError, OSError) as error:  # errors of `requests` are OSErrors
        _remove_empty(target)
        reasons = [error, *getattr(error, "failed_files", {}).values()]
        if any(isinstance(reason, client.AuthenticationError | client.PermissionDeniedError) for reason in reasons):
            advice = "Run `ms login` or set MODELSCOPE_API_TOKEN"
            raise ModelNotFound(f"{hub} restricts access to {model}", advice=advice) from error
        raise ModelNotFound(f"the download of {model} from {hub} failed: {_reason(error)}") from error
    return _whole(folder, model, hub)


class _Count:
    """Sums the bytes of all files of a download. Several threads count at once."""

    def __init__(self, progress: OnProgress) -> None:
        self._progress = progress
        self._lock = threading.Lock()
        self._files: dict[str, tuple[int, int]] = {}

    def begin(self, file: str, total: int) -> None:
        """The download of a file starts, or starts again."""
        with self._lock:
            self._files[file] = (0, total)

    def add(self, file: str, count: int, total: int | None = None) -> None:
        """Count more bytes of a file."""
        with self._lock:
            before, known = self._files.get(file, (0, 0))
            self._files[file] = (before + count, known if total is None else total)
            done, whole = map(sum, zip(*self._files.values(), strict=True))
            self._progress(DownloadProgress(done, max(done, whole)))


def _hugging_face_bar(count: _Count) -> Any:
    """An invisible progress bar for the client. One of the client's bars counts the bytes of all files."""
    from huggingface_hub.utils.tqdm import tqdm

    class Bar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            # Other bars count files, or bytes on the network.
            self._counts = options.get("name") == "huggingface_hub.snapshot_download"
            super().__init__(*args, **options | {"disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> bool | None:
            if self._counts:
                count.add("", int(n or 0), int(self.total or 0))
            return None

    return Bar


def _modelscope_callback(client: Any, count: _Count) -> Any:
    class Callback(client.ProgressCallback):  # type: ignore[misc]
        def __init__(self, filename: str, file_size: int) -> None:
            super().__init__(filename, file_size)
            count.begin(filename, file_size)

        def update(self, size: int) -> None:
            count.add(self.filename, size)

    return Callback


def _verify_sizes(folder: Path, listed: Mapping[str, int | None], model: str, hub: str) -> None:
    """Compare the files with the sizes that the hub lists. Wrong files are removed from the cache.

    Raises:
        ModelNotFound: If a file has another size than listed.
    """
    wrong = []
    for path, size in listed.items():
        file = folder / path
        if size is not None and any(fnmatch(path, pattern) for pattern in FILES) and file.is_file() and file.stat().st_size != size:
            wrong.append(f"{path} has {file.stat().st_size:,} bytes instead of {size:,}")
            file.resolve().unlink()  # the cache stores contents separately, with links to them
            file.unlink(missing_ok=True)
    if wrong:
        raise ModelNotFound(f"files of {model} from {hub} have the wrong size: {'; '.join(wrong)}", advice="They were removed: try again")


def missing_files(folder: Path) -> list[str]:
    """Names of missing files that every engine needs: config, tokenizer, and each file of weights; of an adapter without its base, its own.

    A folder in a cache may lack files, because other programs download only the files that they need into the same cache.
    """
    if is_adapter_alone(folder):
        return [] if (folder / ADAPTER_WEIGHTS).is_file() else [ADAPTER_WEIGHTS]
    # A link without its file in the cache is a missing file here.
    weights = [name for name in (SINGLE, INDEX) if (folder / name).is_symlink() and not (folder / name).is_file()] or weight_names(folder)
    needed = [name for name in (CONFIG, *weights) if not (folder / name).is_file()]
    return sorted((*needed, *missing_tokenizer(folder)), key=(CONFIG, TOKENIZER, *weights).index)


def _remove_empty(target: Path) -> None:
    """Remove the empty folders that ModelScope's client made before its download failed."""
    for folder in (*sorted(target.rglob("*"), reverse=True), target):
        if is_folder(folder) and not folder.is_symlink() and next(folder.iterdir(), None) is None:
            folder.rmdir()


def _whole(folder: Path, model: str, hub: str) -> Path:
    if missing := missing_files(folder):
        raise ModelNotFound(f"{hub} has {model}, but without {', '.join(missing)}", advice="Use a model with safetensors weights")
    return folder


def named(model: str, revision: str | None) -> str:
    """A model's name with its revision, for messages."""
    return model if revision is None else f"{model} (revision {revision!r})"


def clean(text: str) -> str:
    """The text without credentials in URLs."""
    return re.sub(r"://[^/@\s]*@", "://", text)


def _reason(error: BaseException) -> str:
    """A client's error in one line. For the error "not in the cache either", this is the underlying answer of the hub."""
    if isinstance(error, FileNotFoundError) and error.__cause__ is not None:
        error = error.__cause__
    return clean(f"{type(error).__name__}: {' '.join(str(error).split()) or 'no reason given'}"[:600]).rstrip(".")
