"""Flags that a user passes on to a server's program: those that would break what the package promises are refused."""

from __future__ import annotations

from collections.abc import Sequence

from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.pickles import check_adapter, check_load_format
from qwen3_integrations.serving.installed import Installed

_WITH_OPTIONS = (
    *("max_model_len", "context_length", "max_num_batched_tokens", "chunked_prefill_size", "max_num_seqs", "max_running_requests"),
    *("tensor_parallel_size", "tp_size", "pipeline_parallel_size", "pp_size", "data_parallel_size", "dp_size", "api_server_count"),
    *("kv_cache_memory_bytes", "gpu_memory_utilization", "max_total_tokens", "mem_fraction_static", "enforce_eager"),
)
_SHORT = {
    "-tp": "tensor_parallel_size",
    "-pp": "pipeline_parallel_size",
    "-dp": "data_parallel_size",
    "-q": "quantization",
    "-sc": "speculative_config",
}
"""vLLM's short forms of such flags."""

_OWNED = {
    "trust_remote_code": "Qwen3 models need no code of their own, and none is run",
    "api_key": "a key in a command line is seen by everybody on the machine: api_key puts it where it is not",
    "hf_token": "a token in a command line is seen by everybody on the machine: set HF_TOKEN in the environment",
    **dict.fromkeys(("model", "model_path", "model_tag"), "model says it"),
    **dict.fromkeys(
        ("host", "port", "uds", "served_model_name", "dtype", "quantization", "runner", "is_embedding"), "an option of its own says it"
    ),
    **dict.fromkeys(("hf_overrides", "json_model_override_args", "chat_template"), "prompts and scores depend on it, so it is set here"),
    **dict.fromkeys(("pooler_config", "override_pooler_config", "pooling_type"), "these models pool the last token"),
    "config": "flags in a file can't be looked at: name them one by one",
    **dict.fromkeys(_WITH_OPTIONS, "an option of its own says it, which the memory plan knows of"),
    **dict.fromkeys(("ssl_keyfile", "ssl_certfile", "ssl_ca_certs"), "servers started here speak plain HTTP: put a proxy before it"),
    **dict.fromkeys(("tokenizer", "tokenizer_path", "tokenizer_mode", "skip_tokenizer_init", "convert"), "the model's own is used"),
    **dict.fromkeys(
        ("tokenizer_revision", "hf_config_path", "config_format", "model_weights", "model_impl", "code_revision"),
        "description, tokenizer, weights and code come from the model's folder and the program alone",
    ),
    **dict.fromkeys(("speculative_config", "speculative_draft_model_path"), "these models write no text, so nothing is to be guessed"),
    **dict.fromkeys(("enable_prompt_embeds", "enable_mm_embeds"), "the server would unpickle what clients send, which can run code"),
    "default_mm_loras": "these models read text alone, and the adapters that it names would be loaded",
    "custom_weight_loader": "weights are read by the program alone",
}
"""Flags that `extra_args` may not hold, and why."""

_LOAD_FORMAT = "load_format"
_ADAPTERS = ("lora_modules", "lora_paths")
_JUDGED = (*_OWNED, _LOAD_FORMAT, *_ADAPTERS)


def check_extra(words: Sequence[str], installed: Installed) -> None:
    """Refuse flags that can't be passed on, in every spelling that the programs' parsers take.

    Args:
        words: The words, as the program spells them.
        installed: The program, whose version decides which flags there are.

    Raises:
        ConfigError: For the first such flag; says why.
    """
    for flag in flags_of(words):
        meant = _meant(flag, installed)
        if meant in _OWNED:
            raise ConfigError(f"extra_args can't hold --{flag.replace('_', '-')}: {_OWNED[meant]}")
        if meant != flag:
            raise ConfigError(f"extra_args: --{flag.replace('_', '-')} must be spelled out, --{meant.replace('_', '-')}")
        if not installed.has(flag.removeprefix("no_")):
            installed.check(flag)
    for value in _values(words, _LOAD_FORMAT):
        check_load_format(value, "--load-format")
    for name in _ADAPTERS:
        for value in _values(words, name):
            check_adapter(value)


def flags_of(words: Sequence[str]) -> list[str]:
    """The flags among words of a command line, without dashes at the front, with underscores, and without `=value`."""
    short = [_SHORT[name] for word in words if (name := word.partition("=")[0]) in _SHORT]
    # Python's parsers take the value of a flag of one letter behind it, too: -qfp8.
    short += [_SHORT[word[:2]] for word in words if word[:2] in _SHORT and len(word) > 2 and word.partition("=")[0] not in _SHORT]
    return short + [_name(word) for word in words if word.startswith("--") and len(word) > 2]


def _name(word: str) -> str:
    return word[2:].partition("=")[0].partition(".")[0].replace("-", "_")


def _meant(flag: str, installed: Installed) -> str:
    """The judged flag that a word means: Python's parsers take the beginning of a name for the name.

    Where the program's flags are known, a beginning is refused as an unknown flag.
    """
    if flag in _JUDGED or installed.flags:
        return flag
    return next((name for name in _JUDGED if name.startswith(flag)), flag)


def _values(words: Sequence[str], flag: str) -> list[str]:
    """All values of a flag: behind its `=`, or the words up to the next flag; an empty one where it has none."""
    found: list[str] = []
    for at, word in enumerate(words):
        if not word.startswith("--") or _name(word) != flag:
            continue
        if "=" in word:
            found.append(word.partition("=")[2])
            continue
        behind = list(words[at + 1 :])
        end = next((place for place, each in enumerate(behind) if each.startswith("--")), len(behind))
        found += behind[:end] or [""]
    return found
