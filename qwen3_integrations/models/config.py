"""`config.json` of a model's folder, and the check of the fields that this package reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.folders import CONFIG, check_folder, check_known_quantisation, no_config
from qwen3_integrations.models.json_files import file_exists, read_object

CLASSIFIER = "Qwen3ForSequenceClassification"
ARCHITECTURES = ("Qwen3ForCausalLM", "Qwen3Model", CLASSIFIER)
"""The classes of transformers whose checkpoints this package reads."""

_SIZES = ("hidden_size", "intermediate_size", "max_position_embeddings", "num_attention_heads", "num_hidden_layers", "vocab_size")
_LARGEST_SIZE = 1 << 31
_LARGEST_NUMBER = 1e30
_MOST_LAYERS = 4096


def read_config(folder: Path) -> dict[str, Any]:
    """The content of a folder's `config.json`.

    Raises:
        ModelNotFound: If the folder can't be read, or has none.
        ConfigError: If the file is damaged.
    """
    check_folder(folder)
    path = folder / CONFIG
    if not file_exists(path):
        raise no_config(folder)
    return read_object(path)


def check_config(config: Mapping[str, Any], folder: Path) -> None:
    """Check the fields that this package reads.

    Args:
        config: The content of the folder's `config.json`.
        folder: The folder, for messages.

    Raises:
        ConfigError: If it is not a Qwen3 model, or a field is missing or of the wrong type; names file and field.
    """
    path = folder / CONFIG
    if config.get("model_type") != "qwen3":
        raise ConfigError(
            f"{folder} contains a {config.get('model_type')!r} model (model_type in {CONFIG}), but this package runs only "
            "Qwen3-Embedding and Qwen3-Reranker",
            advice="Open a Qwen3-Embedding or a Qwen3-Reranker, or a fine-tune of one",
        )
    check_known_quantisation(folder, config)
    _check_architectures(config, path)
    for name in _SIZES:
        if config.get(name) is None:
            raise ConfigError(f"{path} has no {name!r}: it is not complete", advice="Download the model again")
    for name, (is_valid, wanted) in _CHECKS.items():
        value = config.get(name)
        if value is not None and not is_valid(value):
            raise ConfigError(
                f"{path}: {name} must be {wanted}, not {_short(value)}", advice="Correct the file, or download the model again"
            )
    _check_rope(config, path)
    heads, kv_heads = config["num_attention_heads"], config.get("num_key_value_heads")
    if kv_heads and heads % kv_heads:
        raise ConfigError(
            f"{path}: num_attention_heads is {heads}, which is not a multiple of num_key_value_heads, {kv_heads}",
            advice="Correct the file, or download the model again",
        )
    if config.get("is_causal") is False:
        raise ConfigError(
            f"{path}: is_causal is false, but this package computes causal attention only, as the published models do",
            advice="Run the model with sentence-transformers",
        )


def _check_architectures(config: Mapping[str, Any], path: Path) -> None:
    given = config.get("architectures")
    if given is None or given == []:
        said = "is null" if "architectures" in config else "is missing"
        raise ConfigError(
            f"{path}: architectures {said if given is None else 'is empty'}, so it is not known which model the weights are",
            advice=f'Set "architectures" to ["Qwen3ForCausalLM"] for a published model or a fine-tune of one, or to ["{CLASSIFIER}"] for '
            "a reranker with a score.weight",
        )
    if not isinstance(given, list) or len(given) != 1 or given[0] not in ARCHITECTURES:
        raise ConfigError(
            f"{path}: architectures must be a list of one of {', '.join(ARCHITECTURES)}, not {_short(given)}",
            advice="Correct the file, or download the model again",
        )


def _check_rope(config: Mapping[str, Any], path: Path) -> None:
    for field in ("rope_parameters", "rope_scaling"):
        rope = config.get(field) or {}
        for name in _ROPE_NUMBERS & rope.keys():
            if rope[name] is not None and not _is_positive(rope[name]):
                raise ConfigError(
                    f"{path}: {name} in {field} must be a number above 0, not {_short(rope[name])}",
                    advice="Correct the file, or download the model again",
                )
        for name in ("rope_type", "type"):
            if not isinstance(rope.get(name, ""), str):
                raise ConfigError(
                    f"{path}: {name} in {field} must be a string, not {_short(rope[name])}",
                    advice="Correct the file, or download the model again",
                )
        if (theta := rope.get("rope_theta")) is not None and theta <= 1:
            raise ConfigError(
                f"{path}: rope_theta in {field} must be above 1, not {_short(theta)}",
                advice="Correct the file, or download the model again",
            )
    if (theta := config.get("rope_theta")) is not None and theta <= 1:
        raise ConfigError(
            f"{path}: rope_theta must be above 1, not {_short(theta)}", advice="Correct the file, or download the model again"
        )


_ROPE_NUMBERS = {
    *("rope_theta", "factor", "original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim"),
}


def _is_size(value: object, most: int = _LARGEST_SIZE) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= most


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < _LARGEST_NUMBER


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


_SIZE = (_is_size, "a whole number of at least 1")
_POSITIVE = (_is_positive, "a number above 0")
_OBJECT = (_is_object, "an object")
_FLAG = (lambda value: isinstance(value, bool), "true or false")
_TEXT = (lambda value: isinstance(value, str), "a string")

_CHECKS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    **dict.fromkeys((*_SIZES, "head_dim", "num_key_value_heads"), _SIZE),
    "num_hidden_layers": (lambda value: _is_size(value, _MOST_LAYERS), f"a whole number from 1 to {_MOST_LAYERS}"),
    **dict.fromkeys(("rms_norm_eps", "rope_theta"), _POSITIVE),
    **dict.fromkeys(("rope_parameters", "rope_scaling", "quantization_config"), _OBJECT),
    **dict.fromkeys(("tie_word_embeddings", "use_sliding_window", "attention_bias"), _FLAG),
    **dict.fromkeys(("dtype", "torch_dtype", "hidden_act"), _TEXT),
    **dict.fromkeys(("max_window_layers", "sliding_window"), (lambda value: value == 0 or _is_size(value), "a whole number")),
    "layer_types": (lambda value: isinstance(value, list) and all(isinstance(each, str) for each in value), "a list of strings"),
}
"""Fields that may be left out or null, and what they must be otherwise."""


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
