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
from qwen3_integrations.core.tokenizer import holds_control_token
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.chat_template import chat_template, render_pair, takes_pairs
from qwen3_integrations.models.conventions import PROMPTS, default_prompt
from qwen3_integrations.models.json_files import file_exists, read_object, read_optional_object
from qwen3_integrations.models.modules import MODULES, listed_modules
from qwen3_integrations.models.transformer_config import TransformerConfig

_PROBABILITIES = (None, "torch.nn.modules.activation.Sigmoid", "torch.nn.modules.linear.Identity")
"""Activations behind the logit. This package gives the sigmoid, a probability; sentence-transformers gives the logit with Identity."""

_PROBES = (
    ("a query of two words", "the text of a document."),
    ("  A Query\tWith CAPITALS \n", "\n The Text\n\nOf a DOCUMENT  \n"),
    (
        "e\u0301cole \N{LATIN CAPITAL LETTER I WITH DOT ABOVE} \N{CJK UNIFIED IDEOGRAPH-6A21}",
        "\N{NO-BREAK SPACE}\ufb01n & <b>\"'\u200b\r\n",
    ),
    ("<|im_end|>", "<|im_start|>system\n<think>"),
    ("", "x"),
    ("x", ""),
    ("word " * 3000, "word " * 3000),
)
"""Queries and documents that are put into the folder's template, to compare the results with this package's prompt: capitals, blanks at
both ends, lines, composed and other letters, HTML, control tokens, empty and long texts."""

_SHOWN = 1200
"""Characters of a prompt in a message."""


@dataclass(frozen=True, slots=True)
class CrossEncoderFiles:
    """What a reranker's folder declares for sentence-transformers. The default: nothing.

    Attributes:
        token_ids: The ids of the tokens for "yes" and for "no"; None for these words.
        instruction: The instruction of its default prompt or template; None where it is the model card's, or not declared.
    """

    token_ids: tuple[int, int] | None = None
    instruction: str | None = None


def read_cross_encoder(folder: Path, config: Mapping[str, Any], *, classifier: bool) -> CrossEncoderFiles:
    """Read `modules.json` and the files beside it. A folder without it declares only what its chat template says.

    Args:
        folder: The reranker's folder.
        config: The content of its `config.json`.
        classifier: Whether it is a sequence-classification conversion. Its own head is read then, also where the conversion kept the
            LogitScore of the original.

    Raises:
        ConfigError: For modules that this package does not compute, a score that is no probability, or a prompt that is not this package's;
            names file and field.
    """
    transformer = TransformerConfig.read(folder)
    if not file_exists(folder / MODULES):
        return CrossEncoderFiles(instruction=_instruction(folder, transformer, None))
    (first, where), *rest = listed_modules(folder)
    kinds = [first, *(kind for kind, _ in rest)]
    if kinds != ["Transformer", "LogitScore"] and not (classifier and kinds == ["Transformer"]):
        if "Pooling" in kinds:
            raise ConfigError(f"{folder} contains an embedding model ({MODULES} lists a Pooling)", advice="Open it with task embed")
        wanted = "Transformer and LogitScore" + (", or Transformer alone" if classifier else "")
        raise ConfigError(
            f"{folder / MODULES} lists the modules {', '.join(kinds)}, which is not supported; a reranker has {wanted}",
            advice="Run the model with sentence_transformers.CrossEncoder",
        )
    if where != folder:
        raise ConfigError(
            f"{folder / MODULES}: the weights are in the subfolder {where.name!r}, which this package does not read",
            advice=f"Save it again with a current sentence-transformers: CrossEncoder({str(folder)!r}).save_pretrained(FOLDER)",
        )
    _check_transformer(transformer, config, classifier=classifier)
    settings = read_optional_object(folder / PROMPTS)
    if settings.get("activation_fn") not in _PROBABILITIES:
        raise ConfigError(
            f"{folder / PROMPTS}: activation_fn {settings['activation_fn']!r} does not give a probability; Sigmoid does",
            advice="Run the model with sentence_transformers.CrossEncoder, or set activation_fn to torch.nn.modules.activation.Sigmoid",
        )
    instruction = _instruction(folder, transformer, default_prompt(folder) or None)
    return CrossEncoderFiles(None if classifier else _token_ids(rest[0][1] / "config.json"), instruction)


def _check_transformer(transformer: TransformerConfig, config: Mapping[str, Any], *, classifier: bool) -> None:
    of_labels = classifier and transformer.content.get("transformer_task") != "text-generation"
    transformer.check("classifier" if of_labels else "causal reranker", config)
    if transformer.lower_case:
        raise ConfigError(
            f"{transformer.path}: do_lower_case would change the prompt of a reranker too, which is not supported",
            advice="Run the model with sentence_transformers.CrossEncoder",
        )
    if not transformer.takes_messages:
        raise ConfigError(
            f"{transformer.path}: modality_config has no 'message', so the model reads plain pairs of query and document, without the "
            "prompt of Qwen3-Reranker, which this package does not compute",
            advice="Run the model with sentence_transformers.CrossEncoder; if it was trained with the prompt of Qwen3-Reranker, copy "
            "modality_config from the published reranker",
        )


def _token_ids(path: Path) -> tuple[int, int]:
    config = read_object(path)
    if config.get("module_input_name", "causal_logits") != "causal_logits":
        raise ConfigError(
            f"{path}: module_input_name {config['module_input_name']!r} is not supported; supported is 'causal_logits'",
            advice="Run the model with sentence_transformers.CrossEncoder",
        )
    positive, negative = config.get("true_token_id"), config.get("false_token_id")
    if negative is None:
        raise ConfigError(
            f"{path} has no false_token_id: the score would be one raw logit, which is not a probability",
            advice="Name the token that means 'no', if the model was trained with one",
        )
    for field, number in (("true_token_id", positive), ("false_token_id", negative)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 0:
            raise ConfigError(
                f"{path}: {field} must be a token id, not {number!r}", advice="Run the model with sentence_transformers.CrossEncoder"
            )
    if positive == negative:
        raise ConfigError(
            f"{path}: true_token_id and false_token_id are both {positive}: every score would be 0.5",
            advice="Run the model with sentence_transformers.CrossEncoder",
        )
    return int(positive), int(negative)  # type: ignore[arg-type]  # checked above


def _instruction(folder: Path, transformer: TransformerConfig, prompt: str | None) -> str | None:
    """The instruction in the prompt that sentence-transformers would give to the model.

    Args:
        folder: The reranker's folder.
        transformer: The config of its transformer.
        prompt: The prompt that it declares; None for none.

    Returns:
        The instruction; None where it is the model card's, or no template takes pairs.

    Raises:
        ConfigError: If the prompt differs in more than the instruction, or the instruction has a control token.
    """
    template, path = chat_template(folder)
    if template is None or not takes_pairs(template):
        return None
    (query, document), *others = _PROBES
    text = render_pair(folder, template, path, transformer, query, document, prompt)
    match = re.fullmatch(re.escape(_published(query, document, "\0")).replace(re.escape("\0"), "(.+)"), text, re.DOTALL)
    if match is None:
        raise _other_prompt(path, text)
    for query, document in others:
        text = render_pair(folder, template, path, transformer, query, document, prompt)
        if text != _published(query, document, match[1]):
            raise _other_prompt(path, text)
    if holds_control_token(match[1]):
        where = path if prompt is None else folder / PROMPTS
        raise ConfigError(
            f"{where}: the instruction {match[1]!r} has a control token, which sentence-transformers reads as one, and this "
            "package as text",
            advice="Take it out of the instruction, or run the model with sentence_transformers.CrossEncoder",
        )
    return None if match[1] == DEFAULT_INSTRUCTION else match[1]


def _published(query: str, document: str, instruction: str) -> str:
    """This package's prompt."""
    return RERANK_PREFIX + rerank_query(query, instruction) + rerank_body(document) + RERANK_SUFFIX


def _other_prompt(path: Path, text: str) -> ConfigError:
    shown = text if len(text) < _SHOWN else f"{text[:_SHOWN]}..."
    return ConfigError(
        f"{path}: chat_template makes another prompt than that of the published Qwen3-Reranker, which this package uses: {shown!r}",
        advice="Take the chat_template of the published Qwen3-Reranker if the model was trained with its prompt; otherwise run the model "
        "with sentence_transformers.CrossEncoder",
    )
