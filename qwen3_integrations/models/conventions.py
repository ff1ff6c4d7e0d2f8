"""What a folder declares about its texts: prompts, the longest text, lower case.

Source: sentence-transformers 6.2: `sentence_transformer/model.py` (`encode_query`, `encode_document`), `base/modules/transformer.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qwen3_integrations.core.prompts import TextConventions
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.json_files import read_optional_object

PROMPTS = "config_sentence_transformers.json"
TRANSFORMER = "sentence_bert_config.json"
_ENDLESS = 1e18
"""transformers writes 1e30 for a length without a limit."""
_DOCUMENT_NAMES = ("document", "passage", "corpus")


def declared_prompts(folder: Path) -> TextConventions:
    """The prompts of a folder's `config_sentence_transformers.json`, as sentence-transformers takes them.

    A query has the prompt named `query`, a document the first of `document`, `passage` and `corpus`. Where there is none, both have
    the prompt that `default_prompt_name` names.

    Raises:
        ConfigError: If a prompt is not a string, or `default_prompt_name` names none.
    """
    prompts, default = _prompts(folder)
    fallback = None if default is None else prompts[default]
    document = next((prompts[name] for name in _DOCUMENT_NAMES if name in prompts), fallback)
    return TextConventions(prompts.get("query", fallback), document)


def default_prompt(folder: Path) -> str | None:
    """The prompt that `default_prompt_name` names, which sentence-transformers gives to a reranker; None where it names none.

    Raises:
        ConfigError: As `declared_prompts`.
    """
    prompts, default = _prompts(folder)
    return None if default is None else prompts[default]


def _prompts(folder: Path) -> tuple[dict[str, str], str | None]:
    """The prompts by their names, and the name of the default one."""
    path = folder / PROMPTS
    config = read_optional_object(path)
    prompts = config.get("prompts") or {}
    if not isinstance(prompts, dict) or not all(isinstance(text, str) for text in prompts.values() if text is not None):
        raise ConfigError(f"{path}: prompts must map names to texts, not {prompts!r}")
    prompts = {name: text for name, text in prompts.items() if text is not None}
    default = config.get("default_prompt_name")
    if default is not None and (not isinstance(default, str) or default not in prompts):
        raise ConfigError(f"{path}: default_prompt_name is {default!r}, but prompts has only {', '.join(map(repr, prompts)) or 'none'}")
    return prompts, default


def declared_length(folder: Path, context: int) -> int | None:
    """The longest text that a folder declares, in tokens with the end token; None where it declares none below the model's context.

    Args:
        folder: The model's folder.
        context: The model's context, in tokens.

    Raises:
        ConfigError: If it is not a whole number of at least 1.
    """
    path, field = folder / TRANSFORMER, "max_seq_length"
    length = read_optional_object(path).get(field)
    if length is None:
        path, field = folder / "tokenizer_config.json", "model_max_length"
        length = read_optional_object(path).get(field)
    if length is None:
        return None
    is_number = isinstance(length, int | float) and not isinstance(length, bool)
    if is_number and length >= _ENDLESS:
        return None
    if not is_number or not length >= 1 or length != int(length):
        raise ConfigError(f"{path}: {field} must be a whole number of at least 1, not {length!r}")
    return int(length) if length < context else None


def declared_lower_case(folder: Path) -> bool:
    """Whether a folder's texts are put into lower case before they are encoded."""
    path = folder / TRANSFORMER
    given: Any = read_optional_object(path).get("do_lower_case")
    if given is not None and not isinstance(given, bool):
        raise ConfigError(f"{path}: do_lower_case must be true or false, not {given!r}")
    return bool(given)
