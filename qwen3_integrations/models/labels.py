"""The labels of a sequence-classification reranker: how many its config declares, and which one means "yes"."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
    names, count = _names(config, path), config.get("num_labels")
    if names is None:
        if count not in (None, 1, 2):
            raise ConfigError(
                f"{path} declares {count!r} labels (num_labels): a reranker has one, or two",
                advice="Correct the file, or run the model with sentence_transformers.CrossEncoder",
            )
        return Labels(count)
    plain = [_plain(name) for name in names]
    if len(names) == 1:
        if plain[0] in _NEGATIVE - {"0"}:
            raise ConfigError(
                f"{path} names its only label {names[0]!r} (id2label): the score must be that of 'yes'",
                advice="Correct the file, or run the model with sentence_transformers.CrossEncoder",
            )
    elif len(names) != 2:
        raise ConfigError(
            f"{path} declares {len(names)} labels (id2label: {_listed(names)}): a reranker has one, or two",
            advice="Correct the file, or run the model with sentence_transformers.CrossEncoder",
        )
    elif config.get("problem_type") in ("multi_label_classification", "regression"):
        raise ConfigError(
            f"{path} declares problem_type {config['problem_type']!r} with two labels (id2label: {_listed(names)}): "
            "the score of a reranker is the softmax over its two labels",
            advice="Correct the file, or run the model with sentence_transformers.CrossEncoder",
        )
    if count not in (None, len(names)):
        raise ConfigError(
            f"{path}: num_labels says {count!r}, but id2label names {len(names)}: one of the two is wrong",
            advice="Correct the file, or run the model with sentence_transformers.CrossEncoder",
        )
    return Labels(2, _positive(plain, names, path)) if len(names) == 2 else Labels(1)


def _names(config: Mapping[str, Any], path: Path) -> list[str] | None:
    """The labels' names in the order of the head's rows; None where there are none."""
    by_index, by_name = config.get("id2label"), config.get("label2id")
    if not by_index and not by_name:
        return None
    try:
        numbered = {int(index): str(name) for index, name in by_index.items()} if by_index else {}
        reverse = {int(index): str(name) for name, index in by_name.items()} if by_name else {}
    except (AttributeError, TypeError, ValueError):
        raise ConfigError(
            f"{path}: id2label must map numbers to names, and label2id names to numbers",
            advice="Correct the file, or run the model with sentence_transformers.CrossEncoder",
        ) from None
    if len(numbered) != len(by_index or ()) or len(reverse) != len(by_name or ()):
        raise ConfigError(
            f"{path}: id2label and label2id must give each label a number of its own",
            advice="Correct the file, or run the model with sentence_transformers.CrossEncoder",
        )
    given = [each for each in (numbered, reverse) if each and not _is_default(each)] or [numbered or reverse]
    if len(given) == 2 and any(_plain(numbered.get(index, name)) != _plain(name) for index, name in reverse.items()):
        raise ConfigError(
            f"{path}: id2label and label2id name the labels differently ({_listed(numbered.values())}; {_listed(reverse.values())}), "
            "so it is not known which one is 'yes'",
            advice="Correct the file, or run the model with sentence_transformers.CrossEncoder",
        )
    if sorted(given[0]) != list(range(len(given[0]))):
        raise ConfigError(
            f"{path}: id2label must number its labels from 0, not {sorted(given[0])}",
            advice="Correct the file, or run the model with sentence_transformers.CrossEncoder",
        )
    return [given[0][index] for index in range(len(given[0]))]


def _is_default(names: Mapping[int, str]) -> bool:
    """Whether they are the names that transformers gives labels without names."""
    return all(_plain(name) == f"label {index}" for index, name in names.items())


def _plain(name: str) -> str:
    return name.casefold().replace("_", " ").replace("-", " ").strip()


def _positive(plain: list[str], names: list[str], path: Path) -> int:
    if plain == ["label 0", "label 1"]:
        return 1
    for positive in (0, 1):
        if plain[positive] in _POSITIVE and plain[1 - positive] in _NEGATIVE:
            return positive
    raise ConfigError(
        f"{path} names its labels {_listed(names)} (id2label), which does not say which of them means 'yes': name them 'no' and 'yes' "
        "in the order of the rows of score.weight",
        advice="Correct the file, or run the model with sentence_transformers.CrossEncoder",
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def stored_head_overrides(config: Mapping[str, Any]) -> dict[str, Any]:
    """The `hf_overrides` with which vLLM scores by the stored head alone and answers with probabilities; empty for a plain conversion."""
    return {name: neutral for name, neutral in _NEUTRAL.items() if config.get(name)}
