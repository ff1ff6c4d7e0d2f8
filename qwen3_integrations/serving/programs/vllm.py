"""vLLM: `vllm serve`."""

from __future__ import annotations

import json
from pathlib import Path

from qwen3_integrations.models.checkpoint import ModelFiles
from qwen3_integrations.models.folders import CONFIG
from qwen3_integrations.models.vllm_support import (
    LONGER_THAN_DECLARED,
    POOLING_TYPES,
    exceeds_declared_length,
    reads_whole_prompts,
    vllm_overrides,
    vllm_refusals,
)
from qwen3_integrations.serving.adapter import read_adapter
from qwen3_integrations.serving.argv import TEMPLATE, Command, Flags, common_values
from qwen3_integrations.serving.guard import GUARD, KEY
from qwen3_integrations.serving.installed import Installed
from qwen3_integrations.serving.options import ServerOptions
from qwen3_integrations.serving.programs.program import Program, Request, max_tokens_of


class _Vllm(Program):
    def refusal(self, options: ServerOptions, files: ModelFiles) -> str | None:
        if reason := vllm_refusals(files, options.task):
            return reason
        if options.task == "embed" and reads_whole_prompts(files) and options.batched_tokens < min(options.max_tokens, files.context):
            return (
                f"{files.folder} pools {files.modules.pooling}, which vLLM does only over a prompt that one pass computes: raise "
                "max_num_batched_tokens to max_tokens"
            )
        if not files.classifier:
            return None
        files.stored_head()
        config = files.folder / CONFIG
        if files.labels.count == 2 and files.labels.positive == 0:
            return (
                f"{config} has 'yes' as label 0 (id2label), and clients take the last label that a server answers for 'yes', so scores "
                "would be inverted: swap the two rows of score.weight (and score.bias) and the names in id2label"
            )
        return None

    def runs_on_cpu(self, options: ServerOptions, installed: Installed) -> bool:  # noqa: ARG002
        return installed.is_cpu_build

    def longest_prompt(self, options: ServerOptions, files: ModelFiles) -> int:
        """The `max_model_len`: the longest prompt, plus one token for chunked prefill where the context allows it.

        With chunked prefill, vLLM 0.24 never finishes a prompt of exactly `max_model_len` tokens: it reserves the last position for a
        generated token. vLLM 0.32 does not. Source: vLLM's issues 47971 and 55427.
        """
        return min(max_tokens_of(options, files) + _is_chunked(options, files), files.context)

    def command(self, request: Request) -> Command:
        options, files, installed, plan, api_key = request.options, request.files, request.installed, request.plan, request.key.value
        installed.check("runner", "a pooling server")
        overrides = vllm_overrides(files, options.task) | ({"is_matryoshka": True} if options.task == "embed" else {})
        flags = Flags(installed)
        if installed.distribution == "vllm":
            start = [installed.python, "-m", "vllm.entrypoints.cli.main", "serve", str(files.folder)]
        else:  # the `vllm` command looks for a distribution of that name, which a build under another name lacks
            start = [installed.python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(files.folder)]
        values = common_values(options, request.port)
        values["max_tokens"] = self.longest_prompt(options, files)
        if plan is not None:
            if options.kv_cache_memory_bytes is not None or installed.has("kv_cache_memory_bytes"):
                values["kv_cache_memory_bytes"] = plan.cache_bytes
            # vLLM proves that this share is free even where the cache's size is given; older ones size the cache by it.
            values["gpu_memory_utilization"] = request.share
        flags.add_options(options, values)
        flags.add("runner", "pooling")
        if reads_whole_prompts(files):  # vLLM's default is the last token
            flags.add("pooler_config", json.dumps({"pooling_type": POOLING_TYPES[files.modules.pooling.mode]}))
        if overrides:
            flags.add("hf_overrides", json.dumps(overrides))
        _add_adapter(flags, options, files)
        if options.task == "rerank":
            flags.add("chat_template", str(TEMPLATE))
        if not _is_chunked(options, files):
            flags.switch("no_enable_chunked_prefill")
        if "disable_uvicorn_access_log" in installed.flags:  # a log line for each request would hide other lines and fill the disk
            flags.switch("disable_uvicorn_access_log")
        env = {"VLLM_NO_USAGE_STATS": "1", "VLLM_API_KEY": api_key or ""}
        if exceeds_declared_length(files, self.longest_prompt(options, files)):
            env[LONGER_THAN_DECLARED] = "1"
        env |= dict(options.env or {})
        words = (*start, *flags.words, *options.extra_args)
        if api_key is None:
            return Command(words, env)
        installed.check("middleware", "the key for every route")
        return Command((*words, "--middleware", GUARD), env | {KEY: api_key})  # the last one is the first that sees a request


def _add_adapter(flags: Flags, options: ServerOptions, files: ModelFiles) -> None:
    if options.lora is not None:
        flags.switch("enable_lora")
        for flag, value in read_adapter(Path(options.lora), files, options.name).words:
            flags.add(flag, value)


def _is_chunked(options: ServerOptions, files: ModelFiles) -> bool:
    """Whether a forward pass may be too small for a prompt. If not, chunked prefill is switched off, so that every prompt finishes."""
    return options.batched_tokens < max_tokens_of(options, files)


VLLM = _Vllm()
