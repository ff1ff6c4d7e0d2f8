"""SGLang: `sglang.launch_server`."""

from __future__ import annotations

import json

from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.checkpoint import ModelFiles
from qwen3_integrations.models.modules import Pooling
from qwen3_integrations.models.sglang_support import RESERVED_TOKENS
from qwen3_integrations.models.vllm_support import adapter_refusal
from qwen3_integrations.serving.argv import KEY_FILE, TEMPLATE, Command, Flags, common_values
from qwen3_integrations.serving.extra_flags import flags_of
from qwen3_integrations.serving.guard import KEY, guarded_sglang
from qwen3_integrations.serving.installed import Installed
from qwen3_integrations.serving.options import ServerOptions
from qwen3_integrations.serving.programs.program import Program, Request, max_tokens_of

_ON_CPU = {"device": "cpu", "attention_backend": "torch_native", "sampling_backend": "pytorch", "grammar_backend": "none"}
"""Flags of SGLang on a CPU: PyTorch's own functions instead of CUDA kernels."""

_SWITCHES_ON_CPU = ("disable_overlap_schedule", "skip_server_warmup", "sleep_on_idle")
"""The last one: without it, its scheduler fills a core also while it has no request."""


class _Sglang(Program):
    def refusal(self, options: ServerOptions, files: ModelFiles) -> str | None:
        """What SGLang does not read of an embedding model's folder: it pools the last token."""
        if files.adapter:
            return adapter_refusal(files.adapter, "SGLang")
        if options.task == "embed" and (files.modules.pooling != Pooling() or files.modules.dense):
            return f"{files.folder} declares {files.modules}, but SGLang pools the last token with the prompt, and has no Dense"
        if options.task == "rerank" and not files.classifier and files.score_head.token_names(files.tokenizer_folder) != ("no", "yes"):
            return f"{files.folder} is scored by {files.score_head}, but SGLang reads the tokens 'yes' and 'no'"
        return None

    def runs_on_cpu(self, options: ServerOptions, installed: Installed) -> bool:
        return installed.is_cpu_build or super().runs_on_cpu(options, installed)

    def longest_prompt(self, options: ServerOptions, files: ModelFiles) -> int:
        return min(max_tokens_of(options, files) + RESERVED_TOKENS[options.task], files.context)

    def command(self, request: Request) -> Command:
        options, files, installed, plan, api_key = request.options, request.files, request.installed, request.plan, request.key.value
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
        flags = Flags(installed)
        program = ["-m", "sglang.launch_server"] if api_key is None else [guarded_sglang()]
        start = [installed.python, *program, "--model-path", str(files.folder)]
        values = common_values(options, request.port)
        values["max_tokens"] = self.longest_prompt(options, files)
        if plan is not None:  # SGLang counts the cache in tokens
            values |= {"kv_cache_memory_bytes": plan.cache_tokens, "gpu_memory_utilization": request.share}
        flags.add_options(options, values)
        if options.task == "embed":
            flags.switch("is_embedding")
            flags.add("json_model_override_args", json.dumps({"is_matryoshka": True}))
        else:  # generation mode: SGLang makes the score from "yes" and "no" once it finds the model's own prompt in the template
            flags.add("chat_template", str(TEMPLATE))
        flags.switch("enable_metrics")
        flags.add("log_level", "warning")  # at the level info, SGLang writes all its arguments into the log, the key among them
        given = flags_of(options.extra_args)
        if request.cpu:
            for flag, value in _ON_CPU.items():
                if flag not in given:
                    flags.add(flag, value)
            for flag in _SWITCHES_ON_CPU:
                if flag not in given:
                    flags.switch(flag)
        if api_key is not None:
            flags.add("config", KEY_FILE)
        config = None if api_key is None else f"api-key: {json.dumps(api_key)}\n"
        env = ({"SGLANG_USE_CPU_ENGINE": "1", "CUDA_VISIBLE_DEVICES": ""} if request.cpu else {}) | dict(options.env or {})
        env |= {} if api_key is None else {KEY: api_key}
        return Command((*start, *flags.words, *options.extra_args), env, config)


SGLANG = _Sglang()
