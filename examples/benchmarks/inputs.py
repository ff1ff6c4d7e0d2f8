"""Input texts: prose of Python's documentation, cut to lengths in tokens. All texts are different."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import tokenizers

SPREAD = 0.2
"""Standard deviation of the lengths, divided by their mean."""

SALT_TOKENS = 5
"""Tokens of the number before each text (four digits, one token each in Qwen3's tokenizer) and of the end token after it."""


@dataclass(frozen=True)
class Texts:
    """Texts to embed."""

    items: tuple[str, ...]
    salt: int = 0

    def __len__(self) -> int:
        return len(self.items)

    @property
    def texts(self) -> list[str]:
        """The texts to embed, each with the salt before it."""
        return [salted(text, self.salt) for text in self.items]

    def salted(self, salt: int) -> Texts:
        """The same texts with another number before them, so that no prefix cache can contain them."""
        return replace(self, salt=salt)

    def part(self, count: int) -> Texts:
        """The first `count` texts."""
        return replace(self, items=self.items[:count])


@dataclass(frozen=True)
class Searches:
    """Queries with the documents to rank for each; an item is a pair."""

    items: tuple[tuple[str, tuple[str, ...]], ...]
    instruction: str
    salt: int = 0

    def __len__(self) -> int:
        return sum(len(documents) for _, documents in self.items)

    @property
    def searches(self) -> list[tuple[str, list[str]]]:
        """Each query, with the salt before it, and its documents."""
        return [(salted(query, self.salt), list(documents)) for query, documents in self.items]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """All pairs, query by query."""
        return [(query, document) for query, documents in self.searches for document in documents]

    def salted(self, salt: int) -> Searches:
        """The same searches, with another number before the queries."""
        return replace(self, salt=salt)

    def part(self, count: int) -> Searches:
        """The first `count` pairs."""
        kept, left = [], count
        for query, documents in self.items:
            if left > 0:
                kept.append((query, documents[:left]))
            left -= len(documents)
        return replace(self, items=tuple(kept))


def salted(text: str, salt: int) -> str:
    """A text with a number of four digits before it."""
    return f"{salt % 10_000:04d} {text}"


class Prose:
    """Texts of given lengths, in tokens of a tokenizer.

    Args:
        tokenizer: A `tokenizer.json`.
    """

    def __init__(self, tokenizer: Path) -> None:
        self._words = " ".join(topics.values()).split()
        counted = tokenizers.Tokenizer.from_file(str(tokenizer)).encode_batch([f" {w}" for w in self._words], add_special_tokens=False)
        self._ends = np.concatenate([[0], np.cumsum([len(each.ids) for each in counted])])

    def text(self, chance: random.Random, tokens: int) -> str:
        """A passage of at most about `tokens` tokens, but at least one word. For longer texts, the documentation is repeated."""
        whole, rest = divmod(max(1, tokens), int(self._ends[-1]))
        last = int(np.searchsorted(self._ends, self._ends[-1] - rest))
        begin = chance.randrange(max(1, last))
        end = int(np.searchsorted(self._ends, self._ends[begin] + rest, side="right")) - 1
        return " ".join(self._words * whole + self._words[begin : max(end, begin + 1)])

    def texts(self, count: int, tokens: int, seed: int = 0, spread: float = SPREAD) -> Texts:
        """Texts of about `tokens` tokens with salt; the lengths are normally distributed."""
        chance = random.Random(seed)
        lengths = (max(1, round(chance.gauss(tokens, spread * tokens)) - SALT_TOKENS) for _ in range(count))
        return Texts(tuple(self.text(chance, length) for length in lengths))

    def searches(
        self, queries: int, documents: int, *, instruction: str, query_tokens: int = 16, document_tokens: int = 127, seed: int = 0
    ) -> Searches:
        """Queries of about `query_tokens` tokens, salt included, each with `documents` documents."""
        chance = random.Random(seed)
        texts = [self.text(chance, max(1, query_tokens - SALT_TOKENS)) for _ in range(queries)]
        found = self.texts(queries * documents, document_tokens + SALT_TOKENS, seed + 1).items
        return Searches(tuple((query, found[n * documents : (n + 1) * documents]) for n, query in enumerate(texts)), instruction)


def corpus(file: Path, count: int) -> Texts:
    """The first texts of a JSON-lines file: its field `text`, after the field `title` if there is one."""
    with file.open(encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    texts = [" ".join(filter(None, [record.get("title"), record["text"]])) for record in records if record["text"].strip()]
    return Texts(tuple(texts[:count]))


def lengths(tokenizer: Path, texts: Sequence[str]) -> list[int]:
    """Tokens of each text, end token included where the tokenizer adds one."""
    return [len(each.ids) for each in tokenizers.Tokenizer.from_file(str(tokenizer)).encode_batch(list(texts))]
