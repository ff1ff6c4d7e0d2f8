"""Pickled weights can run code when they are loaded, so none ever is: which files and which ways of loading are safe.

Source: Python's documentation of `pickle`; vLLM's and SGLang's `load_format`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from qwen3_integrations.errors import ConfigError, ModelNotFound
from qwen3_integrations.models.folders import other_format
from qwen3_integrations.models.json_files import file_exists, read_text

SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
"""Endings of the names of files that hold pickled weights."""

SAFE_LOAD_FORMATS = frozenset(
    {
        *("auto", "hf", "safetensors", "fastsafetensors", "instanttensor", "mistral", "runai_streamer", "runai_streamer_sharded"),
        *("sharded_state", "layered", "bitsandbytes", "gguf", "dummy"),
    }
)
"""Ways in which vLLM and SGLang load no pickle where a folder has safetensors weights. Others are refused: `pt` and `npcache` read
pickled weights, `ipc_cache` reads pickles from a socket, and what a plugin reads is not known."""


def check_load_format(value: object, option: str) -> None:
    """Refuse a way of loading that reads pickles, or that is not known to read none; vLLM does not look at the case.

    Args:
        value: The `load_format`.
        option: Its name, for the message.

    Raises:
        ConfigError: Names what may be used.
    """
    if not isinstance(value, str) or value.lower() not in SAFE_LOAD_FORMATS:
        raise ConfigError(
            f"{option}={value!r} may read pickled weights, which can run code: leave it out, or use one of "
            f"{', '.join(sorted(SAFE_LOAD_FORMATS))}"
        )


def pickles_in(folder: Path) -> list[str]:
    """The names of a folder's files that hold pickled weights, sorted."""
    return sorted(path.name for path in folder.iterdir() if path.suffix in SUFFIXES) if folder.is_dir() else []


def indexed_files(index: Path) -> list[str]:
    """The names of the files in an index of weights, sorted, each once.

    Raises:
        ModelNotFound: If it names none, or another file than a safetensors file of its own folder: engines by themselves fall back on
            pickles then. They do not look for hidden files.
        ConfigError: If it can't be read as text.
    """
    try:
        names = set(json.loads(read_text(index))["weight_map"].values())
    except ConfigError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        names = set()
    if not names:
        raise ModelNotFound(
            f"{index} names no file of weights: its download is not complete, or it is damaged", advice="Download the model again"
        )
    for name in names:
        if not isinstance(name, str) or not _is_own_file(name):
            raise ModelNotFound(f"{index} names {name!r}, which is no safetensors file of this folder: {_conversion(index.parent)}")
    return sorted(names)


def _is_own_file(name: str) -> bool:
    """Whether it is the name of a safetensors file beside the index that servers look for."""
    return name.endswith(".safetensors") and name.isprintable() and not name.startswith(".") and Path(name).name == name


def check_layers(folder: Path) -> None:
    """Prove that no layer beside the model, which `modules.json` of sentence-transformers names, has only pickled weights.

    Raises:
        ModelNotFound: Names the file. Also if `modules.json` is damaged.
        ConfigError: If it can't be read as text.
    """
    listed = folder / "modules.json"
    if not file_exists(listed):
        return
    text = read_text(listed)
    try:
        modules = json.loads(text)
    except (ValueError, RecursionError):
        raise ModelNotFound(
            f"{listed} can't be read: its download is not complete, or it is damaged", advice="Download the model again"
        ) from None
    for path in [str(module.get("path") or "") for module in modules if isinstance(module, dict)] if isinstance(modules, list) else []:
        if path:
            check_layer(folder / path)


def check_layer(folder: Path) -> None:
    """Prove that a layer beside the model has not only pickled weights.

    Args:
        folder: The layer's folder.

    Raises:
        ModelNotFound: Names the file.
    """
    if (pickles := pickles_in(folder)) and not (folder / "model.safetensors").is_file():
        raise ModelNotFound(
            f"{folder} has no safetensors weights, only pickled ones ({', '.join(pickles)}), which can run code and are never loaded",
            advice="Save the model again with sentence-transformers, where you trust its source: "
            f"SentenceTransformer({str(folder.parent)!r}).save_pretrained(FOLDER) writes model.safetensors for that layer too",
        )


def missing_weights(folder: Path, missing: Sequence[str]) -> ModelNotFound:
    """The error for a folder that lacks safetensors files.

    Args:
        folder: The model's folder.
        missing: The files that it lacks.
    """
    if pickles := pickles_in(folder):
        return ModelNotFound(
            f"{folder} has no safetensors weights, only pickled ones ({', '.join(pickles)}), which can run code and are never loaded: "
            f"{_conversion(folder)}"
        )
    if other := other_format(folder):
        return other
    named = sorted(path.name for path in folder.glob("*.safetensors") if not path.name.startswith("adapter"))
    if named and list(missing) == ["model.safetensors"]:
        return ModelNotFound(
            f"{folder} lacks {', '.join(missing)}; it has {', '.join(named)}, but no index that names them",
            advice="Download the model again, or rename a single file to model.safetensors",
        )
    return ModelNotFound(
        f"{folder} lacks {', '.join(missing)}: the model has no safetensors weights, or its download is not complete",
        advice="Download the model again",
    )


def _conversion(folder: Path) -> str:
    return (
        "convert them where you trust their source, with transformers: "
        f"AutoModel.from_pretrained({str(folder)!r}).save_pretrained(FOLDER), or AutoModelForCausalLM for a reranker, writes safetensors"
    )


def check_adapter(value: str) -> None:
    """Prove that an adapter (LoRA) that a server is given is a folder on this machine, with safetensors weights.

    Args:
        value: As vLLM and SGLang spell it: `NAME=FOLDER`, `FOLDER`, or JSON with a `path` or `lora_path`.

    Raises:
        ConfigError: If it is not.
    """
    try:
        given = json.loads(value)
    except ValueError:
        given = value.partition("=")[2] or value
    each = given if isinstance(given, list) else [given]
    for one in each:
        paths = [one[name] for name in ("path", "lora_path") if name in one] if isinstance(one, dict) else [one]
        if not paths or not all(path and (Path(str(path)) / "adapter_model.safetensors").is_file() for path in paths):
            raise ConfigError(
                f"the adapter {value!r} is no folder with adapter_model.safetensors: pickled weights can run code and are never loaded, "
                "so name a folder on this machine that holds it"
            )
