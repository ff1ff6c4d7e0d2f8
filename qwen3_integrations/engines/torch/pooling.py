"""From hidden states to vectors: the pooling and the layers that a folder declares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch.nn.functional import linear, normalize

from qwen3_integrations.core.types import Prompt
from qwen3_integrations.engines.torch.packing import PackedBatch
from qwen3_integrations.models.modules import Dense, EmbeddingModules, Normalize
from qwen3_integrations.models.weights import StoredWeights

Layer = Callable[[torch.Tensor], torch.Tensor]


class VectorHead:
    """Pools hidden states, and computes the layers behind the pooling in float32.

    Args:
        modules: What the model's folder declares.
        device: Device of the hidden states.

    Attributes:
        reads_all_tokens: Whether the pooling needs the hidden states of all tokens, not only of the last ones.
    """

    def __init__(self, modules: EmbeddingModules, device: torch.device) -> None:
        self.reads_all_tokens = modules.pooling.mode != "lasttoken"
        self._pooling = modules.pooling
        layers = modules.layers[:-1] if modules.layers[-1:] == (Normalize(),) else modules.layers  # the embedder normalises all vectors
        self._layers = [_dense(layer, device) if isinstance(layer, Dense) else _unit_length for layer in layers]

    def pool(self, states: torch.Tensor, batch: PackedBatch, prompts: Sequence[Prompt]) -> torch.Tensor:
        """Pool the hidden states of all tokens.

        Args:
            states: Shape (tokens, hidden size), float32.
            batch: Packed without shared prefixes.
            prompts: The prompts of the batch.

        Returns:
            Shape (prompts, hidden size).
        """
        begins = np.asarray([begin for begin, _ in pairwise(batch.cu_seqlens)])
        ends = batch.cu_seqlens[1:]
        begins = np.minimum(begins + [0 if self._pooling.include_prompt else prompt.unpooled for prompt in prompts], ends)
        if self._pooling.mode == "cls":
            return states[torch.from_numpy(np.minimum(begins, ends - 1).astype(np.int64)).to(states.device)]
        lengths = ends - begins
        kept = np.concatenate([np.arange(begin, end) for begin, end in zip(begins, ends, strict=True)])
        prompt_of = np.repeat(np.arange(len(prompts)), lengths)
        kept_at, prompt_at = (torch.from_numpy(each.astype(np.int64)).to(states.device) for each in (kept, prompt_of))
        sums = torch.zeros(len(prompts), states.shape[1], dtype=states.dtype, device=states.device).index_add_(
            0, prompt_at, states[kept_at]
        )
        return sums / torch.from_numpy(np.maximum(lengths, 1).astype(np.float32)).to(states.device)[:, None]

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Compute the layers behind the pooling: shape (prompts, hidden size) to (prompts, width of a vector)."""
        for layer in self._layers:
            rows = layer(rows)
        return rows


def _unit_length(rows: torch.Tensor) -> torch.Tensor:
    return normalize(rows, dim=-1)


def _dense(layer: Dense, device: torch.device) -> Layer:
    stored = {name: read().float().to(device) for name, read in StoredWeights(layer.folder).tensors()}
    weight, bias = stored["linear.weight"], stored.get("linear.bias")
    activation = getattr(torch.nn, layer.activation)()
    return lambda rows: activation(linear(rows, weight, bias))
