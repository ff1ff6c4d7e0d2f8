"""Packing prompts end to end: no padding, and a prefix that several prompts share is stored once. Pure numpy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from qwen3_integrations.core.types import Ids, Prompt


@dataclass(frozen=True, slots=True, eq=False)
class PackedBatch:
    """Several sequences in one array, with the boundaries that attention needs.

    A sequence is a shared prefix, a whole prompt, or a suffix: the tokens of a prompt after its shared prefix (its body and suffix part).
    The order is: shared prefixes, whole prompts, suffixes. Suffixes have the order of their prefixes. So the tokens that one attention
    call reads or writes are always contiguous.

    Attributes:
        ids: Token ids, shape (tokens,).
        positions: Position of each token in its own prompt, shape (tokens,). The positions of a suffix continue those of its prefix.
        cu_seqlens: Cumulative sequence lengths, from 0, shape (sequences + 1,).
        prefixes: Number of shared prefixes.
        prefix_of: For each suffix, the index of its prefix, ascending, shape (suffixes,).
        rows: For each given prompt, the index of its sequence, shared prefixes not counted, shape (prompts,).
    """

    ids: Ids
    positions: NDArray[np.int32]
    cu_seqlens: NDArray[np.int32]
    prefixes: int
    prefix_of: NDArray[np.int32]
    rows: NDArray[np.int64]

    @property
    def last(self) -> NDArray[np.int64]:
        """Index of each prompt's last token, shape (prompts,), in the order of the sequences."""
        return self.cu_seqlens[self.prefixes + 1 :].astype(np.int64) - 1

    @property
    def whole_prompts(self) -> int:
        """Number of sequences that are whole prompts."""
        return len(self.cu_seqlens) - 1 - self.prefixes - len(self.prefix_of)

    @property
    def spans(self) -> list[tuple[int, int, int]]:
        """Each sequence as (begin, end, index of its prefix or -1)."""
        no_prefix = [-1] * (self.prefixes + self.whole_prompts)
        return [
            (int(a), int(b), int(prefix)) for (a, b), prefix in zip(pairwise(self.cu_seqlens), [*no_prefix, *self.prefix_of], strict=True)
        ]


def pack(prompts: Sequence[Prompt], *, share: bool = True) -> PackedBatch:
    """Pack prompts end to end.

    Args:
        prompts: With token ids; at least one.
        share: Store a prefix object that two or more prompts have in common only once, before them.
    """
    sharers: dict[int, list[int]] = {}
    for number, prompt in enumerate(prompts):
        sharers.setdefault(id(prompt.prefix) if share and len(_known(prompt.prefix.ids)) else -1 - number, []).append(number)
    groups = [numbers for numbers in sharers.values() if len(numbers) > 1]
    wholes = [numbers[0] for numbers in sharers.values() if len(numbers) == 1]
    prefixes = [_known(prompts[numbers[0]].prefix.ids) for numbers in groups]
    pieces: list[tuple[Ids, ...]] = [(prefix,) for prefix in prefixes]
    pieces += [(_known(prompts[number].prefix.ids), *_suffix(prompts[number])) for number in wholes]
    pieces += [_suffix(prompts[number]) for numbers in groups for number in numbers]
    group_sizes = [len(numbers) for numbers in groups]
    first_positions = np.repeat([0, *map(len, prefixes)], [len(prefixes) + len(wholes), *group_sizes])
    lengths = np.asarray([sum(map(len, piece)) for piece in pieces], np.int32)
    cu_seqlens = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    rows = np.empty(len(prompts), np.int64)
    rows[[*wholes, *(number for numbers in groups for number in numbers)]] = np.arange(len(prompts))
    return PackedBatch(
        ids=np.concatenate([ids for piece in pieces for ids in piece]),
        positions=(np.arange(cu_seqlens[-1]) + np.repeat(first_positions - cu_seqlens[:-1], lengths)).astype(np.int32),
        cu_seqlens=cu_seqlens,
        prefixes=len(prefixes),
        prefix_of=np.repeat(np.arange(len(prefixes), dtype=np.int32), group_sizes),
        rows=rows,
    )


def count_fitting(prompts: Sequence[Prompt], budget: int) -> int:
    """Number of prompts, from the first on, that fit a batch of at most `budget` tokens; at least one.

    A shared prefix counts once.
    """
    prefixes: set[int] = set()
    tokens = 0
    for number, prompt in enumerate(prompts):
        tokens += suffix_tokens(prompt) + (0 if id(prompt.prefix) in prefixes else len(_known(prompt.prefix.ids)))
        prefixes.add(id(prompt.prefix))
        if number and tokens > budget:
            return number
    return len(prompts)


def suffix_tokens(prompt: Prompt) -> int:
    """Number of tokens of a prompt without its prefix."""
    return sum(map(len, _suffix(prompt)))


def _suffix(prompt: Prompt) -> tuple[Ids, Ids]:
    return _known(prompt.body.ids), _known(prompt.suffix.ids)


def _known(ids: Ids | None) -> Ids:
    assert ids is not None  # engines that pack have a tokenizer, so every planned prompt has ids
    return ids
