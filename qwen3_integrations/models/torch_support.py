"""What the torch engine computes of a model's folder: the reason why it can't, without an import of PyTorch."""

from __future__ import annotations

from qwen3_integrations.models.checkpoint import ModelFiles
from qwen3_integrations.models.folders import CONFIG

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
    return None
