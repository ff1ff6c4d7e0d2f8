"""Which folders a server can serve so that every client gets the numbers that the folder declares."""

from __future__ import annotations

from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.checkpoint import ModelFiles
from qwen3_integrations.models.folders import CONFIG
from qwen3_integrations.models.modules import Pooling
from qwen3_integrations.models.vllm_support import adapter_refusal, reads_whole_prompts, vllm_refusals
from qwen3_integrations.serving.options import ServerOptions

_IN_PROCESS = "Open the folder in this process with backend='torch', which computes it"


def check_served_folder(options: ServerOptions, files: ModelFiles) -> None:
    """Refuse a folder that the options' program would serve with other numbers than it declares.

    Args:
        options: The options of the server.
        files: The model on disk.

    Raises:
        ModelNotFound: If the folder has no safetensors weights, or no tokenizer.
        ConfigError: Says why, with file and field, and what to run instead.
    """
    files.read_tokenizer()
    reason = _vllm(options, files) if options.engine == "vllm" else _sglang(options, files)
    if reason:
        raise ConfigError(reason, option="model", advice=_IN_PROCESS)


def _vllm(options: ServerOptions, files: ModelFiles) -> str | None:
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
            f"{config} has 'yes' as label 0 (id2label), and clients take the last label that a server answers for 'yes', so scores would "
            "be inverted: swap the two rows of score.weight (and score.bias) and the names in id2label"
        )
    return None


def _sglang(options: ServerOptions, files: ModelFiles) -> str | None:
    """What SGLang does not read of an embedding model's folder: it pools the last token."""
    if files.adapter:
        return adapter_refusal(files.adapter, "SGLang")
    if options.task == "embed" and (files.modules.pooling != Pooling() or files.modules.dense):
        return f"{files.folder} declares {files.modules}, but SGLang pools the last token with the prompt, and has no Dense"
    if options.task == "rerank" and not files.classifier and files.score_head.token_names(files.tokenizer_folder) != ("no", "yes"):
        return f"{files.folder} is scored by {files.score_head}, but SGLang reads the tokens 'yes' and 'no'"
    return None
