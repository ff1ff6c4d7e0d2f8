"""The labels of a sequence-classification reranker: how many its config declares, and which one means "yes"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from qwen3_integrations.errors import ConfigError

_POSITIVE = frozenset({"yes", "true", "relevant", "positive", "1"})
_NEGATIVE = frozenset({"no", "false", "irrelevant", "not relevant", "non relevant", "nonrelevant", "negative", "0"})

_NEUTRAL: Mapping[str, Any] = MappingProxyType(
    {
        "classifier_from_token": None,
        "method": None,
        "is_original_qwen3_reranker": False,
        "problem_type": None,
        "sentence_transformers": {},
        "sbert_ce_default_activation_function": None,
    }
)
"""Fields of a config by which vLLM would read the score from other rows, or answer with something else than probabilities."""


@dataclass(frozen=True, slots=True)
class Labels:
    """What a config says about the rows of the stored head.

    Attributes:
        count: How many labels it declares, 1 or 2; None where it declares none.
        positive: Of two labels, the index of the one that means "yes".
    """

    count: int | None = None
    positive: int = 1


def declared_labels(config: Mapping[str, Any], path: Path) -> Labels:
    """Read `id2label`, or the fields that stand in for it.

    One label: its logit is the log-odds of "yes", whatever its name, unless the name says "no". Two labels: their names say which is
    "yes" (yes, true, relevant, positive, 1, in any case and spelling of blanks). For transformers' default names, LABEL_0 and LABEL_1,
    and without names, it is label 1: the convention of trained rerankers, whose targets are 0 for irrelevant and 1 for relevant.

    Args:
        config: The whole of `config.json`.
        path: Where it lies, for messages.

    Raises:
        ConfigError: For more than two labels, names that do not say which is "yes", or fields that contradict each other.
    """
    names = _names(config, path)
    if names is None:
        count = config.get("num_labels")
        if count not in (None, 1, 2):
            raise ConfigError(f"{path} declares {count!r} labels (num_labels): a reranker has one, or two")
        return Labels(count)
    plain = [name.casefold().replace("_", " ").replace("-", " ").strip() for name in names]
    if len(names) == 1:
        if plain[0] in _NEGATIVE - {"0"}:
            raise ConfigError(f"{path} names its only label {names[0]!r} (id2label): the score must be that of 'yes'")
        return Labels(1)
    if len(names) != 2:
        raise ConfigError(f"{path} declares {len(names)} labels (id2label: {_listed(names)}): a reranker has one, or two")
    if config.get("problem_type") in ("multi_label_classification", "regression"):
        raise ConfigError(
            f"{path} declares problem_type {config['problem_type']!r} with two labels (id2label: {_listed(names)}): "
            "the score of a reranker is the softmax over its two labels"
        )
    return Labels(2, _positive(plain, names, path))


def _names(config: Mapping[str, Any], path: Path) -> list[str] | None:
    """The labels' names in the order of the head's rows; None where there are none."""
    by_index, by_name = config.get("id2label"), config.get("label2id")
    if not by_index and not by_name:
        return None
    try:
        numbered = {int(index): str(name) for index, name in by_index.items()} if by_index else {}
        reverse = {str(name): int(index) for name, index in by_name.items()} if by_name else {}
    except (AttributeError, TypeError, ValueError):
        raise ConfigError(f"{path}: id2label must map numbers to names, and label2id names to numbers") from None
    numbered = numbered or {index: name for name, index in reverse.items()}
    if sorted(numbered) != list(range(len(numbered))):
        raise ConfigError(f"{path}: id2label must number its labels from 0, not {sorted(numbered)}")
    names = [numbered[index] for index in range(len(numbered))]
    if wrong := [name for index, name in enumerate(names) if reverse.get(name, index) != index]:
        raise ConfigError(f"{path}: id2label and label2id give {wrong[0]!r} different numbers, so it is not known which one is 'yes'")
    return names


def _positive(plain: list[str], names: list[str], path: Path) -> int:
    if plain == ["label 0", "label 1"]:
        return 1
    for positive in (0, 1):
        if plain[positive] in _POSITIVE and plain[1 - positive] in _NEGATIVE:
            return positive
    raise ConfigError(
        f"{path} names its labels {_listed(names)} (id2label), which does not say which of them means 'yes': name them 'no' and 'yes' "
        "in the order of the rows of score.weight"
    )


def _listed(names: list[str]) -> str:
    return ", ".join(map(repr, names))


def stored_head_overrides(config: Mapping[str, Any]) -> dict[str, Any]:
    """The `hf_overrides` with which vLLM scores by the stored head alone and answers with probabilities; empty for a plain conversion."""
    return {name: neutral for name, neutral in _NEUTRAL.items() if config.get(name)}
