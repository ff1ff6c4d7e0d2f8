"""Checkpoints in 4 bits, as GPTQ and AWQ store them, and the same numbers in full: what they must be read as.

The layouts are those of AutoGPTQ (`checkpoint_format` gptq, symmetric) and AutoAWQ (`version` gemm).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file, save_file

Method = Literal["gptq", "awq"]

GROUP = 32
"""Inputs that share a scale."""

_IN_ORDER = (0, 1, 2, 3, 4, 5, 6, 7)
_INTERLEAVED = (0, 2, 4, 6, 1, 3, 5, 7)
_SAID = {
    "gptq": {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": False, "sym": True},
    "awq": {"quant_method": "awq", "bits": 4, "group_size": GROUP, "zero_point": True, "version": "gemm"},
}


def write_quantised(folder: Path, source: Path, method: Method) -> tuple[Path, Path]:
    """Write a model's matrices in 4 bits, and another folder with what these are, in float32."""
    full = folder.with_name(f"{folder.name}-in-full")
    for place in (folder, full):
        shutil.copytree(source, place, dirs_exist_ok=True)
    stored: dict[str, torch.Tensor] = {}
    exact: dict[str, torch.Tensor] = {}
    for name, tensor in load_file(source / "model.safetensors").items():
        if name.endswith("_proj.weight"):
            parts, exact[name] = _quantised(tensor.float(), method)
            stored |= {name.removesuffix("weight") + part: value for part, value in parts.items()}
        else:
            stored[name] = exact[name] = tensor
    config = json.loads((source / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": _SAID[method], "torch_dtype": "bfloat16"}))
    (full / "config.json").write_text(json.dumps(config | {"torch_dtype": "float32"}))
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    save_file(exact, full / "model.safetensors", metadata={"format": "pt"})
    return folder, full


def _quantised(matrix: torch.Tensor, method: Method) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """What is stored of a matrix, shape (outputs, inputs), and what that is."""
    groups = matrix.t().unflatten(0, (-1, GROUP))
    if method == "gptq":  # around 8
        scales = groups.abs().amax(1, keepdim=True) / 7
        zeros = torch.full_like(scales, 8)
    else:
        low, high = groups.amin(1, keepdim=True), groups.amax(1, keepdim=True)
        scales = (high - low) / 15
        zeros = (-low / scales).round().clamp(0, 15)
    scales = scales.bfloat16().float()
    levels = (groups / scales + zeros).round().clamp(0, 15)
    exact = ((levels - zeros) * scales).flatten(0, 1).t().contiguous()
    flat, zeros, scales = levels.flatten(0, 1), zeros[:, 0], scales[:, 0].bfloat16()
    if method == "awq":
        return {"qweight": _packed(flat, _INTERLEAVED), "qzeros": _packed(zeros, _INTERLEAVED), "scales": scales}, exact
    weight = _packed(flat.t(), _IN_ORDER).t().contiguous()  # along the inputs, AWQ along the outputs
    group_of = torch.arange(len(flat), dtype=torch.int32) // GROUP
    return {"qweight": weight, "qzeros": _packed(zeros - 1, _IN_ORDER), "g_idx": group_of, "scales": scales}, exact


def _packed(levels: torch.Tensor, order: Sequence[int]) -> torch.Tensor:
    """Eight numbers below 16 in an int32, along the last axis; the first of `order` in the lowest bits."""
    eights = levels.unflatten(-1, (-1, 8)).long()
    whole = torch.stack([eights[..., column] << (4 * place) for place, column in enumerate(order)]).sum(0)
    return torch.where(whole < 1 << 31, whole, whole - (1 << 32)).int()
