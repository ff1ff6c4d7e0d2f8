"""The head of a reranker: where its score is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwen3_integrations.core.tokenizer import Tokenizer
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.labels import Labels
from qwen3_integrations.models.tokenizer_files import tokenizer_spec

EMBEDDINGS = "embed_tokens.weight"
"""The token embeddings: the output head too, where it is tied to them and no other is stored."""

OUTPUT = "lm_head.weight"
"""An output head of its own."""

SCORE, SCORE_BIAS = "score.weight", "score.bias"
"""The head of a sequence-classification conversion."""

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class ScoreHead:
    """Where a reranker's score is read: the sigmoid of a logit, or of the difference of two logits, of the last token.

    Attributes:
        matrix: Plain name of the tensor: `score.weight` with a row for each label, else `lm_head.weight` or `embed_tokens.weight` with a
            row for each token.
        positive: What means "yes": the index of a row, or a word that is one token of the model's tokenizer.
        negative: What means "no", in the same form; None where the only row gives the log-odds of "yes".
        bias: Whether `score.bias` is added to the logits.
    """

    matrix: str
    positive: int | str = "yes"
    negative: int | str | None = "no"
    bias: bool = False

    @property
    def of_labels(self) -> bool:
        """Whether it is the stored head of a sequence-classification conversion, with a row for each label."""
        return self.matrix == SCORE

    def rows(self, tokenizer: Tokenizer) -> list[int]:
        """The indices of its rows in the matrix: that of "yes", and that of "no" if there is one.

        Raises:
            ConfigError: If one of its words is not one token.
        """
        given = [self.positive] if self.negative is None else [self.positive, self.negative]
        return [tokenizer.token_id(each) if isinstance(each, str) else each for each in given]

    def token_names(self, folder: Path) -> tuple[str, str]:
        """Its tokens as `tokenizer.json` spells them, "no" first: vLLM's `classifier_from_token`.

        Args:
            folder: The folder with the tokenizer.

        Raises:
            ConfigError: If it is a head with a row for each label, or the tokenizer has no token of its id.
        """
        if self.of_labels or self.negative is None:
            raise ConfigError(f"{folder} has a head with a row for each label, which no token names")
        if isinstance(self.positive, str) and isinstance(self.negative, str):
            return self.negative, self.positive
        content = json.loads(tokenizer_spec(folder))
        names = {int(number): str(name) for name, number in content["model"]["vocab"].items()}
        names |= {int(token["id"]): str(token["content"]) for token in content.get("added_tokens", ())}
        missing = [number for number in (self.negative, self.positive) if number not in names]
        if missing:
            raise ConfigError(
                f"the tokenizer of {folder} has no token with the id {missing[0]}, which the folder's LogitScore names",
                advice="Download the model again, or convert it again",
            )
        return names[int(self.negative)], names[int(self.positive)]

    def __str__(self) -> str:
        what = "labels" if self.of_labels else "tokens"
        return f"{self.matrix}, {what} {self.positive}" + ("" if self.negative is None else f" and {self.negative}")


@dataclass(frozen=True, slots=True)
class StoredHead:
    """The head of a sequence-classification conversion.

    Attributes:
        rows: Rows of `score.weight`, 1 or 2: one a label.
        bias: Whether there is a `score.bias`.
    """

    rows: int
    bias: bool


def stored_head(folder: Path, width: int, labels: Labels, shapes: Shapes) -> StoredHead:
    """The head of a sequence-classification conversion, from the headers of its weights alone.

    Args:
        folder: The model's folder, for messages.
        width: Width of the hidden state.
        labels: What its config says about the rows.
        shapes: The shape of each stored tensor.

    Raises:
        ConfigError: If the head is not there, or of another shape than the labels in `config.json` say.
    """
    weight, bias = shapes.get(SCORE), shapes.get(SCORE_BIAS)
    if weight is None:
        raise ConfigError(
            f"{folder} has no {SCORE!r}, which its config.json promises", advice="Download the model again, or convert it again"
        )
    if len(weight) != 2 or weight[0] not in (1, 2) or weight[1] != width:
        raise ConfigError(
            f"{folder} has a score.weight of shape {weight}; a reranker's is (1, {width}) or (2, {width}), a row a label",
            advice="Download the model again, or convert it again",
        )
    if labels.count not in (None, weight[0]):
        raise ConfigError(
            f"{folder / 'config.json'} declares {labels.count} labels (id2label), but score.weight has {weight[0]} rows: "
            "one of the two is wrong",
            advice="Download the model again, or convert it again",
        )
    if bias is not None and bias != weight[:1]:
        raise ConfigError(
            f"{folder} has a score.bias of shape {bias}; a reranker's has the shape {weight[:1]}, a number a label",
            advice="Download the model again, or convert it again",
        )
    return StoredHead(weight[0], bias is not None)


def label_head(stored: StoredHead, labels: Labels) -> ScoreHead:
    """The head of a sequence-classification conversion: its one row, or the row of "yes" less that of "no"."""
    if stored.rows == 1:
        return ScoreHead(SCORE, 0, None, stored.bias)
    return ScoreHead(SCORE, labels.positive, 1 - labels.positive, stored.bias)


def token_head(folder: Path, config: Mapping[str, Any], shapes: Shapes, declared: tuple[int, int] | None = None) -> ScoreHead:
    """The head of a causal reranker: two rows of the output head.

    A stored `lm_head.weight` is read also beside `tie_word_embeddings: true`, because transformers does not tie the two then: it warns that
    both are in the checkpoint with different values. Source: `tie_weights` of transformers 5.19, which sentence-transformers uses too.

    Args:
        folder: The model's folder, for messages.
        config: The content of `config.json`.
        shapes: The shape of each stored tensor.
        declared: The token ids of "yes" and "no" that the folder declares; None for the tokens of these words.

    Raises:
        ConfigError: If the head is not stored, has another shape than `config.json` says, or lacks a row that is declared.
    """
    matrix = OUTPUT if OUTPUT in shapes else EMBEDDINGS
    if matrix == EMBEDDINGS and not config.get("tie_word_embeddings"):
        raise ConfigError(
            f"{folder} has no {OUTPUT!r}, and its config.json does not tie it to the token embeddings (tie_word_embeddings)",
            advice="Download the model again, or set tie_word_embeddings to true if the model was trained so",
        )
    shape = shapes.get(matrix)
    if shape is not None and (len(shape) != 2 or shape[1] != config["hidden_size"]):
        raise ConfigError(
            f"{folder} has a {matrix} of shape {shape}, but the hidden_size of its config.json is {config['hidden_size']}: they belong to "
            "different models",
            advice="Download the model again",
        )
    if declared is None:
        return ScoreHead(matrix)
    if shape is not None and max(declared) >= shape[0]:
        raise ConfigError(
            f"{folder}: its LogitScore reads the token {max(declared)}, but {matrix} has only {shape[0]} rows",
            advice="Download the model again, or convert it again",
        )
    return ScoreHead(matrix, *declared)
