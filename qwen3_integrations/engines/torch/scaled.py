"""Matrices in FP8 with a scale for each row, and their products."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import linear

from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.shapes import ModelShape

Tensor = torch.Tensor

FORMAT = torch.float8_e4m3fn
"""Four bits of exponent, three of mantissa: the format of the published FP8 checkpoints, and of vLLM."""

LARGEST = 448.0
"""The largest number of the format."""

SMALLEST_ROW = 1e-12
"""A row whose largest value is smaller counts as zeros."""

_CHUNK_ROWS = 1024
"""Rows that are quantised at once while weights are read: the float32 copies stay small."""

_ALIGNED = 16
"""The GPU's products need rows of a multiple of so many values. Source: PyTorch's `_scaled_mm`."""


@dataclass(frozen=True, slots=True, eq=False)
class Scaled:
    """A matrix in FP8: row i is `values[i] * scales[i]`.

    Attributes:
        values: float8_e4m3fn, shape (rows, columns).
        scales: float32, shape (rows,).
    """

    values: Tensor
    scales: Tensor

    @classmethod
    def empty(cls, rows: int, columns: int, device: torch.device) -> Scaled:
        """A matrix without values."""
        return cls(torch.empty((rows, columns), dtype=FORMAT, device=device), torch.empty(rows, dtype=torch.float32, device=device))

    @property
    def shape(self) -> torch.Size:
        """Rows and columns."""
        return self.values.shape

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: slice | Tensor) -> Scaled:
        if isinstance(rows, slice):
            return Scaled(self.values[rows], self.scales[rows])
        return Scaled(self.values.view(torch.uint8)[rows].view(FORMAT), self.scales[rows])

    def copy_(self, stored: Tensor) -> None:
        """Quantise a matrix of the same shape into this one, on this one's device, a part of the rows at a time."""
        for rows in (slice(begin, begin + _CHUNK_ROWS) for begin in range(0, len(self), _CHUNK_ROWS)):
            quantised = quantise(stored[rows].to(self.values.device))
            self.values[rows].copy_(quantised.values)
            self.scales[rows].copy_(quantised.scales)

    def float(self) -> Tensor:
        """The matrix in float32."""
        return self.values.float() * self.scales[:, None]


def quantise(matrix: Tensor) -> Scaled:
    """Quantise a matrix to FP8, each row by its largest value."""
    exact = matrix.float()
    largest = exact.abs().amax(dim=1).clamp_(min=SMALLEST_ROW)
    return Scaled((exact * (LARGEST / largest)[:, None]).clamp_(-LARGEST, LARGEST).to(FORMAT), largest / LARGEST)


def product(states: Scaled, weight: Scaled) -> Tensor:
    """The product `states @ weight.T`.

    On CUDA by the FP8 units, with fast accumulation; elsewhere in float32 from the same values.

    Returns:
        bfloat16, shape (rows of the states, rows of the weight).
    """
    if states.values.device.type != "cuda":
        return linear(states.float(), weight.float()).bfloat16()
    return torch._scaled_mm(
        states.values, weight.values.t(), scale_a=_aligned(states.scales)[:, None], scale_b=_aligned(weight.scales)[None],
        out_dtype=torch.bfloat16, use_fast_accum=True,
    )  # fmt: skip


def _aligned(scales: Tensor) -> Tensor:
    """The scales, copied where they begin in the middle of 16 bytes, as some slices do: cuBLAS refuses those."""
    return scales.clone() if scales.data_ptr() % 16 else scales


def check_support(device: torch.device, shape: ModelShape) -> None:
    """Check that a device computes a model in FP8.

    Raises:
        ConfigError: If it does not; the message says what FP8 needs.
    """
    advice = "Use dtype bfloat16 (or auto), or the vllm engine with quantization='fp8'"
    if found := _without_units(device):
        raise ConfigError(
            f"fp8 needs an NVIDIA GPU with FP8 units (compute capability 8.9 or later: Ada, Hopper, Blackwell), but {found}",
            option="dtype",
            advice=advice,
        )
    widths = (shape.hidden_size, shape.intermediate_size, shape.query_heads * shape.head_dim, shape.kv_heads * shape.head_dim)
    if any(width % _ALIGNED for width in widths):
        raise ConfigError(
            f"fp8 needs matrices whose sides are multiples of {_ALIGNED}, but this model has the sides {', '.join(map(str, widths))}",
            option="dtype",
            advice=advice,
        )
    try:
        ones = quantise(torch.ones((_ALIGNED, _ALIGNED), device=device))
        works = bool((product(ones, ones) == _ALIGNED).all())
    except (RuntimeError, NotImplementedError) as error:
        raise ConfigError(f"fp8 products fail on {device}: {str(error)[:300]}", option="dtype", advice=advice) from error
    if not works:
        raise ConfigError(f"fp8 products on {device} give wrong numbers with PyTorch {torch.__version__}", option="dtype", advice=advice)


def _without_units(device: torch.device) -> str | None:
    """Why a device has no FP8 units that this engine uses; None if it has them."""
    if device.type != "cuda":
        return f"the device is {device.type}"
    if torch.version.hip is not None:
        return "this is a build of PyTorch for AMD"
    capability = torch.cuda.get_device_capability(device)
    if capability >= (8, 9):
        return None
    return f"{torch.cuda.get_device_name(device)} has compute capability {'.'.join(map(str, capability))}"
