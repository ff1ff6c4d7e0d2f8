"""The command line that starts a server, made from its options by pure functions. Secrets go into the environment or a file."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import InitVar, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.checkpoint import ModelFiles
from qwen3_integrations.models.memory import MemoryPlan
from qwen3_integrations.models.sglang_support import RESERVED_TOKENS
from qwen3_integrations.models.vllm_support import (
    LONGER_THAN_DECLARED,
    POOLING_TYPES,
    exceeds_declared_length,
    reads_whole_prompts,
    vllm_overrides,
)
from qwen3_integrations.serving.adapter import read_adapter
from qwen3_integrations.serving.extra_flags import check_extra, flags_of, spelled
from qwen3_integrations.serving.guard import GUARD, KEY, guarded_sglang
from qwen3_integrations.serving.hidden import Hidden, HoldsHidden
from qwen3_integrations.serving.installed import Installed
from qwen3_integrations.serving.options import OPTIONS, TITLES, ServerOptions

TEMPLATE = Path(__file__).parent / "qwen3_reranker.jinja"
"""The official prompt for the routes on which the server combines query and document: /score, /rerank, /v1/rerank."""

KEY_FILE = "{key-file}"
"""Placeholder in a command for the path of the file that holds the key; see `Command.key_config`."""

_SGLANG_ON_CPU = {"device": "cpu", "attention_backend": "torch_native", "sampling_backend": "pytorch", "grammar_backend": "none"}
"""Flags of SGLang on a CPU: PyTorch's own functions instead of CUDA kernels."""

_SGLANG_SWITCHES_ON_CPU = ("disable_overlap_schedule", "skip_server_warmup", "sleep_on_idle")
"""The last one: without it, its scheduler fills a core also while it has no request."""


@dataclass(frozen=True, slots=True, eq=False)
class Command(HoldsHidden):
    """A command to run.

    Attributes:
        argv: The words of the command line, without secrets.
        env: Variables to add to this process's environment. They hold the key, so this is no field: it is not shown and not pickled.
        key_config: The content of a key file, for an engine that reads its key from one; its path replaces `KEY_FILE` in `argv`.
    """

    argv: tuple[str, ...]
    if TYPE_CHECKING:
        env: Mapping[str, str]
        key_config: str | None = None
    else:
        env: InitVar[Mapping[str, str]] = Hidden()
        key_config: InitVar[str | None] = Hidden()

    def __post_init__(self, env: Mapping[str, str] | None = None, key_config: str | None = None) -> None:  # noqa: RUF033  fields to type checkers
        self._hide(env=dict(env or {}), key_config=key_config)

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
    cpu: bool = False,
) -> Command:
    """The command that serves a model with these options.

    Args:
        options: The options.
        files: The model on disk.
        installed: The engine's program; its version decides which flags exist.
        port: The port to listen on; not used with `options.uds`.
        api_key: The key; None for no key.
        plan: The memory plan; None where `gpu_memory_utilization` leaves the sizes to the server.
        share: The plan as a share of the smallest device, in (0, 1]; None where it is not known.
        cpu: Whether SGLang runs on the CPU; a CPU build of vLLM does by itself.

    Raises:
        ConfigError: For an option that this engine or this version does not have.
    """
    check_extra(options.extra_args, installed)
    if installed.engine == "vllm":
        return _vllm(options, files, installed, port, api_key, plan, share)
    return _sglang(options, files, installed, port, api_key, plan, share, cpu=cpu)


def max_tokens_of(options: ServerOptions, files: ModelFiles) -> int:
    """The longest prompt that the server takes, in tokens: the option's value, at most the model's context."""
    return min(options.max_tokens, files.context)


def max_model_len_of(options: ServerOptions, files: ModelFiles) -> int:
    """The context of the server: the longest prompt, plus the tokens that the program reserves, where the model's context allows it.

    vLLM's `max_model_len`: the longest prompt, plus one token for chunked prefill where the context allows it.

    With chunked prefill, vLLM 0.24 never finishes a prompt of exactly `max_model_len` tokens: it reserves the last position for a
    generated token. vLLM 0.32 does not. Source: vLLM's issues 47971 and 55427.
    """
    reserved = RESERVED_TOKENS[options.task] if options.engine == "sglang" else _is_chunked(options, files)
    return min(max_tokens_of(options, files) + reserved, files.context)


def _is_chunked(options: ServerOptions, files: ModelFiles) -> bool:
    """Whether a forward pass may be too small for a prompt. If not, chunked prefill is switched off, so that every prompt finishes."""
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
    overrides = vllm_overrides(files, options.task) | ({"is_matryoshka": True} if options.task == "embed" else {})
    flags = _Flags(installed)
    if installed.distribution == "vllm":
        start = [installed.python, "-m", "vllm.entrypoints.cli.main", "serve", str(files.folder)]
    else:  # the `vllm` command looks for a distribution of that name, which a build under another name lacks
        start = [installed.python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(files.folder)]
    values = _common_values(options, port)
    values["max_tokens"] = max_model_len_of(options, files)
    if options.uds is not None:
        values |= {"uds": options.socket, "host": None, "port": None}
    if plan is not None:
        if options.kv_cache_memory_bytes is not None or installed.has("kv_cache_memory_bytes"):
            values["kv_cache_memory_bytes"] = plan.cache_bytes
        # vLLM proves that this share is free even where the cache's size is given; older ones size the cache by it.
        values["gpu_memory_utilization"] = share
    flags.add_options(options, values)
    flags.add("runner", "pooling")
    if reads_whole_prompts(files):  # vLLM's default is the last token
        flags.add("pooler_config", json.dumps({"pooling_type": POOLING_TYPES[files.modules.pooling.mode]}))
    if overrides:
        flags.add("hf_overrides", json.dumps(overrides))
    flags.add_adapter(options, files)
    if options.task == "rerank":
        flags.add("chat_template", str(TEMPLATE))
    if not _is_chunked(options, files):
        flags.switch("no_enable_chunked_prefill")
    if "disable_uvicorn_access_log" in installed.flags:  # a log line for each request would hide other lines and fill the disk
        flags.switch("disable_uvicorn_access_log")
    env = {"VLLM_NO_USAGE_STATS": "1", "VLLM_API_KEY": api_key or ""}
    if exceeds_declared_length(files, max_model_len_of(options, files)):
        env[LONGER_THAN_DECLARED] = "1"
    env |= dict(options.env or {})
    words = (*start, *flags.words, *options.extra_args)
    if api_key is None:
        return Command(words, env)
    installed.check("middleware", "the key for every route")
    return Command((*words, "--middleware", GUARD), env | {KEY: api_key})  # the last one is the first that sees a request


def _sglang(
    options: ServerOptions,
    files: ModelFiles,
    installed: Installed,
    port: int,
    api_key: str | None,
    plan: MemoryPlan | None,
    share: float | None,
    *,
    cpu: bool,
) -> Command:
    if options.task == "rerank" and files.classifier:
        raise ConfigError(
            f"{files.folder} is a sequence-classification conversion, which SGLang does not score as a Qwen3 reranker",
            option="model",
            advice="Serve the original checkpoint, or use engine='vllm'",
        )
    if api_key is not None and api_key.startswith("-"):
        raise ConfigError("begins with a hyphen, and SGLang takes it for a flag", option="api_key", advice="Use another key")
    if options.lora is not None:
        raise ConfigError("is served by vLLM only", option="lora", advice="Use engine='vllm', or merge the adapter into the model")
    flags = _Flags(installed)
    program = ["-m", "sglang.launch_server"] if api_key is None else [guarded_sglang()]
    start = [installed.python, *program, "--model-path", str(files.folder)]
    values = _common_values(options, port)
    values["max_tokens"] = max_model_len_of(options, files)
    if plan is not None:
        values |= {"kv_cache_memory_bytes": plan.cache_tokens, "gpu_memory_utilization": share}  # SGLang counts the cache in tokens
    flags.add_options(options, values)
    if options.task == "embed":
        flags.switch("is_embedding")
        flags.add("json_model_override_args", json.dumps({"is_matryoshka": True}))
    else:  # generation mode: SGLang makes the score from "yes" and "no" once it finds the model's own prompt in the template
        flags.add("chat_template", str(TEMPLATE))
    flags.switch("enable_metrics")
    flags.add("log_level", "warning")  # at the level info, SGLang writes all its arguments into the log, the key among them
    given = flags_of(options.extra_args)
    if cpu:
        for flag, value in _SGLANG_ON_CPU.items():
            if flag not in given:
                flags.add(flag, value)
        for flag in _SGLANG_SWITCHES_ON_CPU:
            if flag not in given:
                flags.switch(flag)
    if api_key is not None:
        flags.add("config", KEY_FILE)
    config = None if api_key is None else f"api-key: {json.dumps(api_key)}\n"
    env = ({"SGLANG_USE_CPU_ENGINE": "1", "CUDA_VISIBLE_DEVICES": ""} if cpu else {}) | dict(options.env or {})
    env |= {} if api_key is None else {KEY: api_key}
    return Command((*start, *flags.words, *options.extra_args), env, config)


def _common_values(options: ServerOptions, port: int) -> dict[str, object]:
    """The options whose flags are always given, with values that are computed here; None for no flag."""
    return {
        "model": None,  # the command begins with it
        "served_name": options.name,
        "host": options.host,
        "port": port,
        "dtype": options.dtype,
        "max_num_batched_tokens": options.batched_tokens,
    }


class _Flags:
    """Words of a command line; each flag is one that the installed version has."""

    def __init__(self, installed: Installed) -> None:
        self._installed = installed
        self.words: list[str] = []

    def add(self, flag: str, value: object) -> None:
        """Add a flag with a value.

        Args:
            flag: With underscores.
            value: Its value.
        """
        self._installed.check(flag)
        self.words += [spelled(flag), str(value)]

    def switch(self, flag: str) -> None:
        """Add a flag without a value; `no_x` is also allowed where the version has `x`."""
        if not self._installed.has(flag.removeprefix("no_")):
            self._installed.check(flag)
        self.words.append(spelled(flag))

    def add_adapter(self, options: ServerOptions, files: ModelFiles) -> None:
        """Add the flags of vLLM for an adapter, if the options have one."""
        if options.lora is not None:
            self.switch("enable_lora")
            for flag, value in read_adapter(Path(options.lora), files, options.name).words:
                self.add(flag, value)

    def add_options(self, options: ServerOptions, values: Mapping[str, object]) -> None:
        """Add the flag of each option that is not at its default.

        Args:
            options: The options.
            values: By option: the value to give instead of the option's own, also at its default; None gives no flag.

        Raises:
            ConfigError: For an option that only another engine has.
        """
        engine = self._installed.engine
        for option in OPTIONS:
            flag, value = option.flag(engine), getattr(options, option.name)
            if flag is None and option.flags and value != option.default:
                able = " or ".join(map(repr, option.flags))
                raise ConfigError(
                    f"has no equivalent in {TITLES[engine]}", option=option.name, advice=f"Leave it out, or use engine={able}"
                )
            value = values.get(option.name, None if value == option.default else value)
            if flag is None or value is None:
                continue
            if option.kind == "switch":
                self.switch(flag)
            else:
                self.add(flag, value)
