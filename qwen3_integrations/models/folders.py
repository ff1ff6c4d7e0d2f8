"""A path that should be a model's folder: whether it is one, and which other format a folder without a Qwen3 model's files has."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qwen3_integrations.errors import ConfigError, ModelNotFound
from qwen3_integrations.models.json_files import file_exists, read_json

CONFIG = "config.json"
MODULES = "modules.json"


def check_folder(folder: Path) -> None:
    """Prove that a path is a folder that can be read.

    Raises:
        ModelNotFound: Says what it is instead.
    """
    try:
        next(folder.iterdir(), None)
    except FileNotFoundError:
        if folder.is_symlink():
            raise ModelNotFound(f"{str(folder)!r} is a link to {folder.readlink()}, which does not exist") from None
        raise ModelNotFound(f"the folder {str(folder)!r} does not exist") from None
    except NotADirectoryError:
        if not os.path.lexists(folder):
            raise ModelNotFound(f"the folder {str(folder)!r} does not exist: a part of its path is a file") from None
        advice = f"Pass the folder that holds it: {str(folder.parent)!r}" if (folder.parent / CONFIG).is_file() else None
        raise ModelNotFound(f"{str(folder)!r} is a file, but a model is a folder of files", advice=advice) from None
    except OSError as error:
        reason = "its links form a circle" if error.errno == errno.ELOOP else error.strerror or str(error)
        raise ModelNotFound(f"the folder {str(folder)!r} can't be read: {reason}", advice="Check its path and its permissions") from error
    except ValueError as error:  # a zero byte
        raise ModelNotFound(f"{str(folder)!r} can't be a folder: {error}") from None


def is_folder(path: Path) -> bool:
    """Whether there is a folder that can be looked at."""
    try:
        return path.is_dir()
    except OSError:  # out of reach, or a name that is too long
        return False


def no_config(folder: Path) -> ModelNotFound:
    """The error for a folder without `config.json`, by what it holds instead."""
    if inside := _old_transformer(folder):
        return ModelNotFound(
            f"{folder} has no {CONFIG}: {folder / MODULES} says that the model is in the subfolder {inside!r}, as old versions of "
            "sentence-transformers saved it",
            advice=_saved_again(folder),
        )
    return other_format(folder) or ModelNotFound(
        f"{folder} has no {CONFIG}: it is not a model folder, or its download is not complete", advice="Download the model again"
    )


def other_format(folder: Path) -> ModelNotFound | None:
    """The error for a folder that holds a model in another format only; None if none is known."""
    names = sorted(path.name for path in folder.iterdir())
    if ggufs := [name for name in names if name.endswith(".gguf")]:
        return ModelNotFound(
            f"{folder} holds a model in the GGUF format ({', '.join(ggufs)}), which this package does not load",
            advice="Serve it with llama.cpp (llama-server --embedding or --reranking) and pass base_url, or download the safetensors model",
        )
    for suffix, title in _FORMATS.items():
        if found := [name for name in names if name.endswith(suffix)]:
            return ModelNotFound(
                f"{folder} holds a model in the {title} format ({', '.join(found)}), which this package does not load",
                advice="Download the safetensors model",
            )
    return None


_FORMATS = {".onnx": "ONNX", ".h5": "Keras", ".msgpack": "Flax", ".mlpackage": "Core ML", ".pte": "ExecuTorch"}


def check_known_quantisation(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse a model that MLX quantised: its config declares it in MLX's own form.

    Raises:
        ConfigError: Names the field.
    """
    declared = config.get("quantization_config")
    for field, value in (("quantization", config.get("quantization")), ("quantization_config", declared)):
        if isinstance(value, Mapping) and "group_size" in value and "bits" in value and not _method(declared):
            raise ConfigError(
                f"{folder / CONFIG} declares {field} in the form of MLX ({value['bits']} bits, groups of {value['group_size']}), whose "
                "quantised weights this package does not load",
                advice="Download the original model, or serve this one with MLX's own server and pass base_url",
            )
    if declared and not _method(declared):
        raise ConfigError(
            f"{folder / CONFIG}: quantization_config has no quant_method, so it is not known how to read the weights",
            advice="Correct the file, or download the model again",
        )


def _method(declared: object) -> object:
    return declared.get("quant_method") if isinstance(declared, Mapping) else None


def check_declared_quantisation(folder: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse quantised tensors that `config.json` does not declare, as old tools wrote them.

    Args:
        folder: The model's folder.
        shapes: Shapes of the stored tensors, by name.

    Raises:
        ConfigError: Names a tensor and the field that is missing.
    """
    found = next((name for name in shapes if name.endswith(_QUANTISED)), None)
    if found is None:
        return
    old = next((name for name in ("quantize_config.json", "quant_config.json") if file_exists(folder / name)), None)
    what = f"Add the content of {old} to it as quantization_config, with a quant_method" if old else "Add quantization_config to it"
    raise ConfigError(
        f"{folder} has quantised weights ({found!r}), as GPTQ or AWQ write them, but {folder / CONFIG} has no quantization_config",
        advice=f"{what} such as 'gptq' or 'awq', and use the vllm engine; or download the original model",
    )


_QUANTISED = (".qweight", ".qzeros", ".scales", ".g_idx", ".quant_state.bitsandbytes__nf4", ".quant_state.bitsandbytes__fp4", ".SCB")
"""Endings of the names of quantised tensors: GPTQ, AWQ, MLX, bitsandbytes."""


def _old_transformer(folder: Path) -> str | None:
    """The subfolder of the transformer in the old layout of sentence-transformers."""
    if not file_exists(folder / MODULES):
        return None
    listed = read_json(folder / MODULES)
    first = listed[0] if isinstance(listed, list) and listed else None
    path = first.get("path") if isinstance(first, dict) else None
    return path if isinstance(path, str) and path and (folder / path / CONFIG).is_file() else None


def _saved_again(folder: Path) -> str:
    return f"Save it again with a current sentence-transformers: SentenceTransformer({str(folder)!r}).save_pretrained(FOLDER)"
