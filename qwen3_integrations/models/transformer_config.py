"""The config of a folder's transformer, as sentence-transformers stores it: which file it is, and what it may declare.

Source: sentence-transformers 6.2: `base/modules/transformer.py` (`load_config`, `_load_init_kwargs`, `preprocess`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.json_files import read_optional_object

Kind = Literal["embedder", "causal reranker", "classifier"]

_NAMES = tuple(
    f"sentence_{model}_config.json" for model in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
"""The first of these files with content counts."""

_OUTPUTS: Mapping[Kind, tuple[str, str, str]] = MappingProxyType(
    {
        "embedder": ("feature-extraction", "last_hidden_state", "token_embeddings"),
        "causal reranker": ("text-generation", "logits", "causal_logits"),
        "classifier": ("sequence-classification", "logits", "scores"),
    }
)
"""Kind -> the `transformer_task`, the `method_output_name` and the `module_output_name` that this package computes."""

_HUB = ("cache_dir", "local_files_only", "revision", "subfolder", "token", "trust_remote_code")
_WITHOUT_EFFECT: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "model_kwargs": frozenset(
            {*_HUB, "attn_implementation", "device_map", "dtype", "low_cpu_mem_usage", "torch_dtype", "use_safetensors", "weights_only"}
        ),
        "processor_kwargs": frozenset({*_HUB, "clean_up_tokenization_spaces", "model_max_length", "padding_side", "use_fast"}),
        "config_kwargs": frozenset({*_HUB, "attn_implementation", "dtype", "torch_dtype", "use_cache"}),
    }
)
"""Arguments that change no number (a number format is the caller's choice), and `model_max_length`, which is read."""

_OLD_NAMES: Mapping[str, str] = MappingProxyType(
    {"model_kwargs": "model_args", "processor_kwargs": "tokenizer_args", "config_kwargs": "config_args"}
)
_PROCESSING = frozenset(
    {"max_length", "pad_to_multiple_of", "padding", "padding_side", "return_attention_mask", "return_tensors", "return_token_type_ids"}
)
_PLAIN_PROCESSING: Mapping[str, tuple[Any, ...]] = MappingProxyType(
    {
        "add_special_tokens": (True,),
        "truncation": (True, "longest_first", "only_first"),
        "logits_to_keep": (1,),
        "restore_suffix": (True,),
        "truncation_side": ("right",),
        "stride": (0,),
        "is_split_into_words": (False,),
        "split_special_tokens": (False,),
    }
)
"""Arguments of a call of the tokenizer, with their values that change no number."""

_TASK_LENGTHS = ("query_length", "document_length", "query_expansion", "tokenizer_name_or_path")


@dataclass(frozen=True, slots=True)
class TransformerConfig:
    """The config of a folder's transformer.

    Attributes:
        path: The file; the name that is looked for first, where there is none.
        content: Its content; empty without a file.
    """

    path: Path
    content: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> TransformerConfig:
        """Read it from a folder, under its name or an older one.

        Raises:
            ConfigError: If a file is damaged.
        """
        for name in _NAMES:
            if content := read_optional_object(folder / name):
                return cls(folder / name, content)
        return cls(folder / _NAMES[0], {})

    @property
    def takes_messages(self) -> bool:
        """Whether texts go through the chat template; without a `modality_config` they don't."""
        return "message" in self._object("modality_config")

    @property
    def lower_case(self) -> bool:
        """Whether texts are put into lower case before they are encoded.

        Raises:
            ConfigError: If it is no truth value.
        """
        given = self.content.get("do_lower_case")
        if given is not None and not isinstance(given, bool):
            raise ConfigError(f"{self.path}: do_lower_case must be true or false, not {given!r}", advice="Correct the file")
        return bool(given)

    def lengths(self) -> Iterator[tuple[str, Any]]:
        """What it says about the longest text: fields and their values, the one that counts first."""
        processing = self._object("processing_kwargs")
        for part in ("chat_template", "common", "text"):
            given = self._object(part, processing).get("max_length")
            if given is not None and (part != "chat_template" or self.takes_messages):
                yield f"processing_kwargs.{part}.max_length", given
        field, arguments = self._arguments("processor_kwargs")
        if "model_max_length" in arguments:
            yield f"{field}.model_max_length", arguments["model_max_length"]
        elif self.content.get("max_seq_length") is not None:
            yield "max_seq_length", self.content["max_seq_length"]

    @property
    def template_options(self) -> Mapping[str, Any]:
        """The variables that a chat template gets."""
        options = self._object("chat_template", self._object("processing_kwargs"))
        return {name: value for name, value in options.items() if name not in _PROCESSING and name not in _PLAIN_PROCESSING}

    def message_format(self) -> str:
        """The form of a message in the chat template: `auto`, `flat` or `structured`."""
        return str(self._object("message", self._object("modality_config")).get("format") or "auto")

    def check(self, kind: Kind, config: Mapping[str, Any]) -> None:
        """Refuse what would change numbers, and is not computed here.

        Args:
            kind: What the folder is.
            config: The content of its `config.json`.

        Raises:
            ConfigError: Names file and field.
        """
        task, output, name = _OUTPUTS[kind]
        implied = task if kind == "classifier" else "feature-extraction"
        self._expect("transformer_task", self.content.get("transformer_task") or implied, task)
        if "modality_config" in self.content:
            for modality in ("text", "message"):
                entry = self._object(modality, self._object("modality_config"))
                self._expect(f"modality_config.{modality}.method", entry.get("method", "forward"), "forward")
                self._expect(f"modality_config.{modality}.method_output_name", entry.get("method_output_name", output), output)
            self._expect("module_output_name", self.content.get("module_output_name", name), name)
        if kind == "embedder" and self.takes_messages:
            raise self._refusal("modality_config has 'message': its texts go through the chat template, which no embedder here uses")
        for field in _TASK_LENGTHS:
            if self.content.get(field) is not None:
                raise self._refusal(f"{field} is {self.content[field]!r}, which is not supported")
        self._check_arguments(config)
        self._check_processing()

    def _check_arguments(self, config: Mapping[str, Any]) -> None:
        for now, harmless in _WITHOUT_EFFECT.items():
            field, arguments = self._arguments(now)
            for name, value in arguments.items():
                same = now == "config_kwargs" and name in config and config[name] == value
                right = now == "processor_kwargs" and _PLAIN_PROCESSING.get(name, ()) and value in _PLAIN_PROCESSING[name]
                if name not in harmless and not same and not right:
                    raise self._refusal(f"{field} has {name} = {value!r}, which is not supported")

    def _check_processing(self) -> None:
        processing = self._object("processing_kwargs")
        for part in ("common", "text", "chat_template"):
            for name, value in self._object(part, processing).items():
                options = part == "chat_template" and name not in _PLAIN_PROCESSING
                if name not in _PROCESSING and not options and value not in _PLAIN_PROCESSING.get(name, ()):
                    raise self._refusal(f"processing_kwargs.{part} has {name} = {value!r}, which is not supported")

    def _arguments(self, now: str) -> tuple[str, Mapping[str, Any]]:
        """The field of this name or of its older one, which counts where both are there, and its content."""
        field = _OLD_NAMES[now] if _OLD_NAMES[now] in self.content else now
        return field, self._object(field)

    def _object(self, field: str, within: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        value = (self.content if within is None else within).get(field)
        if value is not None and not isinstance(value, Mapping):
            raise ConfigError(f"{self.path}: {field} must be a JSON object, not {value!r}", advice="Correct the file")
        return value or {}

    def _expect(self, field: str, value: object, wanted: str) -> None:
        if value != wanted:
            raise self._refusal(f"{field} is {value!r}, but only {wanted!r} is supported")

    def _refusal(self, reason: str) -> ConfigError:
        return ConfigError(
            f"{self.path}: {reason}",
            advice="Remove the field if the model was trained without it; otherwise run the model with sentence-transformers",
        )
