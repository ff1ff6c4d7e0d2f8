"""A model's folder: what its own files say about it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from qwen3_integrations.core.types import Rows, Task
from qwen3_integrations.errors import ConfigError, ModelNotFound


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model on disk, as its `config.json` describes it.

    Attributes:
        folder: Where its files lie.
        config: The whole of `config.json`.
        classifier: True for a sequence-classification conversion of a reranker: its head is one stored row and
            not the rows of "yes" and "no".
    """

    folder: Path
    config: Mapping[str, Any]
    classifier: bool

    @property
    def width(self) -> int:
        """Width of the hidden state."""
        return int(self.config["hidden_size"])

    @property
    def context(self) -> int:
        """Longest prompt, in tokens."""
        return int(self.config["max_position_embeddings"])

    def rows(self, tensor: str, numbers: Sequence[int] | None) -> Rows:
        """Rows of a stored matrix as float32, without reading the rest of it.

        Args:
            tensor: Its name in the safetensors files.
            numbers: Which rows; None for all.

        Raises:
            ConfigError: If the model has no such tensor.
        """
        from safetensors import safe_open

        index = self.folder / "model.safetensors.index.json"
        named = json.loads(index.read_text(encoding="utf-8"))["weight_map"] if index.is_file() else {}
        path = self.folder / named.get(tensor, "model.safetensors")
        with safe_open(path, framework="pt") as stored:
            if tensor not in stored.keys():  # noqa: SIM118  it is no mapping
                raise ConfigError(f"{path} has no tensor {tensor!r}, which a checkpoint with this config.json must have")
            matrix = stored.get_slice(tensor)
            wanted = [matrix[number : number + 1][0] for number in numbers] if numbers is not None else list(matrix[:])
            return np.stack([row.float().numpy() for row in wanted])


def read_model(folder: Path, task: Task) -> ModelFiles:
    """Read a model's description from its folder.

    Args:
        folder: With `config.json`, weights and tokenizer.
        task: What it is wanted for.

    Raises:
        ModelNotFound: If the folder holds no `config.json`.
        ConfigError: If it is no Qwen3 model, or one of the other task.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ModelNotFound(f"{folder} has no config.json: it is not a model's folder, or its download is not complete")
    config = json.loads(path.read_text(encoding="utf-8"))
    if config.get("model_type") != "qwen3":
        raise ConfigError(f"{folder} contains a {config.get('model_type')!r} model, but this package runs only Qwen3-Embedding and Qwen3-Reranker")
    classifier = "Qwen3ForSequenceClassification" in config.get("architectures", [])
    if task == "embed" and classifier:
        raise ConfigError(f"{folder} contains a reranker (Qwen3ForSequenceClassification)", advice="Open it with task rerank")
    if task == "rerank" and (folder / "1_Pooling").is_dir():
        raise ConfigError(f"{folder} contains an embedding model (it has a pooling layer)", advice="Open it with task embed")
    return ModelFiles(folder, MappingProxyType(config), classifier)
