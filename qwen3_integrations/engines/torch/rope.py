"""Rotary position embedding (RoPE): the angle of each pair of dimensions, also for models whose context was extended.

Source: `modeling_rope_utils.py` of transformers 5.19; YaRN: https://arxiv.org/abs/2309.00071.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.torch_support import SCALINGS

Tensor = torch.Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Rope:
    """The rotation of a model.

    Attributes:
        frequencies: Angle of each pair of dimensions per position, shape (head dim / 2,).
        factor: Factor on cosines and sines; 1 without YaRN.
    """

    frequencies: Tensor
    factor: float = 1.0

    def angles(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosine and sine of the rotation of each token, shape (tokens, head dim / 2).

        Args:
            positions: Shape (tokens,).
            dtype: Number format of the results.
        """
        angles = torch.outer(positions.float(), self.frequencies)
        if self.factor == 1.0:
            return angles.cos().to(dtype), angles.sin().to(dtype)
        return angles.cos().mul_(self.factor).to(dtype), angles.sin().mul_(self.factor).to(dtype)


def read_rope(config: Mapping[str, Any], head_dim: int, folder: Path, device: torch.device) -> Rope:
    """The rotation that a config declares, in `rope_parameters` or the older `rope_scaling`.

    Args:
        config: The content of `config.json`.
        head_dim: Width of one head.
        folder: The model's folder, for messages.
        device: Device of the frequencies.

    Raises:
        ConfigError: For a scaling that this engine does not compute, or one of its numbers that is missing.
    """
    field = "rope_scaling" if config.get("rope_scaling") else "rope_parameters"  # transformers takes the old one where there are two
    declared = config.get(field) or {}
    where = f"{folder / 'config.json'}: {field}"
    if not isinstance(declared, Mapping):
        raise ConfigError(f"{where} must be an object, not {declared!r}")
    kind = declared.get("rope_type") or declared.get("type") or "default"
    if kind not in SCALINGS:
        reason = f"{where} has the scaling {kind!r}, which the torch engine does not support; it supports yarn and linear"
        raise ConfigError(reason, advice="Use the vllm engine")
    if declared.get("partial_rotary_factor", config.get("partial_rotary_factor")) not in (None, 1, 1.0):
        raise ConfigError(f"{where} rotates only a part of each head (partial_rotary_factor), which the torch engine does not support")
    base = float(declared.get("rope_theta") or config.get("rope_theta") or 10000.0)
    steps = torch.arange(0, head_dim, 2, dtype=torch.float32, device=device) / head_dim
    frequencies = 1.0 / base**steps
    if kind == "default":
        return Rope(frequencies)
    factor = _number(declared, "factor", where)
    return Rope(frequencies / factor) if kind == "linear" else _yarn(declared, config, where, frequencies, base, factor)


def _yarn(declared: Mapping[str, Any], config: Mapping[str, Any], where: str, frequencies: Tensor, base: float, factor: float) -> Rope:
    """Slow rotations are interpolated, fast ones stay, those between are mixed."""
    pairs = len(frequencies)
    original = declared.get("original_max_position_embeddings") or config.get("max_position_embeddings")
    original = _number({"original_max_position_embeddings": original}, "original_max_position_embeddings", where)
    fast, slow = (_number({name: declared.get(name) or default}, name, where) for name, default in (("beta_fast", 32), ("beta_slow", 1)))

    def dimension(rotations: float) -> float:
        """The dimension that makes so many rotations over the original context."""
        return 2 * pairs * math.log(original / (rotations * 2 * math.pi)) / (2 * math.log(base))

    first, last = dimension(fast), dimension(slow)
    if declared.get("truncate", True):
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, 2 * pairs - 1)
    if first == last:
        last += 0.001
    ramp = ((torch.arange(pairs, dtype=torch.float32, device=frequencies.device) - first) / (last - first)).clamp(0, 1)
    return Rope(frequencies / factor * ramp + frequencies * (1 - ramp), _attention_factor(declared, factor))


def _attention_factor(declared: Mapping[str, Any], factor: float) -> float:
    def magnitude(weight: float = 1.0) -> float:
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    if declared.get("attention_factor") is not None:
        return float(declared["attention_factor"])
    if declared.get("mscale") and declared.get("mscale_all_dim"):
        return magnitude(float(declared["mscale"])) / magnitude(float(declared["mscale_all_dim"]))
    return magnitude()


def _number(declared: Mapping[str, Any], name: str, where: str) -> float:
    value = declared.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise ConfigError(f"{where}: {name} must be a number above 0, not {value!r}")
    return float(value)
