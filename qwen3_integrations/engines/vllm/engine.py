"""Embedded vLLM (its own worker process): on the local GPU or with the CPU build, without a server."""

from __future__ import annotations

import dataclasses
import os
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np

from qwen3_integrations.core.engine import Capabilities, Submitting, check_task
from qwen3_integrations.core.extras import require
from qwen3_integrations.core.fingerprint import Fingerprint
from qwen3_integrations.core.types import Ids, Job, Prompt, Reply, Task
from qwen3_integrations.core.validation import check_options, fraction, optional_whole_number, whole_number
from qwen3_integrations.engines.vllm.start import VllmStart
from qwen3_integrations.engines.vllm.worker import VllmWorker
from qwen3_integrations.errors import ConfigError, EngineError, PromptTooLong
from qwen3_integrations.models.catalog import ORIGINAL_RERANKER, Source, model_name
from qwen3_integrations.models.checkpoint import ModelFiles
from qwen3_integrations.models.hub import open_model
from qwen3_integrations.models.identity import folder_identity
from qwen3_integrations.models.memory import MemoryPlan
from qwen3_integrations.models.pickles import check_load_format
from qwen3_integrations.models.vllm_support import POOLING_TYPES, RUN_INSTEAD, reads_whole_prompts, vllm_overrides, vllm_refusals

DEFAULT_MAX_MODEL_LEN = 8192
"""Default of `max_model_len`: length of the longest prompt, in tokens. Source: the model cards' examples."""

_IDS_ONLY = "this package tokenises the prompts, and vLLM receives token ids"
_POOLING = "this engine pools as the model's folder declares, else the last token, as the model card says"
_REFUSED: Mapping[str, str] = {
    "model": "it is the engine's second argument",
    "model_weights": "weights come from the model's folder",
    "hf_config_path": "the config comes from the model's folder",
    "speculative_config": "these models generate no text, so a second model is never needed",
    "code_revision": "this package never runs code from a model's folder",
    "tokenizer": _IDS_ONLY,
    "tokenizer_mode": _IDS_ONLY,
    "tokenizer_revision": _IDS_ONLY,
    "skip_tokenizer_init": _IDS_ONLY,
    "runner": _POOLING,
    "convert": _POOLING,
    "pooler_config": _POOLING,
    "data_parallel_size": "one engine is one replica: open one engine for each device, or use vllm serve",
}
_COUNTS = ("max_model_len", "max_num_seqs", "max_num_batched_tokens", "kv_cache_memory_bytes")
_DEVICE_COUNTS = ("tensor_parallel_size", "pipeline_parallel_size")


class VllmEngine(Submitting):
    """Runs a checkpoint with an embedded vLLM engine.

    Prompts of all callers (threads and tasks) share vLLM's continuous batching. By default vLLM computes in its own process; with the
    environment variable `VLLM_ENABLE_V1_MULTIPROCESSING=0` it computes in this process. If vLLM must spawn its process (always with the
    CPU build; on a GPU if this process already uses CUDA), a script needs `if __name__ == "__main__":`. Usage reports to the vLLM project
    are off, unless the environment has a setting (`VLLM_NO_USAGE_STATS=0`).

    Memory is planned from the model's size (`memory`), so that an embedder and a reranker fit one device. Use `kv_cache_memory_bytes` to
    set the size of the cache, or `gpu_memory_utilization` to give vLLM a share of the device, as vLLM does by default.

    Args:
        task: `embed` or `rerank`.
        model: A folder, a name on the hub, or `qwen3-tiny-demo`. Supported are published checkpoints, conversions of the reranker to
            sequence classification, and GPTQ, AWQ or FP8 checkpoints.
        source: Where to look for the model: `auto`, `local`, `huggingface` or `modelscope`.
        revision: A branch, tag or commit of the hub's repository.
        concurrency: Number of longest prompts that fit into the planned cache at once. It does not limit the number of callers: more of
            shorter prompts fit, and prompts that do not fit wait.
        engine_options: vLLM's `EngineArgs` by their own names: `dtype`, `max_model_len` (8192 by default, or the model's
            context if that is less), `tensor_parallel_size`, `quantization`, `enforce_eager`, `max_num_seqs`,
            `kv_cache_memory_bytes`, `gpu_memory_utilization`, ...

    Attributes:
        memory: The memory plan; None if `gpu_memory_utilization` leaves the sizes to vLLM.

    Raises:
        MissingExtra: If vLLM is not installed.
        ModelNotFound: If the model could not be found or downloaded.
        ConfigError: For an option that vLLM does not have (with a suggestion) or refuses, or that would give wrong numbers; for a model
            of the other task, or whose folder declares what vLLM can't compute (see `vllm_refusals`); for a memory plan that does not
            fit the device (the message has the sum).
        EngineError: If vLLM does not start.
    """

    backend = "vllm"

    def __init__(
        self,
        task: Task,
        model: str | os.PathLike[str],
        *,
        source: Source = "auto",
        revision: str | None = None,
        concurrency: int = 4,
        **engine_options: Any,
    ) -> None:
        require("vllm", "vllm")
        check_options(engine_options, self.option_names(), "the vllm engine")
        _check_meaning(engine_options)
        concurrency = whole_number(concurrency, "concurrency")
        engine_options = _checked_numbers(engine_options)
        self.task: Task = task
        self.model = model = str(model_name(model))
        files = open_model(model, task, source=source, revision=revision)
        files.check(task)  # vLLM itself would fall back to pickled weights
        if reason := vllm_refusals(files, task):
            raise ConfigError(reason, advice=RUN_INSTEAD)
        self.tokenizer = files.read_tokenizer()
        self.dimensions = files.dimensions if task == "embed" else None
        self.conventions = files.conventions
        """What the folder declares about its texts: prompts, the longest text."""
        self._vocabulary = files.vocabulary
        identity = folder_identity(
            files, task, self.tokenizer.digest, engine_options.get("hf_overrides")
        )  # read now, because the folder may change later
        start = VllmStart(files, model, _engine_args(files, task, engine_options), concurrency)
        worker = VllmWorker(start, task, model, files.labels.positive)
        worker.wait_until_ready()
        self.memory: MemoryPlan | None = start.plan
        self.max_tokens: int = start.max_tokens
        self.capabilities = Capabilities(exact=start.numerics["dtype"] == "float32", devices=start.devices)
        self._fingerprint = Fingerprint(identity, {"backend": self.backend, **start.numerics})
        self._worker = worker
        self.close = weakref.finalize(self, worker.close)
        """Free the memory, and end vLLM's process if there is one. May be called twice."""

    @staticmethod
    def option_names() -> list[str]:
        """Names of the options of the installed vLLM.

        Raises:
            MissingExtra: If vLLM is not installed.
        """
        arguments = require("vllm.engine.arg_utils", "vllm").EngineArgs
        ours = ("revision",)
        return [field.name for field in dataclasses.fields(arguments) if field.name not in ours and not field.name.startswith("_")]

    @property
    def alive(self) -> bool:
        """False after `close`, and after vLLM has died. Then `open_engine` opens a new engine."""
        return self._worker.alive

    def fingerprint(self) -> Fingerprint:
        """The model, as its folder was when the engine opened, and the number format; see `Fingerprint`."""
        return self._fingerprint

    def _submit(self, job: Job) -> Future[Reply]:
        check_task(self, job)
        if not job.prompts:
            empty: Future[Reply] = Future()
            empty.set_result(Reply(np.empty((0, self.dimensions) if self.dimensions else 0, dtype=np.float32), ()))
            return empty
        ids = [self._ids(index, prompt) for index, prompt in enumerate(job.prompts)]
        self._check_vocabulary(ids)
        return self._worker.submit(ids, job.fairness_key)

    def _ids(self, index: int, prompt: Prompt) -> Ids:
        """Token ids of a prompt, after the check that they exist and are not too many for the model."""
        ids = prompt.ids
        if ids is None or not len(ids):
            raise EngineError("the prompt has no token ids", index=index, advice="Plan jobs with the engine's tokenizer")
        if len(ids) > self.max_tokens:
            raise PromptTooLong(
                f"the prompt has {len(ids)} tokens, but {self.model} was opened for {self.max_tokens}",
                index=index,
                advice="Raise max_model_len",
                tokens=len(ids),
                max_tokens=self.max_tokens,
            )
        return ids

    def _check_vocabulary(self, ids: Sequence[Ids]) -> None:
        """Check that the model knows all ids, for all prompts at once. vLLM does not check them if it has no tokenizer."""
        joined = ids[0] if len(ids) == 1 else np.concatenate(ids)
        if joined.min() >= 0 and joined.max() < self._vocabulary:
            return
        index = next(index for index, own in enumerate(ids) if own.min() < 0 or own.max() >= self._vocabulary)
        raise EngineError(f"the prompt contains a token id outside {self.model}'s vocabulary of {self._vocabulary}", index=index)

    @property
    def where(self) -> str:
        """A short description of the engine, with its planned memory."""
        return "embedded vLLM" + (f", {self.memory.total_bytes / 2**30:.1f} GiB planned" if self.memory else "")

    def __repr__(self) -> str:
        return f"VllmEngine({self.task!r}, {self.model!r}, max_tokens={self.max_tokens})"


def _check_meaning(options: Mapping[str, Any]) -> None:
    """Refuse options that would give wrong numbers or run foreign code.

    Raises:
        ConfigError: For the first such option, with the reason.
    """
    if options.get("trust_remote_code"):
        raise ConfigError("is never needed for Qwen3 models", option="trust_remote_code", advice="Leave it out")
    for option, reason in _REFUSED.items():
        if option in options:
            raise ConfigError(f"is set by the vllm engine itself: {reason}", option=option)
    if "load_format" in options:
        check_load_format(options["load_format"], "load_format")
    overrides = options.get("hf_overrides")
    if overrides is None:
        return
    if not isinstance(overrides, Mapping):
        raise ConfigError("must be a dictionary: a function could change the classification head", option="hf_overrides")
    for key in (*ORIGINAL_RERANKER, "num_labels", "id2label", "model_type"):
        if key in overrides:
            reason = f"must not contain {key!r}, which the vllm engine sets from the model's own config"
            raise ConfigError(reason, option="hf_overrides", advice="Leave it out")


def _checked_numbers(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, after the check of the numbers that the memory plan uses. vLLM itself checks only some of them.

    Raises:
        ConfigError: For the first number that is out of range.
    """
    checked = dict(options)
    for name in options:
        if name in _COUNTS:
            checked[name] = optional_whole_number(options[name], name)
        elif name in _DEVICE_COUNTS:
            checked[name] = whole_number(options[name], name)
        elif name == "gpu_memory_utilization" and options[name] is not None:
            checked[name] = fraction(options[name], name)
    return checked


def _engine_args(files: ModelFiles, task: Task, options: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments of vLLM: the caller's options, the defaults of this package, and the values that this package sets itself."""
    from vllm.config import PoolerConfig

    ours: dict[str, Any] = {
        "model": str(files.folder),
        "runner": "pooling",
        "pooler_config": PoolerConfig(seq_pooling_type=POOLING_TYPES[files.modules.pooling.mode]),
        "skip_tokenizer_init": True,
    }
    overrides = dict(options.get("hf_overrides") or {}) | vllm_overrides(files, task)
    defaults = {"max_model_len": min(files.context, DEFAULT_MAX_MODEL_LEN), "disable_log_stats": True}
    longest = options.get("max_model_len") or defaults["max_model_len"]
    whole = (options.get("max_num_batched_tokens") or longest) >= longest
    if not whole and reads_whole_prompts(files):
        raise ConfigError(
            f"must be at least max_model_len, {longest}: vLLM pools {files.modules.pooling} only over a prompt that one pass computes",
            option="max_num_batched_tokens",
        )
    if whole:
        # With chunked prefill, vLLM 0.24 never finishes a prompt of exactly max_model_len tokens: it reserves the last position for a
        # generated token. Source: vLLM's issues 47971 and 55427.
        defaults["enable_chunked_prefill"] = False
    return defaults | dict(options) | ours | {"hf_overrides": overrides}
