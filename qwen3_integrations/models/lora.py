"""PEFT adapters: low-rank changes (LoRA) of a base model's matrices, merged while the weights are read.

Source: peft 0.21: `tuners/lora/layer.py`, `tuners/lora/model.py`, `utils/save_and_load.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from qwen3_integrations.core.types import Rows
from qwen3_integrations.errors import ConfigError, ModelNotFound
from qwen3_integrations.models.adapter_config import ADAPTER_CONFIG, ADAPTER_WEIGHTS, MERGE, AdapterConfig
from qwen3_integrations.models.heads import EMBEDDINGS, OUTPUT, SCORE, SCORE_BIAS
from qwen3_integrations.models.json_files import file_exists
from qwen3_integrations.models.pickles import pickles_in
from qwen3_integrations.models.weights import StoredWeights, opened, plain_name, safetensors_header

_PART = re.compile(r"(?P<module>.+)\.lora_(?P<part>[AB])(?:\.(?P<adapter>[^.]+))?\.weight")
"""A half of a change, with or without the adapter's name."""

_SAVED = re.compile(r"(?P<module>.+?)(?:\.base_layer|\.modules_to_save)?(?:\.default)?\.(?P<kind>weight|bias)")
"""A whole tensor: of `modules_to_save`, with or without the adapter's name, or of a resized layer under a change (`base_layer`)."""

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Change:
    """The change of one matrix: `scale * B @ A`.

    Attributes:
        a, b: The names of its halves in the file; shapes (rank, inputs) and (outputs, rank).
        rank: Its rank.
        scale: Its factor.
        shape: Shape of the matrix.
    """

    a: str
    b: str
    rank: int
    scale: float
    shape: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter on disk.

    Attributes:
        folder: The folder with its config and weights.
        config: What its config declares.
        changes: The changed matrices by their plain names.
        saved: The tensors that it replaces, from plain names to names in its file.
        entries: The header of each tensor of its file.
    """

    folder: Path
    config: AdapterConfig
    changes: Mapping[str, Change]
    saved: Mapping[str, str]
    entries: Mapping[str, Mapping[str, Any]]

    @property
    def name(self) -> str:
        """Its folder's name, or the repository's in a hub's cache."""
        if self.folder.parent.name == "snapshots":
            return self.folder.parents[1].name.removeprefix("models--").replace("--", "/")
        return self.folder.name

    @property
    def path(self) -> Path:
        """Its weights."""
        return self.folder / ADAPTER_WEIGHTS

    @property
    def has_score(self) -> bool:
        """Whether it has the head of a sequence-classification reranker."""
        return SCORE in self.saved

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor that it replaces."""
        return tuple(self.entries[self.saved[name]]["shape"])

    def check(self, base: Shapes, *, tied: bool) -> None:
        """Prove that it fits its base.

        Args:
            base: The shape of each tensor of the base, by plain names.
            tied: Whether the base's output head is tied to its token embeddings.

        Raises:
            ConfigError: Names the tensor.
        """
        for name, change in self.changes.items():
            if name == OUTPUT and tied:
                raise ConfigError(
                    f"{self.path} changes lm_head, which is tied to the token embeddings: the change of one would change both",
                    advice="Merge the adapter with peft (merge_and_unload), and open the merged model",
                )
            of_base = self.shape(name) if name in self.saved else base.get(name)
            if of_base != change.shape:
                raise ConfigError(
                    f"{self.path} changes {name!r} of the shape {change.shape}, but the base has {of_base or 'no such tensor'}: "
                    "the adapter belongs to another model",
                    advice="Open it with the base that it was trained on, or merge it there (merge_and_unload) and open the merged model",
                )
        for name in self.saved:
            shape, of_base = self.shape(name), base.get(name, base.get(EMBEDDINGS) if name == OUTPUT else None)
            resized = name in (EMBEDDINGS, OUTPUT) and of_base is not None and len(shape) == 2 and shape[1:] == of_base[1:]
            if name not in (SCORE, SCORE_BIAS) and shape != of_base and not resized:
                raise ConfigError(
                    f"{self.path} replaces {name!r} with one of the shape {shape}, but the base has {of_base or 'no such tensor'}: "
                    "the adapter belongs to another model",
                    advice="Open it with the base that it was trained on, or merge it there (merge_and_unload) and open the merged model",
                )

    def __str__(self) -> str:
        replaced = f", {', '.join(sorted(self.saved))} replaced" if self.saved else ""
        return f"adapter {self.name} ({len(self.changes)} matrices changed{replaced})"


def read_adapter(folder: Path) -> Adapter | None:
    """The adapter in a folder, from its config and the header of its weights; None where there is none.

    Raises:
        ModelNotFound: If it has no safetensors weights.
        ConfigError: For an adapter that this package does not compute; names file and field.
    """
    if not file_exists(folder / ADAPTER_CONFIG):
        return None
    config = AdapterConfig.read(folder)
    path = folder / ADAPTER_WEIGHTS
    if not path.is_file():
        if "adapter_model.bin" in pickles_in(folder):
            raise ModelNotFound(
                f"{folder} has only pickled weights of its adapter (adapter_model.bin), which can run code and are never loaded",
                advice="Save it again with peft: save_pretrained writes adapter_model.safetensors",
            )
        raise ModelNotFound(f"{folder} has an {ADAPTER_CONFIG}, but no {ADAPTER_WEIGHTS}", advice="Download the adapter again")
    entries = {name: entry for name, entry in safetensors_header(path).items() if name != "__metadata__"}
    halves: dict[str, dict[str, str]] = {}
    saved: dict[str, str] = {}
    for stored in entries:
        if match := _PART.fullmatch(stored):
            _put(halves.setdefault(match["module"], {}), match["part"], stored, path)
        elif ".lora_embedding_" in stored:
            raise ConfigError(
                f"{path} changes the token embeddings ({stored!r}; target_modules of {ADAPTER_CONFIG}), which is not supported",
                advice=MERGE,
            )
        elif ".lora_" in stored or not (whole := _SAVED.fullmatch(stored)):
            raise ConfigError(
                f"{path} has the tensor {stored!r}, which is no LoRA matrix and no whole tensor that this package reads", advice=MERGE
            )
        elif ".original_module." not in stored and stored.replace(".modules_to_save.", ".", 1) not in entries.keys() - {stored}:
            _put(saved, f"{plain_name(whole['module'])}.{whole['kind']}", stored, path)
    if not halves and not saved:
        raise ConfigError(f"{path} holds no tensors: the adapter is empty", advice="Download the adapter again")
    changes: dict[str, Change] = {}
    for module, names in halves.items():
        _put(changes, f"{plain_name(module)}.weight", _change(module, names, entries, config, path), path)
    return Adapter(folder, config, changes, saved, entries)


def _put(into: dict[str, Any], name: str, value: Any, path: Path) -> None:
    if name in into:
        raise ConfigError(
            f"{path} has two tensors for one place: {value if isinstance(value, str) else name!r}; it holds two adapters", advice=MERGE
        )
    into[name] = value


def _change(module: str, names: Mapping[str, str], entries: Mapping[str, Mapping[str, Any]], config: AdapterConfig, path: Path) -> Change:
    if set(names) != {"A", "B"}:
        raise ConfigError(
            f"{path} has only one half of the change of {module!r}: its download is not complete", advice="Download the adapter again"
        )
    a, b = entries[names["A"]]["shape"], entries[names["B"]]["shape"]
    rank, alpha = config.scaling(module.removeprefix("base_model.model."))
    if len(a) != 2 or len(b) != 2 or a[0] != rank or b[1] != rank:
        raise ConfigError(
            f"{path}: the change of {module!r} has halves of the shapes {tuple(a)} and {tuple(b)}, but {ADAPTER_CONFIG} says rank {rank}",
            advice="Open it with the base that it was trained on, or merge it there (merge_and_unload) and open the merged model",
        )
    return Change(names["A"], names["B"], rank, alpha / (math.sqrt(rank) if config.rank_stabilised else rank), (b[0], a[1]))


@dataclass(frozen=True)  # without slots, with which `super()` finds no class
class AdaptedWeights(StoredWeights):
    """The tensors of a base with an adapter's changes. Each is merged when it is read, in float32: there is no second copy of the model.

    Where the base's output head is tied to its token embeddings and the adapter replaces only these, the head stays the base's: so peft
    does it, because it replaces a module and not its weights.

    Attributes:
        adapter: The adapter.
    """

    adapter: Adapter

    def entries(self) -> dict[str, Mapping[str, Any]]:
        """As `StoredWeights.entries`, with the adapter's tensors in place of the base's."""
        entries, adapter = super().entries(), self.adapter
        if EMBEDDINGS in adapter.saved and OUTPUT not in entries:
            entries[OUTPUT] = entries[EMBEDDINGS]
        return entries | {name: adapter.entries[stored] for name, stored in adapter.saved.items()}

    def tensors(self) -> Iterator[tuple[str, Callable[[], Any]]]:
        """As `StoredWeights.tensors`, merged; float32 where the adapter changes a tensor."""
        with opened(self.adapter.path) as file:
            for name, read in super().tensors():
                if name not in self.adapter.saved:
                    yield name, self._merged(file, name, read)
            for name, stored in self.adapter.saved.items():
                yield name, self._merged(file, name, partial(file.get_tensor, stored))

    def rows(self, tensor: str, indices: Sequence[int] | None = None) -> Rows:
        """As `StoredWeights.rows`, merged."""
        adapter = self.adapter
        with opened(adapter.path) as file:
            if stored := adapter.saved.get(tensor):
                whole = file.get_tensor(stored).float().numpy()
                rows: Rows = whole if indices is None else whole[list(indices)]
            elif tensor == OUTPUT and EMBEDDINGS in adapter.saved and OUTPUT not in super().entries():
                rows = super().rows(EMBEDDINGS, indices)
            else:
                rows = super().rows(tensor, indices)
            if change := adapter.changes.get(tensor):
                b = file.get_tensor(change.b).float()
                rows = rows + ((b if indices is None else b[list(indices)]) @ file.get_tensor(change.a).float() * change.scale).numpy()
            return rows

    def _merged(self, file: Any, name: str, read: Callable[[], Any]) -> Callable[[], Any]:
        change = self.adapter.changes.get(name)
        if change is None:
            return read
        return lambda: read().float().addmm_(file.get_tensor(change.b).float(), file.get_tensor(change.a).float(), alpha=change.scale)
