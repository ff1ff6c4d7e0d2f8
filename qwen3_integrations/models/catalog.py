"""The published checkpoints as data: names, tasks, sizes, and the defaults."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from qwen3_integrations.core.types import Task
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.folders import is_folder

TINY = "qwen3-tiny-demo"
"""The pair that ships in this package: a toy to see the wiring, offline. Never chosen unless named."""

DEFAULT_MODELS: Mapping[Task, str] = MappingProxyType({"embed": "Qwen/Qwen3-Embedding-0.6B", "rerank": "Qwen/Qwen3-Reranker-0.6B"})


ORIGINAL_RERANKER: Mapping[str, Any] = MappingProxyType(
    {
        "architectures": ["Qwen3ForSequenceClassification"],
        "classifier_from_token": ["no", "yes"],
        "is_original_qwen3_reranker": True,
    }
)
"""The `hf_overrides` by which vLLM reads the score out of a published reranker. Source: vLLM's Qwen3-Reranker example."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A published model.

    Attributes:
        name: Its id on Hugging Face and on ModelScope.
        task: `embed` or `rerank`.
        parameters: In billions, as its name says.
        layers: Transformer layers.
        width: Width of the hidden state and of a full embedding.
        context: Longest prompt, in tokens.
    """

    name: str
    task: Task
    parameters: float
    layers: int
    width: int
    context: int = 32768


CHECKPOINTS: Mapping[str, Checkpoint] = MappingProxyType(
    {
        checkpoint.name: checkpoint
        for checkpoint in (
            Checkpoint("Qwen/Qwen3-Embedding-0.6B", "embed", 0.6, 28, 1024),
            Checkpoint("Qwen/Qwen3-Embedding-4B", "embed", 4, 36, 2560),
            Checkpoint("Qwen/Qwen3-Embedding-8B", "embed", 8, 36, 4096),
            Checkpoint("Qwen/Qwen3-Reranker-0.6B", "rerank", 0.6, 28, 1024),
            Checkpoint("Qwen/Qwen3-Reranker-4B", "rerank", 4, 36, 2560),
            Checkpoint("Qwen/Qwen3-Reranker-8B", "rerank", 8, 36, 4096),
        )
    }
)
"""Source: the table of the official repository, https://github.com/QwenLM/Qwen3-Embedding."""


def model_name(model: object) -> object:
    """A path of a folder as a name that means this folder; all else unchanged."""
    if not isinstance(model, os.PathLike):
        return model
    path = Path(model)
    means_folder = path.is_absolute() or is_folder(path) or str(path).startswith((".", "~"))
    return str(path) if means_folder else f"./{path}"


def checked_model(model: str | os.PathLike[str] | None, task: Task) -> str:
    """The model's name, or the default for the task; refuses a published model of the other task.

    Raises:
        ConfigError: If the name is empty, or a published model's of the other task.
    """
    if model is None:
        return DEFAULT_MODELS[task]
    name = model_name(model)
    if not isinstance(name, str) or not name:
        raise ConfigError(f"must be a name or a folder, not {model!r}", option="model")
    known = CHECKPOINTS.get(name)
    if known and known.task != task:
        word = {"embed": "an embedding model", "rerank": "a reranker"}
        reason = f"{name} is {word[known.task]}, but {word[task]} is needed"
        raise ConfigError(reason, option="model", advice=f"Use one such as {DEFAULT_MODELS[task]}")
    return name


Source = Literal["auto", "local", "huggingface", "modelscope"]
"""Where a model's name may lead: `auto` is the caches of both hubs, then the hub that answers."""
