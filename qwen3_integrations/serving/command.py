"""From options to a command line: pure functions. Secrets go into the environment or a file, never into the words."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.catalog import ORIGINAL_RERANKER
from qwen3_integrations.models.checkpoint import ModelFiles
from qwen3_integrations.models.memory import MemoryPlan
from qwen3_integrations.serving.extra_flags import check_extra
from qwen3_integrations.serving.installed import Installed
from qwen3_integrations.serving.options import ServerOptions

TEMPLATE = Path(__file__).parent / "qwen3_reranker.jinja"
"""The official prompt for the routes on which the server puts query and document together: /score, /rerank, /v1/rerank."""

KEY_FILE = "{key-file}"
"""Stands in a command for the file that a key must be written to; see `Command.key_config`."""


@dataclass(frozen=True, slots=True)
class Command:
    """What to run.

    Attributes:
        argv: Its words, without any secret.
        env: What its environment holds beside this process's; holds the key, so it is not shown.
        key_config: Content of a file, for a server that takes its key from one; the file's path replaces `KEY_FILE` in `argv`.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    key_config: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return shlex.join(self.argv)


def build_command(
    options: ServerOptions,
    files: ModelFiles,
    installed: Installed,
    *,
    port: int,
    api_key: str | None,
    plan: MemoryPlan | None = None,
    share: float | None = None,
) -> Command:
    """The command that serves a model as the options say.

    Args:
        options: What was asked for.
        files: The model on disk.
        installed: The program, whose version decides which flags there are.
        port: The port to listen on; not used with `options.uds`.
        api_key: The key; None for none.
        plan: The memory plan; None where `gpu_memory_utilization` leaves the sizes to the server.
        share: The plan as a share of the smallest device, in (0, 1]; None where that is not known.

    Raises:
        ConfigError: For an option that this version or this program does not have.
    """
    check_extra(options.extra_args, installed)
    make = _vllm if installed.engine == "vllm" else _sglang
    return make(options, files, installed, port, api_key, plan, share)


def max_tokens_of(options: ServerOptions, files: ModelFiles) -> int:
    """The longest prompt that the server will take, in tokens: what is asked for, at most the model's context."""
    return min(options.max_tokens, files.context)


def max_model_len_of(options: ServerOptions, files: ModelFiles) -> int:
    """The length that vLLM is told: of the longest prompt, or one more if prompts are computed in parts and the context allows it.

    In parts, vLLM 0.24 (0.32 no longer) never ends a prompt of just `max_model_len` tokens: it keeps the last place for a token to
    generate. Source: its issues 47971 and 55427.
    """
    return min(max_tokens_of(options, files) + _in_parts(options, files), files.context)


def _in_parts(options: ServerOptions, files: ModelFiles) -> bool:
    """Whether a forward pass may be too small for a prompt. Else none is computed in parts, so that each ends."""
    return options.batched_tokens < max_tokens_of(options, files)


def _vllm(
    options: ServerOptions,
    files: ModelFiles,
    installed: Installed,
    port: int,
    api_key: str | None,
    plan: MemoryPlan | None,
    share: float | None,
) -> Command:
    installed.check("runner", "a pooling server")
    overrides: dict[str, Any] = {"is_matryoshka": True} if options.task == "embed" else {}
    if options.task == "rerank" and not files.classifier:
        overrides = dict(ORIGINAL_RERANKER)
    flags = _Flags(installed)
    if installed.distribution == "vllm":
        start = [installed.python, "-m", "vllm.entrypoints.cli.main", "serve", str(files.folder)]
    else:  # the `vllm` command looks for a distribution of that name, which a build under another name lacks
        start = [installed.python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(files.folder)]
    flags.add("served_model_name", options.name)
    if options.uds is not None:
        flags.add("uds", str(options.socket))
    else:
        flags.add("host", options.host)
        flags.add("port", port)
    flags.add("runner", "pooling")
    if overrides:
        flags.add("hf_overrides", json.dumps(overrides))
    if options.task == "rerank":
        flags.add("chat_template", str(TEMPLATE))
    flags.add("dtype", options.dtype)
    flags.add("max_model_len", max_model_len_of(options, files))
    flags.add("max_num_batched_tokens", options.batched_tokens)
    if not _in_parts(options, files):
        flags.switch("no_enable_chunked_prefill", of="enable_chunked_prefill")
    flags.add("max_num_seqs", options.max_num_seqs)
    flags.add("tensor_parallel_size", options.tensor_parallel_size, default=1)
    flags.add("pipeline_parallel_size", options.pipeline_parallel_size, default=1)
    flags.add("data_parallel_size", options.data_parallel_size, default=1)
    flags.add("api_server_count", options.api_server_count)
    flags.add("quantization", options.quantization)
    _size_vllm(flags, options, installed, plan, share)
    if not options.prefix_caching:
        flags.switch("no_enable_prefix_caching", of="enable_prefix_caching")
    if options.enforce_eager:
        flags.switch("enforce_eager")
    if installed.has("disable_uvicorn_access_log"):  # a line a request would bury what matters, and grow without end
        flags.switch("disable_uvicorn_access_log")
    env = {"VLLM_NO_USAGE_STATS": "1", "VLLM_API_KEY": api_key or ""} | dict(options.env or {})
    return Command((*start, *flags.words, *options.extra_args), env)


def _size_vllm(flags: _Flags, options: ServerOptions, installed: Installed, plan: MemoryPlan | None, share: float | None) -> None:
    if plan is None:
        flags.add("gpu_memory_utilization", options.gpu_memory_utilization)
        return
    if options.kv_cache_memory_bytes is not None or installed.has("kv_cache_memory_bytes"):
        flags.add("kv_cache_memory_bytes", plan.cache_bytes)
    # vLLM proves that this share is free even where the cache's size is given; older ones size the cache by it.
    flags.add("gpu_memory_utilization", share)


def _sglang(
    options: ServerOptions,
    files: ModelFiles,
    installed: Installed,
    port: int,
    api_key: str | None,
    plan: MemoryPlan | None,
    share: float | None,
) -> Command:
    for name in ("uds", "api_server_count"):
        if getattr(options, name) is not None:
            raise ConfigError(f"{name} is vLLM's, SGLang has nothing like it: leave it out, or take engine='vllm'")
    flags = _Flags(installed)
    start = [installed.python, "-m", "sglang.launch_server", "--model-path", str(files.folder)]
    flags.add("served_model_name", options.name)
    flags.add("host", options.host)
    flags.add("port", port)
    if options.task == "embed":
        flags.switch("is_embedding")
        flags.add("json_model_override_args", json.dumps({"is_matryoshka": True}))
    elif files.classifier:
        raise ConfigError(
            f"{files.folder} is a sequence-classification conversion, which SGLang does not score as a Qwen3 reranker: "
            "serve the original checkpoint, or take engine='vllm'"
        )
    else:  # in generation mode, from whose yes and no it makes the score once it sees the model's own prompt in the template
        flags.add("chat_template", str(TEMPLATE))
    flags.add("dtype", options.dtype)
    flags.add("context_length", max_tokens_of(options, files))
    flags.add("chunked_prefill_size", options.batched_tokens)
    flags.add("max_running_requests", options.max_num_seqs)
    flags.add("tp_size", options.tensor_parallel_size, default=1)
    flags.add("pp_size", options.pipeline_parallel_size, default=1)
    flags.add("dp_size", options.data_parallel_size, default=1)
    flags.add("quantization", options.quantization)
    if plan is not None:
        flags.add("max_total_tokens", plan.cache_tokens)
    flags.add("mem_fraction_static", options.gpu_memory_utilization if plan is None else share)
    if not options.prefix_caching:
        flags.switch("disable_radix_cache")
    if options.enforce_eager:
        flags.switch("disable_cuda_graph")
    flags.switch("enable_metrics")
    if api_key is not None:
        flags.add("config", KEY_FILE)
    config = None if api_key is None else f"api-key: {json.dumps(api_key)}\n"
    return Command((*start, *flags.words, *options.extra_args), dict(options.env or {}), config)


class _Flags:
    """Words of a command line, each flag proved to exist in the installed version."""

    def __init__(self, installed: Installed) -> None:
        self._installed = installed
        self.words: list[str] = []

    def add(self, flag: str, value: object, *, default: object = None) -> None:
        """A flag with a value; nothing where that is None, or the program's own default."""
        if value is None or value == default:
            return
        self._installed.check(flag)
        self.words += [_spelled(flag), str(value)]

    def switch(self, flag: str, *, of: str | None = None) -> None:
        """A flag without a value; `of` is the flag it negates."""
        self._installed.check(of or flag)
        self.words.append(_spelled(flag))


def _spelled(flag: str) -> str:
    return f"--{flag.replace('_', '-')}"
