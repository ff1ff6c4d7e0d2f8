"""Forward passes of a model: packed prompts in, rows out. On CUDA a pass is started without waiting for the device."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch

from qwen3_integrations.core.tokenizer import Tokenizer
from qwen3_integrations.core.types import Prefix, Prompt, PromptPart, Rows, Task
from qwen3_integrations.engines.torch import attention, flash_attention
from qwen3_integrations.engines.torch.graphs import Graphs
from qwen3_integrations.engines.torch.kernel_selection import first_line, functions_for
from qwen3_integrations.engines.torch.packing import PackedBatch, pack
from qwen3_integrations.engines.torch.passes import PassTooLarge
from qwen3_integrations.engines.torch.pooling import VectorHead
from qwen3_integrations.engines.torch.qwen3 import Qwen3
from qwen3_integrations.models.checkpoint import ModelFiles
from qwen3_integrations.models.heads import SCORE_BIAS

log = logging.getLogger("qwen3_integrations")


class TorchForward:
    """Forward passes of one model.

    Args:
        files: The checkpoint.
        task: `embed` or `rerank`.
        tokenizer: The checkpoint's tokenizer.
        device: Device of the computation.
        dtype: Number format of the computation.
        fp8: Whether the layers' matrix products are in FP8.
        reserved: On CUDA, the tokens of the largest pass, for which memory is reserved at the first pass. Without it, PyTorch's
            allocator would keep memory for several passes of different sizes.
        like: The same model on another device: its weights are copied. None to read them from the checkpoint.
    """

    def __init__(
        self, files: ModelFiles, task: Task, tokenizer: Tokenizer, device: torch.device, dtype: torch.dtype, *, fp8: bool = False,
        reserved: int = 0, like: TorchForward | None = None,
    ) -> None:  # fmt: skip
        self.asynchronous = device.type == "cuda"
        self._task, self._device, self._width = task, device, files.dimensions
        line = _score_line(files, tokenizer) if task == "rerank" else None
        self._model: Qwen3 = Qwen3(files, device, dtype, fp8=fp8, weights=like._model.weights if like else None)
        with _current(device):
            self._kernel = flash_attention.kernel_for(device, dtype, self._model.head_dim)
            self._functions = functions_for(self._model, device, dtype)
            self._graphs = Graphs(self._model, self._kernel, self._functions, device) if self._kernel and device.type == "cuda" else None
        self._reserved = reserved
        self._head = VectorHead(files.modules, device) if task == "embed" else None
        self._direction = torch.from_numpy(line[0]).to(device) if line else None
        self._bias = line[1] if line else 0.0

    def start(self, prompts: Sequence[Prompt]) -> Callable[[], Rows]:
        """Start a pass.

        Args:
            prompts: With token ids; they should fit the budget of a pass.

        Returns:
            A function that waits for the pass and returns its rows: float32, shape (prompts, hidden size) or (prompts,), in the order
            of `prompts`.

        Raises:
            PassTooLarge: If the device has not enough memory for the pass.
        """
        try:
            with torch.inference_mode(), _current(self._device):
                rows, order = self._rows(prompts)
                if self._head:
                    rows = self._head(rows)
                if self._direction is not None:
                    logits = rows @ self._direction
                    rows = torch.sigmoid(logits + self._bias if self._bias else logits)
                return _copy_to_host(rows, order)
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            reason = str(error).partition(". ")[0]
        self._free_cached()  # outside of `except`: the error keeps the tensors of the pass alive
        raise PassTooLarge(reason)

    def _rows(self, prompts: Sequence[Prompt]) -> tuple[torch.Tensor, np.ndarray[Any, Any]]:
        """Rows on the device, and for each prompt the index of its row."""
        if self._head and self._head.reads_all_tokens:
            batch = pack(prompts, share=False)
            states = self._model.all_states(*_inputs(batch, self._device)[:2], self._attention(batch), self._functions)
            return self._head.pool(states, batch, prompts), batch.rows
        if self._graphs and self._graphs.fit(prompts):
            try:
                return self._graphs.run(pack(prompts, share=False)), np.arange(len(prompts))
            except Exception as error:  # noqa: BLE001  the fallback is a pass without a graph
                self._graphs = None
                log.warning("small passes can't be captured as CUDA graphs, so they are slower: %s", first_line(error))
        if self._reserved:
            self._reserve()
        batch = pack(prompts)
        return self._compute(batch), batch.rows

    def _compute(self, batch: PackedBatch) -> torch.Tensor:
        return self._model(*_inputs(batch, self._device), self._attention(batch), self._functions)

    def _attention(self, batch: PackedBatch) -> attention.Attention:
        batch_attention: attention.Attention
        model, functions = self._model, self._functions
        if self._kernel is None:
            batch_attention = attention.PlainAttention(batch, self._device, model.scale)
        else:
            batch_attention = attention.KernelAttention.of(batch, self._kernel, self._device, model.scale, functions.merge_attn_states)
        if functions.short_attention:
            batch_attention = functions.short_attention(batch, self._device, model.scale, model.group, batch_attention)
        return batch_attention

    def _reserve(self) -> None:
        """Compute the largest pass once: PyTorch's allocator keeps its memory, and smaller passes reuse it."""
        tokens, self._reserved = self._reserved, 0
        ids = np.zeros(min(512, tokens), np.int32)
        prompt = Prompt(Prefix("", ids[:0]), PromptPart("", ids), PromptPart("", ids[:0]))
        try:
            self._compute(pack([prompt] * (tokens // len(ids))))
            return
        except torch.OutOfMemoryError as error:  # another program took memory after the plan was made; the wanted pass may still fit
            log.warning("the planned memory is no longer free: %s", first_line(error))
        self._free_cached()

    def empty_rows(self) -> Rows:
        """The rows of zero prompts."""
        return np.empty((0, self._width) if self._task == "embed" else 0, dtype=np.float32)

    def close(self) -> None:
        """Free the memory."""
        del self._model, self._graphs
        self._direction = self._head = None
        self._free_cached()

    def _free_cached(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def _current(device: torch.device) -> AbstractContextManager[Any]:
    """Make a GPU the current device of this thread, because kernels run on the current device."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _is_out_of_memory(error: RuntimeError) -> bool:
    """Whether memory ran out. Apple's devices and the libraries below PyTorch have no error type of their own for this."""
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error) or "ALLOC_FAILED" in str(error)


def _inputs(batch: PackedBatch, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Token ids, positions and the indices of the last tokens, on the device."""
    tokens = len(batch.ids)
    moved = attention.to_device(np.concatenate([batch.ids, batch.positions, batch.last.astype(np.int32)]), device)
    return moved[:tokens], moved[tokens : 2 * tokens], moved[2 * tokens :]


def _copy_to_host(rows: torch.Tensor, order: np.ndarray[Any, Any]) -> Callable[[], Rows]:
    """Queue the copy of the rows to the host, after this pass and before the next one; the result waits for it."""
    if rows.device.type != "cuda":
        return lambda: rows.cpu().numpy()[order]
    host = torch.empty(rows.shape, dtype=rows.dtype, pin_memory=True)
    host.copy_(rows, non_blocking=True)
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record()

    def wait() -> Rows:
        copied.synchronize()
        result: Rows = host.numpy()[order]
        return result

    return wait


def _score_line(files: ModelFiles, tokenizer: Tokenizer) -> tuple[Rows, float]:
    """Direction, shape (width,), and bias of the score: the score is the sigmoid of (last hidden state @ direction + bias).

    The softmax over two logits is the sigmoid of their difference.
    """
    head = files.score_head
    indices = head.rows(tokenizer)
    rows = files.weights.rows(head.matrix, indices)
    bias = files.weights.rows(SCORE_BIAS)[indices] if head.bias else np.zeros(len(indices), np.float32)
    if len(indices) == 1:
        return rows[0], float(bias[0])
    direction: Rows = rows[0] - rows[1]
    return direction, float(bias[0] - bias[1])
