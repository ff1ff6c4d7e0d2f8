"""Laying prompts end to end: no padding, and a head that several prompts share only once. Pure numpy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from qwen3_integrations.jobs import Ids, Prompt


@dataclass(frozen=True, slots=True, eq=False)
class Pack:
    """Several sequences as one, with what attention must know to keep them apart.

    A sequence is a whole prompt, a shared head, or what follows one (a tail).

    Attributes:
        ids: Token ids, shape (tokens,).
        positions: Position of each token in its own prompt, shape (tokens,): a tail's begin behind its head.
        bounds: Where sequences begin and end, shape (sequences + 1,).
        owners: For each sequence the number of the sequence that holds its head, or -1, shape (sequences,).
        last: Index into `ids` of each prompt's last token, shape (prompts,), in the order the prompts were given.
    """

    ids: Ids
    positions: NDArray[np.int64]
    bounds: NDArray[np.int64]
    owners: NDArray[np.int64]
    last: NDArray[np.int64]

    @property
    def spans(self) -> list[tuple[int, int, int]]:
        """Each sequence as (begin, end, owner)."""
        return [(int(a), int(b), int(owner)) for (a, b), owner in zip(pairwise(self.bounds), self.owners, strict=True)]


def pack(prompts: Sequence[Prompt]) -> Pack:
    """Lay prompts end to end. A head object that two or more of them share is laid once, before them.

    Args:
        prompts: With token ids; at least one.
    """
    sharers: dict[int, list[int]] = {}
    for number, prompt in enumerate(prompts):
        sharers.setdefault(id(prompt.head), []).append(number)
    sequences: list[tuple[Ids, int, int]] = []  # ids, first position, owner
    at = [0] * len(prompts)  # which sequence ends with which prompt's last token
    for numbers in sharers.values():
        head = _known(prompts[numbers[0]].head.ids)
        shared = len(numbers) > 1 and len(head) > 0
        owner = len(sequences) if shared else -1
        if shared:
            sequences.append((head, 0, -1))
        for number in numbers:
            prompt = prompts[number]
            at[number] = len(sequences)
            rest = [_known(prompt.body.ids), _known(prompt.tail.ids)]
            sequences.append((np.concatenate(rest if shared else [head, *rest]), len(head) if shared else 0, owner))
    lengths = [len(ids) for ids, _, _ in sequences]
    bounds = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Pack(
        ids=np.concatenate([ids for ids, _, _ in sequences]),
        positions=np.concatenate([np.arange(first, first + len(ids)) for ids, first, _ in sequences]),
        bounds=bounds,
        owners=np.asarray([owner for _, _, owner in sequences]),
        last=bounds[1:][at] - 1,
    )


def fill(prompts: Sequence[Prompt], budget: int) -> int:
    """How many of the first prompts fit a pack of at most `budget` tokens; at least one.

    A head that prompts share counts once.
    """
    heads: set[int] = set()
    tokens = 0
    for number, prompt in enumerate(prompts):
        tokens += own_tokens(prompt) + (0 if id(prompt.head) in heads else len(_known(prompt.head.ids)))
        heads.add(id(prompt.head))
        if number and tokens > budget:
            return number
    return len(prompts)


def own_tokens(prompt: Prompt) -> int:
    """Tokens of a prompt without its head."""
    return len(_known(prompt.body.ids)) + len(_known(prompt.tail.ids))


def _known(ids: Ids | None) -> Ids:
    assert ids is not None  # engines that pack have a tokenizer, so every planned prompt has ids
    return ids
