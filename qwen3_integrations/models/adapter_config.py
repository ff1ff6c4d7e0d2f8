"""The config of a PEFT adapter: what this package honours of it, and what it refuses.

Source: peft 0.21: `tuners/lora/config.py`, `utils/other.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.json_files import read_object

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"

_UNSUPPORTED: Mapping[str, str] = MappingProxyType(
    {
        "use_dora": "DoRA",
        "use_qalora": "QALoRA",
        "use_bdlora": "block-diagonal LoRA",
        "lora_bias": "a bias of LoRA's own",
        "fan_in_fan_out": "transposed weights",
        "trainable_token_indices": "single trained tokens",
        "target_parameters": "changed parameters that are no module",
        "layer_replication": "repeated layers",
        "alora_invocation_tokens": "activated LoRA",
        "arrow_config": "Arrow",
        "kasa_config": "KaSA",
        "velora_config": "VeLoRA",
        "monteclora_config": "MonteCLoRA",
    }
)
"""Fields with which an adapter is more than `W + scale * B @ A`."""

_PLAIN_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")
"""`init_lora_weights` that leave the base's weights as they are. With the others (PiSSA, OLoRA, ...) peft changes the base at load."""

MERGE = "Merge the adapter with peft (merge_and_unload), and open the merged model"
"""What to do with an adapter that this package does not compute."""

_SAVE_AGAIN = f"Save the adapter again with peft (save_pretrained). {MERGE} if it was trained so"


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """What an adapter's config declares.

    Attributes:
        path: The file.
        content: Its content.
    """

    path: Path
    content: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> AdapterConfig:
        """Read and check it.

        Raises:
            ConfigError: For an adapter that this package does not compute; names the field.
        """
        path = folder / ADAPTER_CONFIG
        content = read_object(path)
        kind = content.get("peft_type")
        if kind != "LORA":
            raise ConfigError(f"{path}: peft_type {kind!r} is not supported; supported is LORA", advice=MERGE)
        for field, what in _UNSUPPORTED.items():
            if content.get(field):
                raise ConfigError(f"{path}: {field} ({what}) is not supported", advice=MERGE)
        if content.get("bias", "none") != "none":
            raise ConfigError(f"{path}: bias {content['bias']!r} is not supported; supported is 'none'", advice=MERGE)
        if content.get("init_lora_weights") not in _PLAIN_STARTS:
            reason = f"{path}: init_lora_weights {content['init_lora_weights']!r} changes the weights of the base, which is not supported"
            raise ConfigError(reason, advice=MERGE)
        if content.get("ensure_weight_tying"):
            raise ConfigError(f"{path}: ensure_weight_tying is not supported", advice=MERGE)
        config = cls(path, MappingProxyType(content))
        config._check_numbers()
        return config

    @property
    def base(self) -> str | None:
        """The name or the folder of the base; None where it names none."""
        return self._text("base_model_name_or_path")

    @property
    def revision(self) -> str | None:
        """The base's branch, tag or commit."""
        return self._text("revision")

    def _text(self, field: str) -> str | None:
        value = self.content.get(field)
        if value is not None and not isinstance(value, str):
            raise ConfigError(
                f"{self.path}: {field} must be a string, not {value!r}",
                advice="Write the name on the hub or the folder of the base there, or take out the revision",
            )
        return value or None

    @property
    def rank_stabilised(self) -> bool:
        """Whether the scale is alpha / sqrt(rank), not alpha / rank."""
        return bool(self.content.get("use_rslora"))

    @property
    def facts(self) -> dict[str, Any]:
        """The fields that numbers depend on, for a digest."""
        fields = ("peft_type", "r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora")
        return {field: self.content.get(field) for field in fields}

    def scaling(self, module: str) -> tuple[int, float]:
        """Rank and alpha of a module.

        Args:
            module: Its name in the base, such as `model.layers.0.self_attn.q_proj`.

        Raises:
            ConfigError: If the config does not list the module: peft would leave out its change.
        """
        layer = re.search(r"\.?layers\.(\d+)\.", module)
        listed = self.content.get("layers_to_transform")
        layers = [listed] if isinstance(listed, int) else listed
        if layers is not None and not (isinstance(layers, list) and all(isinstance(each, int) for each in layers)):
            raise ConfigError(f"{self.path}: layers_to_transform must be a list of whole numbers, not {listed!r}", advice=_SAVE_AGAIN)
        if layers is not None and layer and int(layer[1]) not in layers:
            raise ConfigError(
                f"{self.path}: layers_to_transform leaves out the layer {layer[1]}, but {module!r} has weights", advice=_SAVE_AGAIN
            )
        if not self._targets(module):
            raise ConfigError(f"{self.path}: target_modules leaves out {module!r}, but it has weights", advice=_SAVE_AGAIN)
        return int(self._by_pattern("rank_pattern", module, self.content["r"])), float(
            self._by_pattern("alpha_pattern", module, self.content["lora_alpha"])
        )

    def _targets(self, module: str) -> bool:
        targets = self.content.get("target_modules")
        if targets is None or targets == "all-linear":
            return True
        if isinstance(targets, str):
            try:
                return re.fullmatch(targets, module) is not None
            except re.error as error:
                raise ConfigError(f"{self.path}: target_modules is no regular expression: {error}", advice=_SAVE_AGAIN) from None
        if not isinstance(targets, list):
            raise ConfigError(f"{self.path}: target_modules must be a string or a list of strings, not {targets!r}", advice=_SAVE_AGAIN)
        return any(module == target or module.endswith(f".{target}") for target in targets)

    def _by_pattern(self, field: str, module: str, default: Any) -> Any:
        """Source: `get_pattern_key` of peft."""
        for pattern, value in (self.content.get(field) or {}).items():
            if re.match(rf"(.*\.)?({pattern})$", module):
                return value
        return default

    def _check_numbers(self) -> None:
        ranks, alphas = (self.content.get(field) or {} for field in ("rank_pattern", "alpha_pattern"))
        if not isinstance(ranks, Mapping) or not isinstance(alphas, Mapping):
            raise ConfigError(f"{self.path}: rank_pattern and alpha_pattern must map patterns to numbers", advice=_SAVE_AGAIN)
        for pattern in (*ranks, *alphas):
            try:
                re.compile(pattern)
            except re.error as error:
                raise ConfigError(f"{self.path}: {pattern!r} is no regular expression: {error}", advice=_SAVE_AGAIN) from None
        for rank in (self.content.get("r"), *ranks.values()):
            if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
                raise ConfigError(f"{self.path}: r must be a whole number of at least 1, not {rank!r}", advice=_SAVE_AGAIN)
        for alpha in (self.content.get("lora_alpha"), *alphas.values()):
            if isinstance(alpha, bool) or not isinstance(alpha, int | float):
                raise ConfigError(f"{self.path}: lora_alpha must be a number, not {alpha!r}", advice=_SAVE_AGAIN)
