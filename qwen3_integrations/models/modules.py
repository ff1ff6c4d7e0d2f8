"""The modules that sentence-transformers' `modules.json` lists: how token states become the vector of a text.

Source: sentence-transformers 6.2: `base/model.py`, `sentence_transformer/modules/pooling.py`, `base/modules/dense.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.json_files import file_exists, read_json, read_object, read_optional_object
from qwen3_integrations.models.pickles import check_layer
from qwen3_integrations.models.weights import SINGLE, StoredWeights

MODULES = "modules.json"

PoolingMode: TypeAlias = Literal["lasttoken", "mean", "cls"]

_OLD_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""The flags of sentence-transformers up to version 5, one a mode."""

ACTIVATIONS = ("Identity", "Tanh", "ReLU", "GELU", "Sigmoid", "SiLU")
"""Activation functions that a dense layer may have: classes of `torch.nn` without settings."""


@dataclass(frozen=True, slots=True)
class Pooling:
    """How the hidden states of a text's tokens become one vector.

    Attributes:
        mode: `lasttoken`, `mean` or `cls` (the first token).
        include_prompt: False if the tokens of the prompt before a text are left out.
    """

    mode: PoolingMode = "lasttoken"
    include_prompt: bool = True

    def __str__(self) -> str:
        words = {"lasttoken": "last token", "mean": "mean", "cls": "first token (cls)"}[self.mode]
        return words if self.include_prompt else f"{words} without the prompt"


@dataclass(frozen=True, slots=True)
class Normalize:
    """Brings a vector to unit length."""

    def __str__(self) -> str:
        return "Normalize"


@dataclass(frozen=True, slots=True)
class Dense:
    """A linear layer behind the pooling.

    Attributes:
        folder: The folder with its config and weights.
        in_features: Width of its input.
        out_features: Width of its output.
        bias: Whether it has a bias.
        activation: The class of `torch.nn` that comes after it, such as `Identity` or `Tanh`.
    """

    folder: Path
    in_features: int
    out_features: int
    bias: bool
    activation: str

    def __str__(self) -> str:
        return f"Dense {self.in_features} to {self.out_features}, {self.activation}"


Layer: TypeAlias = Dense | Normalize


@dataclass(frozen=True, slots=True)
class EmbeddingModules:
    """What a folder declares about the way from hidden states to a vector. The default is the model card's.

    Attributes:
        pooling: How token states become one vector.
        layers: What comes behind the pooling, in order.
    """

    pooling: Pooling = Pooling()
    layers: tuple[Layer, ...] = (Normalize(),)

    @property
    def dense(self) -> tuple[Dense, ...]:
        """The linear layers, in order."""
        return tuple(layer for layer in self.layers if isinstance(layer, Dense))

    def width(self, hidden_size: int) -> int:
        """Width of a vector of a model with this hidden size."""
        return self.dense[-1].out_features if self.dense else hidden_size

    def __str__(self) -> str:
        return ", ".join(map(str, (self.pooling, *self.layers)))


def embedding_modules(folder: Path, hidden_size: int) -> EmbeddingModules:
    """What a folder's `modules.json` declares; a folder without one has the model card's modules.

    Args:
        folder: The model's folder.
        hidden_size: Width of the hidden state.

    Raises:
        ConfigError: For a module, a pooling mode or an activation that this package does not compute; names file and field.
    """
    if not file_exists(folder / MODULES):
        # Some conversions keep the pooling config, but not the list of modules. It is honoured too.
        return EmbeddingModules(_pooling(folder / "1_Pooling", hidden_size)) if (folder / "1_Pooling").is_dir() else EmbeddingModules()
    (transformer, where), *rest = listed_modules(folder)
    if transformer != "Transformer":
        raise ConfigError(
            f"{folder / MODULES}: the first module must be a Transformer, not {transformer!r}",
            advice="Run the model with sentence-transformers",
        )
    if where != folder:
        raise ConfigError(
            f"{folder / MODULES}: the weights are in the subfolder {where.name!r}, which this package does not read",
            advice=f"Save it again with a current sentence-transformers: SentenceTransformer({str(folder)!r}).save_pretrained(FOLDER)",
        )
    if not rest or rest[0][0] != "Pooling":
        raise ConfigError(
            f"{folder / MODULES}: the second module must be a Pooling, not {rest[0][0] if rest else 'nothing'!r}",
            advice="Run the model with sentence-transformers",
        )
    layers: list[Layer] = []
    width = hidden_size
    for kind, path in rest[1:]:
        if kind == "Dense":
            layers.append(dense := _dense(path, width))
            width = dense.out_features
        elif kind == "Normalize":
            _check_keys(path, read_optional_object(path / "config.json"))
            layers.append(Normalize())
        elif kind != "Dropout":  # has no effect outside training
            raise ConfigError(
                f"{folder / MODULES}: the module {kind!r} is not supported; supported are Pooling, Dense and Normalize",
                advice="Run the model with sentence-transformers",
            )
    return EmbeddingModules(_pooling(rest[0][1], hidden_size), tuple(layers))


def listed_modules(folder: Path) -> Iterator[tuple[str, Path]]:
    """Class name and folder of each module, in order."""
    listed = read_json(folder / MODULES)
    if not isinstance(listed, list) or not listed or not all(isinstance(module, dict) and "type" in module for module in listed):
        raise ConfigError(f"{folder / MODULES} must be a list of modules, each with a type", advice="Download the model again")
    for module in listed:
        if not str(module["type"]).startswith("sentence_transformers."):
            raise ConfigError(
                f"{folder / MODULES}: the module {module['type']!r} is code of its own, which this package never runs",
                advice="Run the model with sentence-transformers",
            )
        yield str(module["type"]).rpartition(".")[2], folder / str(module.get("path") or "")


def _pooling(folder: Path, hidden_size: int) -> Pooling:
    path = folder / "config.json"
    config = read_object(path)
    width = config.get("embedding_dimension", config.get("word_embedding_dimension", hidden_size))
    if width != hidden_size:
        raise ConfigError(
            f"{path} pools states of width {width!r}, but the model's hidden_size is {hidden_size}: they belong to two models",
            advice="Correct the file, or download the model again",
        )
    include_prompt = config.get("include_prompt", True)
    if not isinstance(include_prompt, bool):
        raise ConfigError(
            f"{path}: include_prompt must be true or false, not {include_prompt!r}", advice="Correct the file, or download the model again"
        )
    given = config.get("pooling_mode") or [mode for flag, mode in _OLD_MODES.items() if config.get(flag)] or "mean"
    modes = list(given) if isinstance(given, list | tuple) else [given]
    mode: PoolingMode | None = next((known for known in get_args(PoolingMode) if modes == [known]), None)
    if mode is None:
        raise ConfigError(
            f"{path}: the pooling mode {' and '.join(map(str, modes))!r} is not supported; supported is one of "
            f"{', '.join(get_args(PoolingMode))}",
            advice="Run the model with sentence-transformers",
        )
    return Pooling(mode, include_prompt)


def _dense(folder: Path, width: int) -> Dense:
    path = folder / "config.json"
    config = read_object(path)
    _check_keys(folder, config)
    if config.get("use_residual"):
        raise ConfigError(f"{path}: use_residual is not supported", advice="Run the model with sentence-transformers")
    activation = str(config.get("activation_function") or "torch.nn.modules.activation.Tanh")
    name = activation.rpartition(".")[2]
    if not activation.startswith("torch.nn.") or name not in ACTIVATIONS:
        raise ConfigError(
            f"{path}: the activation_function {activation!r} is not supported; supported are {', '.join(ACTIVATIONS)}",
            advice="Run the model with sentence-transformers",
        )
    for field in ("in_features", "out_features"):
        size = config.get(field)
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise ConfigError(
                f"{path}: {field} must be a whole number of at least 1, not {size!r}",
                advice="Correct the file, or download the model again",
            )
    dense = Dense(folder, config["in_features"], config["out_features"], bool(config.get("bias", True)), name)
    if dense.in_features != width:
        raise ConfigError(
            f"{path}: in_features is {dense.in_features}, but the module before it gives vectors of width {width}",
            advice="Correct the file, or download the model again",
        )
    check_layer(folder)
    wanted = {"linear.weight": (dense.out_features, width)} | ({"linear.bias": (dense.out_features,)} if dense.bias else {})
    if (found := StoredWeights(folder).shapes()) != wanted:
        raise ConfigError(
            f"{folder / SINGLE} has tensors of the shapes {found}, but {path} says {wanted}",
            advice="Correct the file, or download the model again",
        )
    return dense


def _check_keys(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse modules that read or write something else than the vector of the text."""
    for field in ("module_input_name", "module_output_name"):
        if config.get(field) not in (None, "sentence_embedding"):
            raise ConfigError(
                f"{folder / 'config.json'}: {field} {config[field]!r} is not supported; supported is 'sentence_embedding'",
                advice="Run the model with sentence-transformers",
            )
