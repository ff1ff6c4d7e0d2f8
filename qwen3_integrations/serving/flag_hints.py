"""What to write instead of a flag of vLLM, SGLang or another program, which `serve` does not have under this name."""

from __future__ import annotations

from contextlib import suppress

from qwen3_integrations.errors import Qwen3Error
from qwen3_integrations.serving.extra_flags import REFUSED, spelled
from qwen3_integrations.serving.installed import find_server
from qwen3_integrations.serving.option_fields import Option
from qwen3_integrations.serving.options import OPTIONS, TITLES, EngineName

_POSITIONAL = {
    "task": "the task is the first word, as in: serve embed MODEL",
    "model": "the model is the word after the task, as in: serve embed Qwen/Qwen3-Embedding-0.6B",
}
_OTHER_NAMES = {
    **dict.fromkeys(("model_id", "model_name", "model_name_or_path"), "model"),
    **dict.fromkeys(("max_length", "max_seq_len", "max_seq_length", "max_context_len", "ctx_size", "num_ctx"), "max_tokens"),
    **dict.fromkeys(("tp", "gpus", "num_gpus"), "tensor_parallel_size"),
    **dict.fromkeys(("max_batch_tokens", "chunked_prefill"), "max_num_batched_tokens"),
    **dict.fromkeys(("max_concurrent_requests", "batch_size", "max_batch_size"), "max_num_seqs"),
    **dict.fromkeys(("no_key", "no_api_key", "no_auth"), "without_key"),
    **dict.fromkeys(("model_served_name", "alias", "served_name"), "served_name"),
    **dict.fromkeys(("gpu_memory", "gpu_memory_fraction", "mem_fraction"), "gpu_memory_utilization"),
    **dict.fromkeys(("unix_socket", "socket"), "uds"),
    "pp": "pipeline_parallel_size",
    "dp": "data_parallel_size",
    "data_type": "dtype",
}
"""Names in other programs (SGLang's short ones, TEI, llama.cpp, Ollama), and names that are guessed -> the option."""

_COMMANDS_OWN = {
    **dict.fromkeys(("detach", "d", "daemon", "background", "keep_alive"), "--keep-running"),
    **dict.fromkeys(("gpu", "gpu_id", "device_ids", "base_gpu_id"), "CUDA_VISIBLE_DEVICES in the environment"),
}


def hint_for(flag: str, engine: EngineName = "vllm") -> str:
    """The hint for a flag that is not known.

    Args:
        flag: As it was written, such as `--max-model-len` or `-tp`.
        engine: The program that would serve.

    Returns:
        A sentence; empty if nothing is known of the flag.
    """
    name = flag.lstrip("-").replace("-", "_")
    option, opposite = _option_of(flag, name)
    if option is not None:
        return _instead(option, opposite)
    if name in _COMMANDS_OWN:
        return f"Use {_COMMANDS_OWN[name]}"
    if name in REFUSED:
        return f"It can't be given: {REFUSED[name]}"
    with suppress(Qwen3Error):
        flags = find_server(engine).flags
        if flags and {name, name.removeprefix("no_")} & flags:
            return f"It is a flag of {TITLES[engine]}: write it behind --, as in: serve embed MODEL -- {spelled(name)}"
    return ""


def _instead(option: Option, opposite: bool) -> str:
    if option.name in _POSITIONAL:
        return f"It is not needed: {_POSITIONAL[option.name]}"
    if option.kind != "switch":
        return "" if option.kind in ("words", "mapping") else f"Use {option.cli_flag}"
    return f"It is the default; {_away(option)} turns it off" if opposite else f"Use {_away(option)}"


def _option_of(flag: str, name: str) -> tuple[Option | None, bool]:
    """The option that is meant; and whether the flag means its default."""
    by_name = {option.name: option for option in OPTIONS}
    if name in _OTHER_NAMES:
        return by_name[_OTHER_NAMES[name]], False
    for option in OPTIONS:
        spellings = {each.lstrip("-").replace("-", "_") for flags in option.flags.values() for each in flags}
        if flag in {each for flags in option.flags.values() for each in flags} or name in spellings | {option.name}:
            return option, False
        if option.kind == "switch" and (f"no_{name}" in spellings or name.removeprefix("no_") in spellings):
            return option, True
    return None, False


def _away(option: Option) -> str:
    """The flag of `serve` that turns a switch away from its default."""
    return f"--no-{option.cli}" if option.default else option.cli_flag
