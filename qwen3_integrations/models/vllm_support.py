"""What vLLM computes of a model's folder: the settings with which it honours the folder, or the reason why it can't.

Source: vLLM 0.32: `model_executor/models/adapters.py` and `model_executor/layers/pooler/` (pooling, dense layers, heads),
`transformers_utils/config.py` (the files of sentence-transformers), `model_executor/model_loader/weight_utils.py` (weights).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from qwen3_integrations.core.types import Task
from qwen3_integrations.models.catalog import ORIGINAL_RERANKER
from qwen3_integrations.models.checkpoint import ModelFiles
from qwen3_integrations.models.json_files import read_json, read_object
from qwen3_integrations.models.labels import stored_head_overrides
from qwen3_integrations.models.lora import Adapter
from qwen3_integrations.models.modules import MODULES, EmbeddingModules, Normalize
from qwen3_integrations.models.transformer_config import TransformerConfig
from qwen3_integrations.models.weights import INDEX, plain_name, safetensors_header

POOLING_TYPES: Mapping[str, str] = MappingProxyType({"lasttoken": "LAST", "mean": "MEAN", "cls": "CLS"})
"""A folder's pooling mode -> vLLM's name of it."""

RUN_INSTEAD = "Use backend='torch', which computes it"
"""What to do with a folder that vLLM can't compute."""

LONGER_THAN_DECLARED = "VLLM_ALLOW_LONG_MAX_MODEL_LEN"
"""The variable with which vLLM takes prompts that are longer than the folder's `max_seq_length`, and than the model's context."""

_HEADS = ("lm_head.", "score.")
_DENSE_TYPES = ("sentence_transformers.models.Dense", "sentence_transformers.base.modules.dense.Dense")


def vllm_refusals(files: ModelFiles, task: Task) -> str | None:
    """Why vLLM can't compute a model as its folder declares it; None where it can.

    Args:
        files: The model on disk.
        task: What the model must do.

    Returns:
        One sentence with file and field. `RUN_INSTEAD` says what to do.

    Raises:
        ModelNotFound: If the folder has no safetensors weights.
        ConfigError: If one of its files is damaged.
    """
    if files.adapter:
        return adapter_refusal(files.adapter, "vLLM")
    return _loaded_files(files) or _tensor_names(files) or (_modules(files) if task == "embed" else None)


def vllm_overrides(files: ModelFiles, task: Task) -> dict[str, Any]:
    """The `hf_overrides` with which vLLM computes what the folder declares.

    Args:
        files: The model on disk.
        task: What the model must do.

    Raises:
        ConfigError: For a sequence-classification conversion whose head does not fit its labels.
    """
    shape = files.shape
    sizes = {"head_dim": shape.head_dim, "num_key_value_heads": shape.kv_heads}  # transformers' defaults are those of other models
    overrides: dict[str, Any] = {name: size for name, size in sizes.items() if not files.config.get(name)}
    if task == "embed":
        return overrides
    if files.classifier:
        head = files.stored_head()  # also checks that it fits the labels
        one_row = files.labels.count is None and head.rows == 1  # without labels, vLLM would create a head of two rows
        undeclared = {"num_labels": 1} if one_row else {}
        return overrides | stored_head_overrides(files.config) | undeclared
    untied = {"tie_word_embeddings": False} if files.config.get("tie_word_embeddings") and _has_output_head(files) else {}
    tokens = {"classifier_from_token": list(files.score_head.token_names(files.tokenizer_folder))}
    return overrides | dict(ORIGINAL_RERANKER) | tokens | untied


def reads_whole_prompts(files: ModelFiles) -> bool:
    """Whether vLLM must compute each prompt in one pass: for each pooling but that of the last token."""
    return files.modules.pooling.mode != "lasttoken"


def exceeds_declared_length(files: ModelFiles, longest: int) -> bool:
    """Whether vLLM would refuse prompts of this length, within the model's context, because of the folder's `max_seq_length`.

    It is a default here, which the caller may exceed.
    """
    return longest <= files.context and longest > (files.conventions.max_tokens or files.context)


def _has_output_head(files: ModelFiles) -> bool:
    return "lm_head.weight" in files.weights.shapes()


def adapter_refusal(adapter: Adapter, program: str) -> str:
    """Why a program can't compute a folder with an adapter."""
    return (
        f"{adapter.config.path} declares a PEFT adapter, which {program} does not merge: merge it (merge_and_unload), and save the whole "
        "model"
    )


def _loaded_files(files: ModelFiles) -> str | None:
    """Whether vLLM reads other files: it reads those of the index, else each safetensors file of the folder."""
    wanted = set(files.weights.files())
    index = files.folder / INDEX
    if index.is_file():
        named = {files.folder / str(name) for name in (read_object(index).get("weight_map") or {}).values()}
        if named != wanted:
            shown = ", ".join(sorted(path.name for path in wanted))
            return f"{index} does not name the weights that are read, {shown}, but vLLM reads what it names: remove it"
        return None
    if more := sorted(path.name for path in set(files.folder.glob("*.safetensors")) - wanted):
        return f"{files.folder} has more safetensors files than the model's, {', '.join(more)}, and vLLM reads them all: move them away"
    return None


def _tensor_names(files: ModelFiles) -> str | None:
    """Whether vLLM knows the tensors: with `model.` before the names of all that are not a head's, or all names without it."""
    names = [name for path in files.weights.files() for name in safetensors_header(path) if name != "__metadata__"]
    wrapped = {name.removesuffix(plain_name(name)) for name in names if not plain_name(name).startswith(_HEADS)}
    heads = [name for name in names if plain_name(name).startswith(_HEADS)]
    if wrapped <= {"model."} and all(name == plain_name(name) for name in heads):
        return None
    if wrapped == {""} and not heads:
        return None
    example = next((name for name in names if not name.startswith(("model.", *_HEADS))), names[0])
    return f"{files.folder} has tensors with names such as {example!r}, which vLLM does not read: save the model again with transformers"


def _modules(files: ModelFiles) -> str | None:
    """What is not the same in vLLM as in sentence-transformers."""
    if not files.modules.pooling.include_prompt:
        return f"{files.folder} pools without the prompt (include_prompt in the config of its pooling), which vLLM does not"
    declared = TransformerConfig.read(files.folder)
    if "max_seq_length" in declared.content and declared.content["max_seq_length"] is None:
        return f"{declared.path}: max_seq_length is null, with which vLLM does not start: take it out"
    return _dense(files.folder / MODULES, files.modules) if files.modules.dense else None


def _dense(path: Path, modules: EmbeddingModules) -> str | None:
    """The difference for linear layers: vLLM computes them one after another, and then at most one Normalize."""
    last = modules.layers.index(modules.dense[-1])
    if Normalize() in modules.layers[:last]:
        return f"{path} has a Normalize before a Dense, which vLLM leaves out"
    kinds = [str(module["type"]) for module in read_json(path) if str(module["type"]).endswith("Dense")]
    if unknown := next((kind for kind in kinds if kind not in _DENSE_TYPES), None):
        return f"{path} has the module {unknown!r}, which vLLM leaves out"
    for layer in modules.dense:
        if not read_object(layer.folder / "config.json").get("activation_function"):
            return f"{layer.folder / 'config.json'} has no activation_function, which means {layer.activation} but none to vLLM: add it"
    return None
