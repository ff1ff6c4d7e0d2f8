"""Texts many times the budget: which beginning of a text has the same first tokens as the whole. Pure functions.

A tokenizer of Qwen3's kind normalises a text, splits it into words from left to right, and merges the bytes of each word on its own. So a
token depends on its own word and on a few characters around that word. In a word of many thousand characters, a token depends on the
characters near it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

AROUND_WORD = 512
"""Characters after a word on which its limits may depend: the lookahead of the pattern, and a token that was added to the vocabulary."""

LONG_WORD = 4096
"""Characters of the shortest word whose tokens are taken before the word has ended. Half of them are kept as a distance to the cut."""

_SEARCH = 1024
"""Characters in which a place for a cut is searched."""

_JAMO = range(0x1160, 0x1200)
"""Vowels and final consonants of Hangul, which are joined with the character before them. Source: UAX 15."""

_LOCAL_NORMALIZERS = {"NFC", "NFKC", "NFD", "NFKD", "Lowercase"}


def first_cut(room: int) -> int:
    """Characters of the first beginning that is tried for so many tokens: a token of ordinary text has one to five."""
    return 8 * room + 2 * LONG_WORD


def is_local(content: Mapping[str, Any]) -> bool:
    """Whether the tokens of a tokenizer depend on nearby characters only: a byte-level BPE whose normalizers and splits are known."""
    model, normalizer, splits = content["model"], content.get("normalizer"), content.get("pre_tokenizer")
    normalizers = normalizer["normalizers"] if normalizer and normalizer["type"] == "Sequence" else [normalizer] if normalizer else []
    steps = splits["pretokenizers"] if splits and splits["type"] == "Sequence" else [splits] if splits else []
    return (
        model.get("type") == "BPE"
        and not model.get("dropout")
        and bool(steps)
        and all(step["type"] in ("Split", "ByteLevel", "Digits") for step in steps)
        and all(step["type"] in _LOCAL_NORMALIZERS for step in normalizers)
        and all(len(token["content"]) < AROUND_WORD for token in content.get("added_tokens", ()))
    )


def place_to_cut(text: str, near: int) -> int | None:
    """The first position from `near` on whose character is never joined with the one before it; None if there is none nearby."""
    return next((at for at in range(near, min(near + _SEARCH, len(text))) if _stands_alone(text[at])), None)


def _stands_alone(character: str) -> bool:
    return ord(character) not in _JAMO and not unicodedata.category(character).startswith("M") and not unicodedata.combining(character)


def settled(encoding: Any, length: int) -> int:
    """How many tokens of a beginning are those of every text that begins with it.

    Args:
        encoding: The encoding of the beginning, with offsets and words.
        length: Characters of the beginning.
    """
    words, offsets = encoding.word_ids, encoding.offsets
    if not words:
        return 0
    last = next(at for at in range(len(words) - 1, -2, -1) if at < 0 or words[at] != words[-1]) + 1
    if offsets[last][0] <= length - LONG_WORD:  # the last word is a long one
        end = len(words)
        while end > last and offsets[end - 1][1] > length - LONG_WORD // 2:
            end -= 1
        return end
    end = last
    while end and offsets[end - 1][1] > length - AROUND_WORD:
        end -= 1
    while end and words[end] == words[end - 1]:  # whole words only
        end -= 1
    return end
