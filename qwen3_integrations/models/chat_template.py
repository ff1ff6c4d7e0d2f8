"""A folder's chat template, and what it makes of a query and a document.

Source: `apply_chat_template` of transformers 5.19 and `base/modality.py` of sentence-transformers 6.2.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NoReturn

from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.json_files import read_optional_object, read_text
from qwen3_integrations.models.transformer_config import TransformerConfig

_TOKENIZER, _TEMPLATE = "tokenizer_config.json", "chat_template.jinja"
_STRUCTURED = ("content[0]", ".type", "'type'", '"type"', "item.type", "message.content[")
"""By these, sentence-transformers sees that a template reads the content of a message as a list of parts."""


def chat_template(folder: Path) -> tuple[str | None, Path]:
    """A folder's chat template, and the file that it is in; None where there is none. `chat_template.jinja` comes first."""
    if (folder / _TEMPLATE).is_file():
        return read_text(folder / _TEMPLATE), folder / _TEMPLATE
    path = folder / _TOKENIZER
    template = read_optional_object(path).get("chat_template")
    if isinstance(template, list):  # several, each with a name
        named = {str(each.get("name")): each.get("template") for each in template if isinstance(each, dict)}
        template = named.get("default")
    if template is not None and not isinstance(template, str):
        raise ConfigError(
            f"{path}: chat_template must be a text, not a {type(template).__name__}", advice="Correct the file, or download the model again"
        )
    return template, path


def takes_pairs(template: str) -> bool:
    """Whether a template has a place for a query and a document. That of a chat model has none: sentence-transformers refuses it too."""
    return all(re.search(rf"""['"]{role}['"]""", template) for role in ("query", "document"))


def render_pair(
    folder: Path, template: str, path: Path, transformer: TransformerConfig, query: str, document: str, prompt: str | None
) -> str:
    """What sentence-transformers gives to the tokenizer for a pair. The template runs in jinja2's sandbox.

    Args:
        folder: The reranker's folder.
        template: Its chat template.
        path: The file of the template, for messages.
        transformer: The config of its transformer.
        query: The query.
        document: The document.
        prompt: The content of a system message before them; None for none.

    Raises:
        ConfigError: If the template is broken, or refuses a query and a document.
    """
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> NoReturn:
        raise TemplateError(message)

    form = transformer.message_format()
    parts = form == "structured" or (form == "auto" and any(pattern in template for pattern in _STRUCTURED))
    said = [("system", prompt)] if prompt is not None else []
    messages = [
        {"role": role, "content": [{"type": "text", "text": text}] if parts else text}
        for role, text in (*said, ("query", query), ("document", document))
    ]
    special = {name: value for name, value in read_optional_object(folder / _TOKENIZER).items() if name.endswith("_token") and value}
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    environment.globals["raise_exception"] = refuse
    try:
        variables = {"add_generation_prompt": False, **special, **transformer.template_options, "messages": messages}
        return str(environment.from_string(template).render(**variables))
    except Exception as error:
        raise ConfigError(
            f"{path}: chat_template does not take a query and a document: {error}",
            advice="Run the model with sentence_transformers.CrossEncoder",
        ) from error
