"""What a reranker's folder declares for sentence-transformers: the tokens of its score, and the prompt.

Source: sentence-transformers 6.2: `cross_encoder/model.py`, `cross_encoder/modules/logit_score.py`, `base/modules/transformer.py`; the
published Qwen3-Reranker has these files since April 2026.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwen3_integrations.core.prompts import DEFAULT_INSTRUCTION, RERANK_PREFIX, RERANK_SUFFIX, rerank_body, rerank_query
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.chat_template import chat_template, render_pair, takes_pairs
from qwen3_integrations.models.conventions import PROMPTS, TRANSFORMER, default_prompt
from qwen3_integrations.models.json_files import read_object, read_optional_object
from qwen3_integrations.models.modules import MODULES, listed_modules

_PROBABILITIES = (None, "torch.nn.modules.activation.Sigmoid", "torch.nn.modules.linear.Identity")
"""Activations behind the logit. This package gives the sigmoid, a probability; sentence-transformers gives the logit with Identity."""

_QUERY, _DOCUMENT = "a query of two words", "the text of a document."
"""What is put into the folder's template, to compare the result with this package's prompt."""


@dataclass(frozen=True, slots=True)
class CrossEncoderFiles:
    """What a reranker's folder declares for sentence-transformers. The default: nothing.

    Attributes:
        token_ids: The ids of the tokens for "yes" and for "no"; None for these words.
        instruction: The instruction of its default prompt or template; None where it is the model card's, or not declared.
    """

    token_ids: tuple[int, int] | None = None
    instruction: str | None = None


def read_cross_encoder(folder: Path, *, classifier: bool) -> CrossEncoderFiles:
    """Read `modules.json` and the files beside it; a folder without it declares nothing.

    Args:
        folder: The reranker's folder.
        classifier: Whether it is a sequence-classification conversion. Its own head is read then, also where the conversion kept the
            LogitScore of the original.

    Raises:
        ConfigError: For modules that this package does not compute, a score that is no probability, or a prompt that is not this package's;
            names file and field.
    """
    if not (folder / MODULES).is_file():
        return CrossEncoderFiles()
    (first, where), *rest = listed_modules(folder)
    kinds = [first, *(kind for kind, _ in rest)]
    if kinds != ["Transformer", "LogitScore"] and not (classifier and kinds == ["Transformer"]):
        if "Pooling" in kinds:
            raise ConfigError(f"{folder} contains an embedding model ({MODULES} lists a Pooling)", advice="Open it with task embed")
        wanted = "Transformer and LogitScore" + (", or Transformer alone" if classifier else "")
        raise ConfigError(f"{folder / MODULES} lists the modules {', '.join(kinds)}, which is not supported; a reranker has {wanted}")
    if where != folder:
        raise ConfigError(f"{folder / MODULES}: the weights are in the subfolder {where.name!r}, which this package does not read")
    transformer = read_optional_object(folder / TRANSFORMER)
    _check_transformer(folder / TRANSFORMER, transformer, classifier=classifier)
    settings = read_optional_object(folder / PROMPTS)
    if not classifier and settings.get("activation_fn") not in _PROBABILITIES:
        raise ConfigError(f"{folder / PROMPTS}: activation_fn {settings['activation_fn']!r} does not give a probability; Sigmoid does")
    instruction = _instruction(folder, transformer)
    token_ids = None if classifier else _token_ids(rest[0][1] / "config.json")
    return CrossEncoderFiles(token_ids, None if instruction == DEFAULT_INSTRUCTION else instruction)


def _check_transformer(path: Path, config: Mapping[str, Any], *, classifier: bool) -> None:
    task = config.get("transformer_task")
    if task not in ((None, "text-generation", "sequence-classification") if classifier else ("text-generation",)):
        wanted = "sequence-classification" if classifier else "text-generation"
        raise ConfigError(f"{path}: transformer_task is {task!r}, but a reranker with these modules has {wanted!r}")
    if config.get("do_lower_case"):
        raise ConfigError(f"{path}: do_lower_case would change the prompt of a reranker too, which is not supported")


def _token_ids(path: Path) -> tuple[int, int]:
    config = read_object(path)
    if config.get("module_input_name", "causal_logits") != "causal_logits":
        raise ConfigError(f"{path}: module_input_name {config['module_input_name']!r} is not supported; supported is 'causal_logits'")
    positive, negative = config.get("true_token_id"), config.get("false_token_id")
    if negative is None:
        raise ConfigError(
            f"{path} has no false_token_id: the score would be one raw logit, which is not a probability",
            advice="Name the token that means 'no', if the model was trained with one",
        )
    for field, number in (("true_token_id", positive), ("false_token_id", negative)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 0:
            raise ConfigError(f"{path}: {field} must be a token id, not {number!r}")
    if positive == negative:
        raise ConfigError(f"{path}: true_token_id and false_token_id are both {positive}: every score would be 0.5")
    return int(positive), int(negative)  # type: ignore[arg-type]  # checked above


def _instruction(folder: Path, transformer: Mapping[str, Any]) -> str | None:
    """The instruction in the prompt that sentence-transformers would give to the model; None where no template takes pairs.

    Args:
        folder: The reranker's folder.
        transformer: The content of its `sentence_bert_config.json`.

    Raises:
        ConfigError: If the prompt differs in more than the instruction.
    """
    template, path = chat_template(folder)
    if template is None or not takes_pairs(template):
        return None
    text = render_pair(folder, template, path, transformer, _QUERY, _DOCUMENT, default_prompt(folder) or None)
    published = RERANK_PREFIX + rerank_query(_QUERY, "\0") + rerank_body(_DOCUMENT) + RERANK_SUFFIX
    match = re.fullmatch(re.escape(published).replace(re.escape("\0"), "(.+)"), text)
    if match is None:
        raise ConfigError(
            f"{path}: chat_template makes another prompt than that of the published Qwen3-Reranker, which this package uses: {text!r}",
            advice="Take the chat_template of the published Qwen3-Reranker if the model was trained with its prompt",
        )
    return match[1]
