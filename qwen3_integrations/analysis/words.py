"""Names of groups of texts, made of the words that are typical of each group."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, normalizers, pre_tokenizers

MOST_READ = 1000
"""Characters of a text that are read."""

MOST_TEXTS = 5000
"""Number of texts that are read in a larger corpus, evenly spaced."""

LEAST_LIFT = 2.0
"""A typical word is in this many times more texts of its group, in proportion, than of the other groups."""

MOST_OUTSIDE = 0.15
"""A typical word is in no larger share of the other groups' texts. Words such as `the` are, in any language."""

_UNSPACED = re.compile(
    "([\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]+)"
)
"""Runs of kana, Han and Hangul: scripts without blanks between words, or with endings joined to them."""


def words_of(text: str) -> list[str]:
    """The words of a text, in order, in lower case: runs of letters of any script.

    Chinese, Japanese and Korean texts give every two neighbouring characters, as search engines do; other runs of one character, and
    numbers, are left out.

    Source: Unicode's letters and marks; the two characters are those of Lucene's `CJKBigramFilter`.
    """
    found: list[str] = []
    normal, runs = _splitter()
    for run, _ in runs.pre_tokenize_str(normal.normalize_str(text)):
        for part in _UNSPACED.split(run):
            if _UNSPACED.match(part):
                found += [first + second for first, second in pairwise(part)]
            elif len(part) > 1:
                found.append(part)
    return found


def group_names(texts: Sequence[str], of: NDArray[np.intp], most: int = 3) -> tuple[str, ...]:
    """Names of groups of texts: up to `most` words each, the most typical first.

    A word's weight is the number of texts of the group that have it, times `log(1 + A / f)`: `f` is the number of all texts that have it,
    `A` the mean number of words of a group. Only the beginning of a text counts, and 5,000 texts of a larger corpus.

    Args:
        texts: The texts.
        of: The group of each text, from 0; -1 for none.
        most: Largest number of words in a name.

    Returns:
        A name for each group, in order, all different. A group without typical words is named by its number, counted from 1.

    Source: class-based TF-IDF, Grootendorst, "BERTopic" (2022), equation 2, here over texts instead of occurrences, so that a long text
    has one vote.
    """
    count = int(of.max(initial=-1)) + 1
    words: list[Counter[str]] = [Counter() for _ in range(count)]
    sizes = [0] * count
    inside = np.flatnonzero(of >= 0)
    for index in inside[:: max(1, -(-len(inside) // MOST_TEXTS))].tolist():
        group = int(of[index])
        sizes[group] += 1
        words[group].update(set(words_of(texts[index][:MOST_READ])))
    everywhere = sum(words, Counter[str]())
    mean = everywhere.total() / max(count, 1)
    names: list[str] = []
    for group, own in enumerate(words):
        outside = sum(sizes) - sizes[group]
        weights = {
            word: times * np.log1p(mean / everywhere[word])
            for word, times in own.items()
            if everywhere[word] - times <= outside * min(MOST_OUTSIDE, times / sizes[group] / LEAST_LIFT)
        }
        shared = {word: weight for word, weight in weights.items() if own[word] > 1}
        best = sorted((shared or weights).items(), key=lambda item: (-item[1], item[0]))
        name = ", ".join(_different([word for word, _ in best[: 8 * most]], most)) or f"cluster {group + 1}"
        names.append(name if name not in names else f"{name} ({group + 1})")
    return tuple(names)


def _different(words: Sequence[str], most: int) -> list[str]:
    """The first words that say something new: no other form of an earlier word, and no pair of characters that overlaps an earlier pair."""
    chosen: list[str] = []
    for word in words:
        if len(chosen) < most and not any(_alike(word, other) for other in chosen):
            chosen.append(word)
    return chosen


def _alike(left: str, right: str) -> bool:
    if _UNSPACED.match(left) and _UNSPACED.match(right):
        return left[1] == right[0] or right[1] == left[0]
    short, long = sorted((left, right), key=len)
    return len(short) > 2 and long.startswith(short[:-1] if short[-1] in "ey" else short) and len(long) - len(short) <= 3


@cache
def _splitter() -> tuple[normalizers.Normalizer, pre_tokenizers.PreTokenizer]:
    """`re` has no class for letters with their marks, which scripts of India need; the tokenizers' engine has."""
    runs = pre_tokenizers.Split(Regex(r"\p{L}[\p{L}\p{M}]*"), "removed", invert=True)
    return normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()]), runs
