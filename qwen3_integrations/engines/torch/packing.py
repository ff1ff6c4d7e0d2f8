"""Laying prompts end to end: no padding, and a head that several prompts share only once. Pure numpy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from qwen3_integrations.core.types import Ids, Prompt


@dataclass(frozen=True, slots=True, eq=False)
class Pack:
    """Several sequences as one, with what attention must know to keep them apart.

    A sequence is a head that several prompts share, a whole prompt, or what follows a shared head (a tail). They lie in this order,
    the tails in that of their heads: so what attention reads and writes at once always lies together.

    Attributes:
        ids: Token ids, shape (tokens,).
        positions: Position of each token in its own prompt, shape (tokens,): a tail's begin behind its head.
        bounds: Where sequences begin and end, shape (sequences + 1,).
        heads: How many of the sequences are shared heads: the first ones.
        owners: For each tail, the last sequences, the number of its head, ascending, shape (tails,).
        rows: For each given prompt the number of its sequence, shared heads not counted, shape (prompts,).
    """

    ids: Ids
    positions: NDArray[np.int32]
    bounds: NDArray[np.int32]
    heads: int
    owners: NDArray[np.int32]
    rows: NDArray[np.int64]

    @property
    def last(self) -> NDArray[np.int64]:
        """Where each prompt's last token lies, shape (prompts,), in the order of the sequences."""
        return self.bounds[self.heads + 1 :].astype(np.int64) - 1

    @property
    def wholes(self) -> int:
        """How many of the sequences are whole prompts."""
        return len(self.bounds) - 1 - self.heads - len(self.owners)

    @property
    def spans(self) -> list[tuple[int, int, int]]:
        """Each sequence as (begin, end, number of its head's sequence or -1)."""
        alone = [-1] * (self.heads + self.wholes)
        return [(int(a), int(b), int(owner)) for (a, b), owner in zip(pairwise(self.bounds), [*alone, *self.owners], strict=True)]


def pack(prompts: Sequence[Prompt], *, share: bool = True) -> Pack:
    """Lay prompts end to end.

    Args:
        prompts: With token ids; at least one.
        share: Lay a head object that two or more prompts have in common only once, before them.
    """
    sharers: dict[int, list[int]] = {}
    for number, prompt in enumerate(prompts):
        sharers.setdefault(id(prompt.prefix) if share and len(_known(prompt.prefix.ids)) else -1 - number, []).append(number)
    groups = [numbers for numbers in sharers.values() if len(numbers) > 1]
    wholes = [numbers[0] for numbers in sharers.values() if len(numbers) == 1]
    heads = [_known(prompts[numbers[0]].prefix.ids) for numbers in groups]
    pieces: list[tuple[Ids, ...]] = [(head,) for head in heads]
    pieces += [(_known(prompts[number].prefix.ids), *_own(prompts[number])) for number in wholes]
    pieces += [_own(prompts[number]) for numbers in groups for number in numbers]
    sizes = [len(numbers) for numbers in groups]
    firsts = np.repeat([0, *map(len, heads)], [len(heads) + len(wholes), *sizes])  # a sequence's first position
    lengths = np.asarray([sum(map(len, piece)) for piece in pieces], np.int32)
    bounds = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    rows = np.empty(len(prompts), np.int64)
    rows[[*wholes, *(number for numbers in groups for number in numbers)]] = np.arange(len(prompts))
    return Pack(
        ids=np.concatenate([ids for piece in pieces for ids in piece]),
        positions=(np.arange(bounds[-1]) + np.repeat(firsts - bounds[:-1], lengths)).astype(np.int32),
        bounds=bounds,
        heads=len(heads),
        owners=np.repeat(np.arange(len(heads), dtype=np.int32), sizes),
        rows=rows,
    )


def fill(prompts: Sequence[Prompt], budget: int) -> int:
    """How many of the first prompts fit a pack of at most `budget` tokens; at least one.

    A head that prompts share counts once.
    """
    heads: set[int] = set()
    tokens = 0
    for number, prompt in enumerate(prompts):
        tokens += own_tokens(prompt) + (0 if id(prompt.prefix) in heads else len(_known(prompt.prefix.ids)))
        heads.add(id(prompt.prefix))
        if number and tokens > budget:
            return number
    return len(prompts)


def own_tokens(prompt: Prompt) -> int:
    """Tokens of a prompt without its head."""
    return sum(map(len, _own(prompt)))


def _own(prompt: Prompt) -> tuple[Ids, Ids]:
    return _known(prompt.body.ids), _known(prompt.suffix.ids)


def _known(ids: Ids | None) -> Ids:
    assert ids is not None  # engines that pack have a tokenizer, so every planned prompt has ids
    return ids
