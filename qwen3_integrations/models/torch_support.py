"""What the torch engine computes of a model's folder: the reason why it can't, without an import of PyTorch."""

from __future__ import annotations

from qwen3_integrations.models.checkpoint import ModelFiles
from qwen3_integrations.models.folders import CONFIG

SCALINGS = ("default", "linear", "yarn")
"""The kinds of RoPE scaling that the torch engine computes."""

_FULL_LAYERS, _WINDOW = 28, 4096
"""What a config means that leaves out `max_window_layers` or `sliding_window`. Source: `Qwen3Config` of transformers 5.19."""

_UNSUPPORTED = {"attention_bias": "uses a bias in attention", "quantization_config": "is quantised"}


def torch_refusals(files: ModelFiles) -> str | None:
    """Why the torch engine can't compute a model; None where it can.

    Args:
        files: The model on disk.

    Returns:
        One sentence with file and field.
    """
    for field, finding in _UNSUPPORTED.items():
        if files.config.get(field):
            return f"{files.folder} {finding} ({field} in {CONFIG}), which the torch engine does not support; use the vllm engine"
    activation = files.config.get("hidden_act", "silu")
    if activation != "silu":
        return f"{files.folder} uses the activation {activation!r} instead of 'silu' (hidden_act in {CONFIG}): it is not a Qwen3 model"
    return _window(files) or _scaling(files)


def _window(files: ModelFiles) -> str | None:
    """A sliding window that would change a number. One that covers the context, or is in no layer, has no effect."""
    config, path = files.config, files.folder / CONFIG
    listed = config.get("layer_types")
    if listed is not None and (other := sorted(map(repr, set(listed) - {"full_attention", "sliding_attention"}))):
        return f"{path}: layer_types has {', '.join(other)}, which the torch engine does not support"
    if listed is not None:
        field, slides = "layer_types", "sliding_attention" in listed
    else:
        field = "use_sliding_window"
        full = config.get("max_window_layers")
        slides = bool(config.get(field)) and (_FULL_LAYERS if full is None else full) < files.shape.layers
    window = config.get("sliding_window", _WINDOW)
    if slides and window is not None and window < config["max_position_embeddings"]:
        return (
            f"{path} uses a sliding window ({field}, sliding_window {window}), which the torch engine does not support; use the vllm engine"
        )
    return None


def _scaling(files: ModelFiles) -> str | None:
    field = "rope_scaling" if files.config.get("rope_scaling") else "rope_parameters"
    declared = files.config.get(field) or {}
    kind = declared.get("rope_type") or declared.get("type") or "default"
    if kind == "yarn" and files.config.get("original_max_position_embeddings"):
        return (
            f"{files.folder / CONFIG} has original_max_position_embeddings beside the RoPE scaling, which the torch engine does not "
            "support: move it into rope_scaling"
        )
    if kind in SCALINGS:
        return None
    return f"{files.folder / CONFIG}: {field} has the scaling {kind!r}, which the torch engine does not support; use the vllm engine"
