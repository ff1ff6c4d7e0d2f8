"""Small passes on CUDA as captured graphs: a query takes the time of its kernels, not of their launches."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from qwen3_integrations.core.types import Prompt
from qwen3_integrations.engines.torch.attention import Bounds, Kernel, KernelAttention
from qwen3_integrations.engines.torch.memory_plan import CAPTURED_TOKENS
from qwen3_integrations.engines.torch.packing import Pack, own_tokens
from qwen3_integrations.engines.torch.qwen3 import Parts, Qwen3

SIZES = (32, 64, 128, 256, 512, 768, 1024, 1536, 2048, 3072, CAPTURED_TOKENS)
"""Tokens in a graph; a pass takes the next larger one, the rest is computed in vain. Source: on an H100 with the 0.6B model, launching the
kernels of a pass takes 10 to 16 ms, in which the GPU computes some 6,000 tokens."""

PROMPTS = 32
"""Prompts in a graph, at most."""

_CAPTURING = threading.Lock()
"""Only one capture may be under way in a process, as `torch.cuda.graph` says; engines have a thread each."""


@dataclass(frozen=True, slots=True, eq=False)
class _Graph:
    """What was captured: it reads `inputs` and writes `rows`."""

    graph: torch.cuda.CUDAGraph
    inputs: torch.Tensor
    rows: torch.Tensor


class Graphs:
    """Graphs of one model, each captured when it is first needed (some tenths of a second).

    Args:
        model: The model.
        kernel: Its attention.
        parts: What its layers are computed by.
        device: A CUDA device.
    """

    def __init__(self, model: Qwen3, kernel: Kernel, parts: Parts, device: torch.device) -> None:
        self._model, self._kernel, self._parts, self._device = model, kernel, parts, device
        self._graphs: dict[int, _Graph] = {}
        self._pool = torch.cuda.graph_pool_handle()
        # One for all sizes: graphs share a pool's memory, and cuBLAS's workspace, only where they are captured on the same stream.
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def take(self, prompts: Sequence[Prompt]) -> bool:
        """Whether these prompts are few and short enough."""
        if len(prompts) > PROMPTS:
            return False
        return sum(own_tokens(prompt) + (0 if prompt.prefix.ids is None else len(prompt.prefix.ids)) for prompt in prompts) <= SIZES[-1]

    def run(self, packed: Pack) -> torch.Tensor:
        """The last hidden states of prompts' last tokens: float32, shape (prompts, width), in the order of the sequences.

        Args:
            packed: Whole prompts alone; of which `take` is true.
        """
        tokens, prompts = len(packed.ids), len(packed.last)
        size = next(size for size in SIZES if size >= tokens)
        if not self._graphs:
            self._graphs[SIZES[-1]] = self._captured(SIZES[-1])  # first the largest: the others then find room in its memory
        if size not in self._graphs:
            self._graphs[size] = self._captured(size)
        held = self._graphs[size]
        host = torch.zeros(len(held.inputs), dtype=torch.int32, pin_memory=True)
        parts = host.numpy()
        parts[:tokens], parts[size : size + tokens] = packed.ids, packed.positions
        # What is left of the tokens is a sequence of its own, and behind it come empty ones.
        parts[2 * size :] = size
        parts[2 * size : 2 * size + prompts + 1] = packed.bounds
        held.inputs.copy_(host, non_blocking=True)
        held.graph.replay()
        return held.rows[:prompts].clone()

    def _captured(self, size: int) -> _Graph:
        bounds = np.full(PROMPTS + 2, size, np.int32)
        bounds[0] = 0
        inputs = torch.from_numpy(np.concatenate([np.zeros(2 * size, np.int32), bounds])).to(self._device)

        def compute() -> torch.Tensor:
            ids, positions, at = torch.split(inputs, [size, size, len(bounds)])
            last = torch.arange(len(bounds), dtype=torch.int32, device=self._device)
            everything, ends = Bounds(at, at, size, size), Bounds(last, at, 1, size)
            attention = KernelAttention(self._kernel, everything, ends, self._model.scale, self._parts.join)
            return self._model(ids, positions, at[1:] - 1, attention, self._parts)

        for _ in range(2):  # kernels are compiled and chosen when they are first used
            compute()
        graph = torch.cuda.CUDAGraph()
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        # Not by `torch.cuda.graph`: that waits for the whole device, which breaks what another thread captures, and gives back
        # what PyTorch keeps for later passes. Other threads may use the device meanwhile.
        with _CAPTURING, torch.cuda.stream(self._stream):
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                rows = compute()
            finally:
                graph.capture_end()
        return _Graph(graph, inputs, rows)
