"""Flags that a user passes to the engine's program. Flags that would make results wrong or unsafe are refused."""

from __future__ import annotations

from collections.abc import Sequence

from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.pickles import check_adapter, check_load_format
from qwen3_integrations.serving.installed import Installed
from qwen3_integrations.serving.options import OPTIONS

_SPELLINGS = [(spelling, option.name) for option in OPTIONS for flags in option.flags.values() for spelling in flags]

_SHORT = {"-sc": "speculative_config"} | {short: name for short, name in _SPELLINGS if short.startswith("-")}
"""Short flags: the option that they mean, or vLLM's own long flag."""

REFUSED = {
    "trust_remote_code": "Qwen3 models need no code from the model's folder, and none is run",
    "api_key": "everybody on the machine can read a key in a command line; use the option api_key",
    "hf_token": "everybody on the machine can read a token in a command line; set HF_TOKEN in the environment",
    **dict.fromkeys(("runner", "is_embedding"), "the option task sets it"),
    **dict.fromkeys(("hf_overrides", "json_model_override_args", "chat_template"), "prompts and scores depend on it, so it is set here"),
    **dict.fromkeys(("pooler_config", "override_pooler_config", "pooling_type"), "the model's folder declares how it is pooled"),
    "log_level": "at other levels SGLang writes its key into the log",
    "config": "flags in a file can't be checked; name them one by one",
    **dict.fromkeys(("ssl_keyfile", "ssl_certfile", "ssl_ca_certs"), "servers started here use plain HTTP; put a proxy in front"),
    **dict.fromkeys(
        ("tokenizer", "tokenizer_path", "tokenizer_mode", "skip_tokenizer_init", "convert"), "that of the model's folder is used"
    ),
    **dict.fromkeys(
        ("tokenizer_revision", "hf_config_path", "config_format", "model_weights", "model_impl", "code_revision"),
        "config, tokenizer and weights come only from the model's folder, and code only from the program",
    ),
    **dict.fromkeys(
        ("speculative_config", "speculative_draft_model_path"), "these models generate no text, so there is no speculative decoding"
    ),
    **dict.fromkeys(("enable_prompt_embeds", "enable_mm_embeds"), "the server would unpickle what clients send, which can run code"),
    "default_mm_loras": "these models read text only, and the program would load the adapters that it names",
    **dict.fromkeys(
        ("grpc", "grpc_port", "grpc_mode", "encoder_only", "tokenizer_worker_num"),
        "a server started so would not ask for the key on every route",
    ),
    "engine": "the option engine sets it",
    **dict.fromkeys(("keys", "no_key"), "the options api_key and without_key set the key"),
    "custom_weight_loader": "only the program itself reads weights",
}
"""Refused flags that are not flags of options, with the reason."""

_ALL_REFUSED = {
    name.replace("-", "_"): f"use the option {option}"
    for spelling, option in _SPELLINGS
    for name in (spelling, spelling.removeprefix("no-"), option)
    if not name.startswith("-")
} | REFUSED
"""All refused flags, with the reason."""

_LOAD_FORMAT = "load_format"
_ADAPTERS = ("lora_modules", "lora_paths")
_CHECKED = (*_ALL_REFUSED, _LOAD_FORMAT, *_ADAPTERS)


def check_extra(words: Sequence[str], installed: Installed) -> None:
    """Refuse flags that can't be passed on, in every spelling that the programs' parsers accept.

    Args:
        words: The words, as the program spells them.
        installed: The program, whose version decides which flags there are.

    Raises:
        ConfigError: For the first such flag; says why.
    """
    for flag in flags_of(words):
        meant = _meant(flag, installed)
        if meant in _ALL_REFUSED:
            raise ConfigError(f"can't contain {spelled(flag)}: {_ALL_REFUSED[meant]}", option="extra_args")
        if meant != flag:
            raise ConfigError(f"contain an abbreviation, {spelled(flag)}: it must be spelled out: {spelled(meant)}", option="extra_args")
        if not installed.has(flag.removeprefix("no_")):
            installed.check(flag)
    for value in values_of(words, _LOAD_FORMAT):
        check_load_format(value, "--load-format")
    for name in _ADAPTERS:
        for value in values_of(words, name):
            check_adapter(value)


def flags_of(words: Sequence[str]) -> list[str]:
    """The flags among the words of a command line, with underscores, without leading dashes and without `=value`."""
    short = [_SHORT[name] for word in words if (name := word.partition("=")[0]) in _SHORT]
    # Python's parsers also accept the value directly after a flag of one letter: -qfp8.
    short += [_SHORT[word[:2]] for word in words if word[:2] in _SHORT and len(word) > 2 and word.partition("=")[0] not in _SHORT]
    return short + [_name(word) for word in words if word.startswith("--") and len(word) > 2]


def _name(word: str) -> str:
    return word[2:].partition("=")[0].partition(".")[0].replace("-", "_")


def _meant(flag: str, installed: Installed) -> str:
    """The checked flag that a word means: Python's parsers accept the beginning of a name.

    If the program's flags are known, a beginning is refused as an unknown flag.
    """
    if flag in _CHECKED or installed.flags:
        return flag
    return next((name for name in _CHECKED if name.startswith(flag)), flag)


def values_of(words: Sequence[str], flag: str) -> list[str]:
    """All values of a flag: after its `=`, or the words up to the next flag; an empty string if it has no value."""
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


def spelled(flag: str) -> str:
    """A flag as written in a command line: `--max-num-seqs`."""
    return f"--{flag.replace('_', '-')}"
