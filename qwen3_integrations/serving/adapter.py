"""A LoRA adapter that a server serves besides the model: read and checked before the start."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.adapter_config import ADAPTER_CONFIG as ADAPTER
from qwen3_integrations.models.checkpoint import ModelFiles
from qwen3_integrations.models.json_files import read_object
from qwen3_integrations.models.pickles import check_adapter
from qwen3_integrations.models.weights import plain_name, safetensors_header

_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The values that vLLM has for `max_lora_rank`. Source: vLLM 0.32: `config/lora.py`."""

_MERGE = "Merge it (merge_and_unload), save the whole model, and serve that folder"
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": (None, "none"),
    "init_lora_weights": (None, True, False, "gaussian", "eva", "orthogonal"),
}
"""Fields of an adapter's config -> the values with which vLLM computes it."""

_FALSE = (
    *("use_dora", "lora_bias", "modules_to_save", "rank_pattern", "alpha_pattern", "layer_replication", "alora_invocation_tokens"),
    *("use_qalora", "use_bdlora", "trainable_token_indices", "target_parameters"),
)
"""Fields that must be empty: vLLM would leave out what they declare."""


@dataclass(frozen=True, slots=True)
class ServedAdapter:
    """An adapter of a server.

    Attributes:
        name: Its name for clients.
        folder: Its folder.
        rank: Its largest rank.
    """

    name: str
    folder: Path
    rank: int

    @property
    def words(self) -> list[tuple[str, str]]:
        """The flags of vLLM and their values, besides `--enable-lora`."""
        module = json.dumps({"name": self.name, "path": str(self.folder)})
        return [("max_lora_rank", str(next(rank for rank in _RANKS if rank >= self.rank))), ("lora_modules", module)]


def read_adapter(folder: Path, files: ModelFiles, model: str) -> ServedAdapter:
    """Read an adapter, and check that vLLM computes all of it on this model.

    Args:
        folder: Its folder, as PEFT saves it.
        files: The model that it changes.
        model: The model's name for clients.

    Raises:
        ConfigError: If it is not a LoRA adapter of this model, or has a part that vLLM would leave out.
    """
    folder = folder.expanduser().absolute()
    path = folder / ADAPTER
    if not path.is_file():
        raise ConfigError(f"{folder} has no {ADAPTER}: it is not the folder of a PEFT adapter", option="lora")
    check_adapter(str(folder))
    if folder.name == model:
        raise ConfigError(f"the adapter's folder has the model's name for clients, {model!r}", option="lora", advice="Rename one of them")
    config = read_object(path)
    for field, values in _NEUTRAL.items():
        if config.get(field) not in values:
            raise ConfigError(f"{path}: {field} is {config.get(field)!r}, which vLLM does not compute", option="lora", advice=_MERGE)
    for field in _FALSE:
        if config.get(field):
            raise ConfigError(f"{path}: {field} is set, which vLLM does not compute", option="lora", advice=_MERGE)
    return ServedAdapter(folder.name, folder, _rank(folder, files))


def _rank(folder: Path, files: ModelFiles) -> int:
    """The largest rank of the adapter's matrices, after the check that they fit the model's."""
    weights, stored = folder / "adapter_model.safetensors", files.weights.shapes()
    ranks: list[int] = []
    for name, entry in safetensors_header(weights).items():
        if name == "__metadata__":
            continue
        target, _, part = plain_name(name).partition(".lora_")
        rows, columns = tuple(entry["shape"]) if len(entry["shape"]) == 2 else (0, 0)
        shape, rank, width = stored.get(f"{target}.weight"), *((rows, columns) if part == "A.weight" else (columns, rows))
        if shape is None or part not in ("A.weight", "B.weight") or width != shape[part == "A.weight"] or not target.startswith("layers."):
            raise ConfigError(
                f"{weights} has the tensor {name!r} of shape {tuple(entry['shape'])}, for which {files.folder} has no "
                "fitting matrix of a layer: it is an adapter of another model, or of a part that vLLM does not change",
                option="lora",
                advice=_MERGE,
            )
        ranks.append(rank)
    if not ranks or max(ranks) > _RANKS[-1]:
        raise ConfigError(f"{weights} must have ranks from 1 to {_RANKS[-1]}, not {max(ranks, default=0)}", option="lora", advice=_MERGE)
    return max(ranks)
