"""Small passes as captured CUDA graphs: a single query takes the time of its kernels, without the time of their launches."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from qwen3_integrations.core.types import Prompt
from qwen3_integrations.engines.torch.attention import KernelAttention
from qwen3_integrations.engines.torch.flash_attention import Kernel, SequenceLengths
from qwen3_integrations.engines.torch.memory_plan import CAPTURED_TOKENS
from qwen3_integrations.engines.torch.packing import PackedBatch, suffix_tokens
from qwen3_integrations.engines.torch.qwen3 import LayerFunctions, Qwen3

SIZES = (32, 64, 128, 256, 512, 768, 1024, 1536, 2048, 3072, CAPTURED_TOKENS)
"""Tokens of the graphs. A pass uses the next larger graph; the results of the padding tokens are discarded. Source: on an H100 with the
0.6B model, launching the kernels of a pass takes 10 to 16 ms; in this time the GPU computes about 6,000 tokens."""

PROMPTS = 32
"""Maximum number of prompts in a graph."""

_CAPTURING = threading.Lock()
"""PyTorch allows one capture at a time in a process (see `torch.cuda.graph`), and each engine has its own thread."""


@dataclass(frozen=True, slots=True, eq=False)
class _Graph:
    """A captured graph. It reads `inputs` and writes `rows`."""

    graph: torch.cuda.CUDAGraph
    inputs: torch.Tensor
    rows: torch.Tensor


class Graphs:
    """The CUDA graphs of one model. Each graph is captured at its first use, which takes a few tenths of a second.

    Args:
        model: The model.
        kernel: Its attention kernel.
        functions: The functions that compute its layers.
        device: A CUDA device.
    """

    def __init__(self, model: Qwen3, kernel: Kernel, functions: LayerFunctions, device: torch.device) -> None:
        self._model, self._kernel, self._functions, self._device = model, kernel, functions, device
        self._graphs: dict[int, _Graph] = {}
        self._pool = torch.cuda.graph_pool_handle()
        # One stream for all graphs: only then they share the pool's memory and cuBLAS's workspace.
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def fit(self, prompts: Sequence[Prompt]) -> bool:
        """Whether these prompts are few and short enough for a graph."""
        if len(prompts) > PROMPTS:
            return False
        return sum(suffix_tokens(prompt) + (0 if prompt.prefix.ids is None else len(prompt.prefix.ids)) for prompt in prompts) <= SIZES[-1]

    def run(self, batch: PackedBatch) -> torch.Tensor:
        """The last hidden states of the prompts' last tokens: float32, shape (prompts, hidden size), in the order of the sequences.

        Args:
            batch: Whole prompts without shared prefixes, which `fit`.
        """
        tokens, prompts = len(batch.ids), len(batch.last)
        size = next(size for size in SIZES if size >= tokens)
        if not self._graphs:
            self._graphs[SIZES[-1]] = self._capture(SIZES[-1])  # the largest first: the others then reuse its memory
        if size not in self._graphs:
            self._graphs[size] = self._capture(size)
        captured = self._graphs[size]
        host = torch.zeros(len(captured.inputs), dtype=torch.int32, pin_memory=True)
        values = host.numpy()
        values[:tokens], values[size : size + tokens] = batch.ids, batch.positions
        # The padding tokens are one more sequence. After it come empty sequences.
        values[2 * size :] = size
        values[2 * size : 2 * size + prompts + 1] = batch.cu_seqlens
        captured.inputs.copy_(host, non_blocking=True)
        captured.graph.replay()
        return captured.rows[:prompts].clone()

    def _capture(self, size: int) -> _Graph:
        cu_seqlens = np.full(PROMPTS + 2, size, np.int32)
        cu_seqlens[0] = 0
        inputs = torch.from_numpy(np.concatenate([np.zeros(2 * size, np.int32), cu_seqlens])).to(self._device)

        def compute() -> torch.Tensor:
            ids, positions, ends = torch.split(inputs, [size, size, len(cu_seqlens)])
            one_each = torch.arange(len(cu_seqlens), dtype=torch.int32, device=self._device)
            all_lengths, last_lengths = SequenceLengths(ends, ends, size, size), SequenceLengths(one_each, ends, 1, size)
            attention = KernelAttention(self._kernel, all_lengths, last_lengths, self._model.scale, self._functions.merge_attn_states)
            return self._model(ids, positions, ends[1:] - 1, attention, self._functions)

        for _ in range(2):  # warm-up: kernels are compiled and selected at their first use
            compute()
        graph = torch.cuda.CUDAGraph()
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        # `torch.cuda.graph` is not used here: it synchronises the whole device, which breaks a capture in another thread, and it frees
        # PyTorch's cached memory, which later passes need. "thread_local" allows other threads to use the device meanwhile.
        with _CAPTURING, torch.cuda.stream(self._stream):
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                rows = compute()
            finally:
                graph.capture_end()
        return _Graph(graph, inputs, rows)
