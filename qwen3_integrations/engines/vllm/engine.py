"""vLLM in this process's service: on the local GPU, or its CPU build, without a server."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np

from qwen3_integrations.core.engine import Submitting, check_task
from qwen3_integrations.core.extras import require
from qwen3_integrations.core.tokenizer import Tokenizer
from qwen3_integrations.core.types import Ids, Job, Prompt, Reply, Task
from qwen3_integrations.core.validation import check_options
from qwen3_integrations.engines.vllm.start import VllmStart
from qwen3_integrations.engines.vllm.worker import VllmLoop
from qwen3_integrations.errors import ConfigError, EngineError, PromptTooLong
from qwen3_integrations.models.catalog import ORIGINAL_RERANKER, Source
from qwen3_integrations.models.checkpoint import ModelFiles, read_model
from qwen3_integrations.models.fingerprint import Fingerprint, folder_identity
from qwen3_integrations.models.hub import resolve_model
from qwen3_integrations.models.labels import stored_head_overrides
from qwen3_integrations.models.memory import MemoryPlan, weight_files
from qwen3_integrations.models.pickles import check_load_format

DEFAULT_MAX_MODEL_LEN = 8192
"""Longest prompt, in tokens, unless `max_model_len` says otherwise. Source: the model cards' examples."""

_IDS_ONLY = "prompts are tokenised by this package, and vLLM gets their ids"
_POOLING = "this engine always pools the last token, as the model card does"
_REFUSED: Mapping[str, str] = {
    "model": "it is the engine's second argument",
    "model_weights": "weights come from the model's folder",
    "hf_config_path": "the config comes from the model's folder",
    "speculative_config": "these models write no text, so nothing is to be guessed",
    "code_revision": "no code of a model is ever run",
    "tokenizer": _IDS_ONLY,
    "tokenizer_mode": _IDS_ONLY,
    "tokenizer_revision": _IDS_ONLY,
    "skip_tokenizer_init": _IDS_ONLY,
    "runner": _POOLING,
    "convert": _POOLING,
    "pooler_config": _POOLING,
    "data_parallel_size": "one engine is one replica; open the model once a device, or use vllm serve",
}


class VllmEngine(Submitting):
    """Runs a checkpoint with an embedded vLLM engine.

    Prompts of all callers, threads and tasks alike, meet in vLLM's continuous batching. vLLM computes in a process of
    its own, as it does by default; with `VLLM_ENABLE_V1_MULTIPROCESSING=0` in the environment, in this one. Where vLLM
    has to spawn that process (always on its CPU build; on a GPU once CUDA is in use here), a script needs the usual
    `if __name__ == "__main__":`. Usage reports to vLLM's makers are off unless the environment says otherwise
    (`VLLM_NO_USAGE_STATS=0`).

    Memory is planned from the model's size (`memory`), so that an embedder and a reranker fit one device. Give
    `kv_cache_memory_bytes` to size the cache yourself, or `gpu_memory_utilization` to have vLLM take a share of the
    device as it does by default.

    Args:
        task: `embed` or `rerank`.
        model: A folder, a hub's name, or `qwen3-tiny-demo`. Published checkpoints, conversions of the reranker to
            sequence classification, and GPTQ, AWQ or FP8 checkpoints alike.
        source: Where the model's name may lead: `auto`, `local`, `huggingface` or `modelscope`.
        revision: A branch, tag or commit of the hub's repository.
        concurrency: How many prompts of the greatest length the planned cache holds at once. Not how many callers
            there may be: shorter prompts fit in greater number, and what does not fit waits.
        engine_options: vLLM's `EngineArgs` by their own names: `dtype`, `max_model_len` (8192 by default, or the model's
            context if that is less), `tensor_parallel_size`, `quantization`, `enforce_eager`, `max_num_seqs`,
            `kv_cache_memory_bytes`, `gpu_memory_utilization`, ...

    Attributes:
        memory: The plan; None where `gpu_memory_utilization` leaves the sizes to vLLM.

    Raises:
        MissingExtra: If vLLM is not installed.
        ModelNotFound: If the model is nowhere to be had.
        ConfigError: For an option that vLLM does not have (with a suggestion), refuses, or that would give wrong
            numbers; for a model of the other task; for a plan that does not fit the device (with the sum).
        EngineError: If vLLM does not start.
    """

    backend = "vllm"

    def __init__(
        self,
        task: Task,
        model: str,
        *,
        source: Source = "auto",
        revision: str | None = None,
        concurrency: int = 4,
        **engine_options: Any,
    ) -> None:
        require("vllm", "vllm")
        check_options(engine_options, self.option_names(), "the vllm engine")
        _check_meaning(engine_options)
        self.task: Task = task
        self.model = model
        files = read_model(resolve_model(model, task, source=source, revision=revision), task)
        weight_files(files.folder)  # vLLM itself would fall back on pickled weights
        self.tokenizer = Tokenizer.from_folder(files.folder)
        self.dimensions = files.width if task == "embed" else None
        self._vocabulary = int(files.config["vocab_size"])
        self._identity = folder_identity(files, self.tokenizer.digest)  # now, before it is loaded: the folder may change later
        start = VllmStart(files, model, _engine_args(files, task, engine_options), concurrency)
        loop = VllmLoop(start, task, model, files.labels.positive)
        loop.wait_until_ready()
        self.memory: MemoryPlan | None = start.plan
        self.max_tokens: int = start.max_tokens
        self._numerics = {"backend": self.backend, **start.numerics}
        self._loop = loop
        self.close = weakref.finalize(self, loop.close)
        """Give the memory back, and the process if there is one. Twice is fine."""

    @staticmethod
    def option_names() -> list[str]:
        """VLLM's own options, read from the vLLM that is installed.

        Raises:
            MissingExtra: If vLLM is not installed.
        """
        arguments = require("vllm.engine.arg_utils", "vllm").EngineArgs
        ours = ("revision",)
        return [field.name for field in dataclasses.fields(arguments) if field.name not in ours and not field.name.startswith("_")]

    @property
    def alive(self) -> bool:
        """False after `close`, and when vLLM has died: then `open_engine` opens a new one."""
        return self._loop.alive

    def fingerprint(self) -> Fingerprint:
        """What its numbers depend on; see `Fingerprint`."""
        return Fingerprint(self._identity, self._numerics)

    def _submit(self, job: Job) -> Future[Reply]:
        check_task(self, job)
        if not job.prompts:
            empty: Future[Reply] = Future()
            empty.set_result(Reply(np.empty((0, self.dimensions) if self.dimensions else 0, dtype=np.float32), 0))
            return empty
        ids = [self._ids(index, prompt) for index, prompt in enumerate(job.prompts)]
        self._check_vocabulary(ids)
        return self._loop.submit(ids, job.turn)

    def _ids(self, index: int, prompt: Prompt) -> Ids:
        """A prompt's token ids, after proving that they are there and that the model takes so many."""
        ids = prompt.ids
        if ids is None or not len(ids):
            raise EngineError(f"item {index} of this call has no token ids; plan jobs with the engine's tokenizer")
        if len(ids) > self.max_tokens:
            raise PromptTooLong(
                f"item {index} of this call has {len(ids)} tokens, but {self.model} was opened for {self.max_tokens}: raise max_model_len",
                tokens=len(ids),
                max_tokens=self.max_tokens,
            )
        return ids

    def _check_vocabulary(self, ids: Sequence[Ids]) -> None:
        """Prove that the model knows all ids, at once for all prompts; vLLM without its tokenizer does not look at them."""
        joined = ids[0] if len(ids) == 1 else np.concatenate(ids)
        if joined.min() >= 0 and joined.max() < self._vocabulary:
            return
        index = next(index for index, own in enumerate(ids) if own.min() < 0 or own.max() >= self._vocabulary)
        raise EngineError(f"item {index} of this call holds a token id outside {self.model}'s vocabulary of {self._vocabulary}")

    @property
    def where(self) -> str:
        """Where it computes, and the memory that was planned for it."""
        return "vLLM in this process's service" + (f", {self.memory.total_bytes / 2**30:.1f} GiB planned" if self.memory else "")

    def __repr__(self) -> str:
        return f"VllmEngine({self.task!r}, {self.model!r}, max_tokens={self.max_tokens})"


def _check_meaning(options: Mapping[str, Any]) -> None:
    """Refuse what would give wrong numbers, or run foreign code.

    Raises:
        ConfigError: For the first such option; says why.
    """
    if options.get("trust_remote_code"):
        raise ConfigError("trust_remote_code is never needed for Qwen3 models, and never set by this package: leave it out")
    for option, reason in _REFUSED.items():
        if option in options:
            raise ConfigError(f"the vllm engine sets {option} itself: {reason}")
    if "load_format" in options:
        check_load_format(options["load_format"], "load_format")
    overrides = options.get("hf_overrides")
    if overrides is None:
        return
    if not isinstance(overrides, Mapping):
        raise ConfigError("hf_overrides must be a dictionary: a function could change what the score is read from")
    for key in (*ORIGINAL_RERANKER, "num_labels", "id2label", "model_type"):
        if key in overrides:
            raise ConfigError(f"the vllm engine sets hf_overrides[{key!r}] itself, from the model's own config: leave it out")


def _stored_head(files: ModelFiles) -> dict[str, Any]:
    """The overrides for a sequence-classification conversion, after proving that its head fits its labels."""
    head = files.stored_head()
    undeclared = {"num_labels": head.rows} if files.labels.count is None else {}  # vLLM would make a head of two rows
    return stored_head_overrides(files.config) | undeclared


def _engine_args(files: ModelFiles, task: Task, options: Mapping[str, Any]) -> dict[str, Any]:
    """All of vLLM's arguments: the caller's, and ours where the caller has none or must have none."""
    from vllm.config import PoolerConfig

    ours: dict[str, Any] = {
        "model": str(files.folder),
        "runner": "pooling",
        # A folder's own pooling file, or vLLM's default, would say the same for every Qwen3 model.
        "pooler_config": PoolerConfig(seq_pooling_type="LAST"),
        "skip_tokenizer_init": True,
    }
    overrides = dict(options.get("hf_overrides") or {})
    if task == "rerank":
        overrides |= _stored_head(files) if files.classifier else ORIGINAL_RERANKER
    defaults = {"max_model_len": min(files.context, DEFAULT_MAX_MODEL_LEN), "disable_log_stats": True}
    longest = options.get("max_model_len") or defaults["max_model_len"]
    if (options.get("max_num_batched_tokens") or longest) >= longest:
        # In parts, vLLM 0.24 never ends a prompt of just max_model_len tokens: it keeps the last place for a token that it means
        # to generate. Source: its issues 47971 and 55427.
        defaults["enable_chunked_prefill"] = False
    return defaults | dict(options) | ours | {"hf_overrides": overrides}
