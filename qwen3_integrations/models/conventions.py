"""What a folder declares about its texts: prompts and the longest text.

Source: sentence-transformers 6.2: `sentence_transformer/model.py` (`encode_query`, `encode_document`), `base/model.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qwen3_integrations.core.prompts import TextConventions
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.json_files import read_optional_object
from qwen3_integrations.models.transformer_config import TransformerConfig

PROMPTS = "config_sentence_transformers.json"
_ENDLESS = 1e18
"""transformers writes 1e30 for a length without a limit."""
_DOCUMENT_NAMES = ("document", "passage", "corpus")


def declared_prompts(folder: Path) -> TextConventions:
    """The prompts of a folder's `config_sentence_transformers.json`, as sentence-transformers takes them.

    A query has the prompt named `query`, a document the first of `document`, `passage` and `corpus`. Where there is none, both have
    the prompt that `default_prompt_name` names, and without that none. A folder without a map of prompts declares nothing.

    Raises:
        ConfigError: If a prompt is not a string, or `default_prompt_name` names none.
    """
    prompts, default = _prompts(folder)
    if prompts is None:
        return TextConventions()
    fallback = None if default is None else prompts[default]
    document = next((prompts[name] for name in _DOCUMENT_NAMES if name in prompts), fallback)
    return TextConventions(prompts.get("query", fallback or ""), document)


def default_prompt(folder: Path) -> str | None:
    """The prompt that `default_prompt_name` names, which sentence-transformers gives to a reranker; None where it names none.

    Raises:
        ConfigError: As `declared_prompts`.
    """
    prompts, default = _prompts(folder)
    return None if default is None or prompts is None else prompts[default]


def _prompts(folder: Path) -> tuple[dict[str, str] | None, str | None]:
    """The prompts by their names, None without a map of them; and the name of the default one."""
    path = folder / PROMPTS
    config = read_optional_object(path)
    given, default = config.get("prompts"), config.get("default_prompt_name")
    if given is not None and (not isinstance(given, dict) or not all(isinstance(text, str) for text in given.values() if text is not None)):
        raise ConfigError(f"{path}: prompts must map names to texts, not {given!r}", advice="Correct the file")
    prompts = None if given is None else {name: text for name, text in given.items() if text is not None}
    if default is not None and (not isinstance(default, str) or default not in (prompts or {})):
        listed = ", ".join(map(repr, prompts or {})) or "none"
        raise ConfigError(f"{path}: default_prompt_name is {default!r}, but prompts has only {listed}", advice="Correct the file")
    return prompts, default


def declared_length(folder: Path, context: int) -> int | None:
    """The longest text that a folder declares, in tokens with the end token; None where it declares none below the model's context.

    The first of these counts: `max_length` in the `processing_kwargs` of the transformer's config, `model_max_length` in its
    `processor_kwargs`, its `max_seq_length`, and `model_max_length` of `tokenizer_config.json`.

    Args:
        folder: The model's folder.
        context: The model's context, in tokens.

    Raises:
        ConfigError: If it is not a whole number of at least 1.
    """
    path, field, length = _stated_length(folder)
    if length is None:
        return None
    is_number = isinstance(length, int | float) and not isinstance(length, bool)
    if is_number and length >= _ENDLESS:
        return None
    if not is_number or not length >= 1 or length != int(length):
        raise ConfigError(f"{path}: {field} must be a whole number of at least 1, not {length!r}", advice="Correct the file")
    return int(length) if length < context else None


def length_source(folder: Path) -> str:
    """The name of the file that declares the longest text."""
    return _stated_length(folder)[0].name


def _stated_length(folder: Path) -> tuple[Path, str, Any]:
    """File, field and value; None as the value where nothing is declared."""
    config = TransformerConfig.read(folder)
    for field, length in config.lengths():
        return config.path, field, length
    path, field = folder / "tokenizer_config.json", "model_max_length"
    return path, field, read_optional_object(path).get(field)
