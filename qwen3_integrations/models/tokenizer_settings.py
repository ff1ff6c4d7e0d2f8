"""What `tokenizer_config.json` declares beside a `tokenizer.json`: honoured, or refused by name.

Source: transformers 5.19: `models/auto/tokenization_auto.py` (the class), `tokenization_utils_tokenizers.py` (`convert_to_native_format`),
`models/qwen2/tokenization_qwen2.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.json_files import read_optional_object

SETTINGS = "tokenizer_config.json"

SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
"""How `Qwen2Tokenizer` splits a text into words."""

_BUILT = (None, "Qwen2Tokenizer", "Qwen2TokenizerFast")
"""The class that takes only the vocabulary, the merges and the tokens around a text of a `tokenizer.json`; it is Qwen3's without a name."""

_AS_STORED = ("PreTrainedTokenizerFast", "PreTrainedTokenizer", "TokenizersBackend", "PythonBackend")
"""Classes that take a `tokenizer.json` as it is."""

_MATCHING = ("lstrip", "rstrip", "single_word")


def check_settings(folder: Path, file: Path) -> None:
    """Refuse settings by which transformers would cut or split texts in another way.

    Args:
        folder: The folder with the tokenizer.
        file: Its `tokenizer.json`; need not exist.

    Raises:
        ConfigError: Names file and field.
    """
    path = folder / SETTINGS
    settings = read_optional_object(path)
    if settings.get("truncation_side", "right") != "right":
        raise ConfigError(
            f"{path}: truncation_side is {settings['truncation_side']!r}, but this package cuts long texts at their end",
            advice="Set it to 'right', with which only texts above the longest length change; or run the model with sentence-transformers",
        )
    if settings.get("split_special_tokens"):
        raise ConfigError(
            f"{path}: split_special_tokens is set, so control tokens of prompts and templates would be text, which is not supported",
            advice="Set it to false, or run the model with sentence-transformers",
        )
    kind = settings.get("tokenizer_class")
    if kind not in _BUILT and kind not in _AS_STORED:
        raise ConfigError(
            f"{path}: tokenizer_class is {kind!r}, which is not a tokenizer of Qwen3",
            advice=f"Set it to 'PreTrainedTokenizerFast', with which {file.name} counts as it is",
        )


def as_loaded(content: dict[str, Any], folder: Path, file: Path) -> dict[str, Any]:
    """The tokenizer that transformers makes of a `tokenizer.json` and the settings beside it.

    Args:
        content: The content of `tokenizer.json`.
        folder: Its folder.
        file: Its path, for messages.

    Returns:
        The content itself where both say the same.

    Raises:
        ConfigError: If the two disagree about added tokens; names file and field.
    """
    path = folder / SETTINGS
    settings = read_optional_object(path)
    stored = {int(token["id"]): token for token in content["added_tokens"]}
    truncation = content.get("truncation")
    if isinstance(truncation, Mapping) and truncation.get("direction") == "Left" and "truncation_side" not in settings:
        raise ConfigError(
            f"{file}: truncation cuts at the left, but this package cuts long texts at their end",
            advice="Set truncation to null, with which only texts above the longest length change",
        )
    built = settings.get("tokenizer_class") in _BUILT
    _check_added(settings.get("added_tokens_decoder"), stored, path, file, both=built)
    return _built(content, prefix_space=bool(settings.get("add_prefix_space"))) if built else content


def _check_added(listed: Any, stored: Mapping[int, Mapping[str, Any]], path: Path, file: Path, *, both: bool) -> None:
    if not listed:
        return
    named = {int(number): token for number, token in listed.items()}
    for number in sorted(named.keys() | (stored.keys() if both else ())):
        here, there = named.get(number), stored.get(number)
        if here is None or there is None or any(_matched(here, name) != _matched(there, name) for name in ("content", *_MATCHING)):
            raise ConfigError(
                f"{path}: added_tokens_decoder has {_shown(here)} as the token {number}, but {file.name} has {_shown(there)}",
                advice="Save the tokenizer again with transformers (save_pretrained), so that both say the same",
            )


def _matched(token: Mapping[str, Any], name: str) -> Any:
    return token.get(name) or False


def _shown(token: Mapping[str, Any] | None) -> str:
    if token is None:
        return "none"
    flags = [name for name in _MATCHING if token.get(name)]
    return f"{token.get('content')!r}" + (f" with {' and '.join(flags)}" if flags else "")


def _built(content: dict[str, Any], *, prefix_space: bool) -> dict[str, Any]:
    """What `Qwen2Tokenizer` makes: its own normalizer, words and model around the stored vocabulary."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": prefix_space, "trim_offsets": False, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": False}
    wanted: dict[str, Any] = {
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
    }
    changed = {name: value for name, value in wanted.items() if _plain(content.get(name)) != _plain(value)}
    model = content["model"]
    if plain := {
        name: type(model[name])() if name in _OPTIONS else None for name in (*_OPTIONS, "dropout", "unk_token") if model.get(name)
    }:
        changed["model"] = model | plain
    return content | changed if changed else content


_OPTIONS = ("fuse_unk", "byte_fallback", "ignore_merges", "continuing_subword_prefix", "end_of_word_suffix")
"""Fields of the model that `Qwen2Tokenizer` leaves at their defaults."""


def _plain(part: Any) -> str:
    """A part of a tokenizer, without what changes no token."""
    return json.dumps(part, sort_keys=True).replace('"trim_offsets": true', '"trim_offsets": false')
