"""One pass of a model: packed prompts in, rows out, begun without waiting for the device."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch

from qwen3_integrations.core.tokenizer import Tokenizer
from qwen3_integrations.core.types import Prefix, Prompt, PromptPart, Rows, Task
from qwen3_integrations.engines.torch import attention
from qwen3_integrations.engines.torch.graphs import Graphs
from qwen3_integrations.engines.torch.kernel_selection import first_line, parts_for
from qwen3_integrations.engines.torch.packing import Pack, pack
from qwen3_integrations.engines.torch.queue import PassTooLarge
from qwen3_integrations.engines.torch.qwen3 import Qwen3
from qwen3_integrations.models.checkpoint import ModelFiles

log = logging.getLogger("qwen3_integrations")


class Forward:
    """A model, ready for passes.

    Args:
        files: The checkpoint.
        task: `embed` or `rerank`.
        tokenizer: The checkpoint's own.
        device: Where it computes.
        dtype: What it computes in.
        reserved: On CUDA, for a pass of how many tokens memory is kept; PyTorch would else keep it for several passes, of unlike sizes.
    """

    def __init__(
        self, files: ModelFiles, task: Task, tokenizer: Tokenizer, device: torch.device, dtype: torch.dtype, *, reserved: int = 0
    ) -> None:
        self.ahead = device.type == "cuda"
        self._task, self._device, self._width = task, device, files.width
        line = _score_line(files, tokenizer) if task == "rerank" else None
        self._model = Qwen3(files, device, dtype)
        with _at(device):
            self._kernel = attention.kernel_for(device, dtype, self._model.head_width)
            self._parts = parts_for(self._model, device, dtype)
            self._graphs = Graphs(self._model, self._kernel, self._parts, device) if self._kernel and device.type == "cuda" else None
        self._reserved = reserved
        self._direction = torch.from_numpy(line[0]).to(device) if line else None
        self._bias = line[1] if line else 0.0

    def start(self, prompts: Sequence[Prompt]) -> Callable[[], Rows]:
        """Begin a pass.

        Args:
            prompts: With token ids; they should fit the budget of a pass.

        Returns:
            Waits for the pass and gives its rows: float32, shape (prompts, width) or (prompts,), in the order of `prompts`.

        Raises:
            PassTooLarge: If the device has not the memory for so many tokens.
        """
        try:
            with torch.inference_mode(), _at(self._device):
                rows, order = self._rows(prompts)
                if self._direction is not None:
                    logits = rows @ self._direction
                    rows = torch.sigmoid(logits + self._bias if self._bias else logits)
                return _landing(rows, order)
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            reason = str(error).partition(". ")[0]
        self._free_cached()  # here, since the error keeps what the pass had made
        raise PassTooLarge(reason)

    def _rows(self, prompts: Sequence[Prompt]) -> tuple[torch.Tensor, np.ndarray[Any, Any]]:
        """Rows on the device, and for each prompt which is its own."""
        if self._graphs and self._graphs.take(prompts):
            try:
                return self._graphs.run(pack(prompts, share=False)), np.arange(len(prompts))
            except Exception as error:  # noqa: BLE001  what can't be captured can be computed
                self._graphs = None
                log.warning("small passes can't be captured as CUDA graphs, so they take longer: %s", first_line(error))
        if self._reserved:
            self._reserve()
        packed = pack(prompts)
        return self._pass(packed), packed.rows

    def _pass(self, packed: Pack) -> torch.Tensor:
        seeing: attention.Attention
        if self._kernel is None:
            seeing = attention.PlainAttention(packed, self._device, self._model.scale)
        else:
            seeing = attention.KernelAttention.of(packed, self._kernel, self._device, self._model.scale, self._parts.join)
        if self._parts.short:
            seeing = self._parts.short(packed, self._device, self._model.scale, self._model.group, seeing)
        return self._model(*_inputs(packed, self._device), seeing, self._parts)

    def _reserve(self) -> None:
        """Compute the largest pass once: smaller ones then find room in what it leaves to PyTorch's allocator."""
        tokens, self._reserved = self._reserved, 0
        some = np.zeros(min(512, tokens), np.int32)
        try:
            self._pass(pack([Prompt(Prefix("", some[:0]), PromptPart("", some), PromptPart("", some[:0]))] * (tokens // len(some))))
            return
        except torch.OutOfMemoryError as error:  # something else has taken it since it was planned; what is wanted now may still fit
            log.warning("the memory that was planned is not there: %s", first_line(error))
        self._free_cached()

    def nothing(self) -> Rows:
        """The rows of no prompts."""
        return np.empty((0, self._width) if self._task == "embed" else 0, dtype=np.float32)

    def close(self) -> None:
        """Give the memory back."""
        del self._model, self._graphs
        self._direction = None
        self._free_cached()

    def _free_cached(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def _at(device: torch.device) -> AbstractContextManager[Any]:
    """Makes a GPU the current one of this thread: kernels are launched on that."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _is_out_of_memory(error: RuntimeError) -> bool:
    """Apple's devices, and the libraries below PyTorch, have no error of their own for it."""
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error) or "ALLOC_FAILED" in str(error)


def _inputs(packed: Pack, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Token ids, positions and where the last tokens lie, on the device."""
    tokens = len(packed.ids)
    moved = attention.to_device(np.concatenate([packed.ids, packed.positions, packed.last.astype(np.int32)]), device)
    return moved[:tokens], moved[tokens : 2 * tokens], moved[2 * tokens :]


def _landing(rows: torch.Tensor, order: np.ndarray[Any, Any]) -> Callable[[], Rows]:
    """The rows on their way to the host: behind the pass, and not behind what is begun after it."""
    if rows.device.type != "cuda":
        return lambda: rows.cpu().numpy()[order]
    host = torch.empty(rows.shape, dtype=rows.dtype, pin_memory=True)
    host.copy_(rows, non_blocking=True)
    done = torch.cuda.Event()  # type: ignore[no-untyped-call]
    done.record()

    def landed() -> Rows:
        done.synchronize()
        result: Rows = host.numpy()[order]
        return result

    return landed


def _score_line(files: ModelFiles, tokenizer: Tokenizer) -> tuple[Rows, float]:
    """Where a score is read: the sigmoid of the last hidden state along a direction, shape (width,), plus a bias."""
    return _stored_head(files) if files.classifier else (_yes_minus_no(files, tokenizer), 0.0)


def _yes_minus_no(files: ModelFiles, tokenizer: Tokenizer) -> Rows:
    """The one direction that the score is read along, shape (width,): softmax over two logits is the sigmoid of their difference."""
    name = "model.embed_tokens.weight" if files.config.get("tie_word_embeddings") else "lm_head.weight"
    rows = files.rows(name, [tokenizer.token_id("yes"), tokenizer.token_id("no")])
    direction: Rows = rows[0] - rows[1]
    return direction


def _stored_head(files: ModelFiles) -> tuple[Rows, float]:
    """The direction and bias of a sequence-classification conversion: of its one row, or of "yes" less those of "no"."""
    head = files.stored_head()
    weight = files.rows("score.weight", None)
    bias = files.rows("score.bias", None) if head.bias else np.zeros(head.rows, np.float32)
    if head.rows == 1:
        return weight[0], float(bias[0])
    yes = files.labels.positive
    direction: Rows = weight[yes] - weight[1 - yes]
    return direction, float(bias[yes] - bias[1 - yes])
