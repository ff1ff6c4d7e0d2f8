"""Slices: a call of many items is planned and run in slices of bounded size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

SLICE = 256
"""Prompts in a slice, at most. Planning 256 prompts of 128 tokens takes 15 ms on two CPU cores."""

FIRST = 32
"""Prompts in the first slice of a call of several slices. Each slice is twice as large as the one before it, up to `SLICE`, so that the
engine starts early. Source: `examples/benchmarks/run.py embed` on an H200 with 16 cores, first slices of 32 against 256, medians of five:
the engine starts after 7 ms instead of 20 ms; 1,024 texts of 512 tokens take 894 ms instead of 910 ms, 4,096 of 128 tokens as long."""

SLICE_CHARACTERS = 1 << 20
"""Characters in a slice, at most, unless a single item has more. It bounds the time and the memory to plan a slice of long documents."""


@dataclass(frozen=True, slots=True)
class SliceSize:
    """The size of slices.

    Attributes:
        most: Prompts in a slice, at most, unless a single item has more.
        first: Prompts in the first slice of a call of several slices; the size doubles from slice to slice, up to `most`.
        characters: Characters in a slice, at most, unless a single item has more.
    """

    most: int = SLICE
    first: int = FIRST
    characters: int = SLICE_CHARACTERS


DEFAULT_SIZE = SliceSize()


def slices(
    items: Iterable[T], prompts: Callable[[T], int], characters: Callable[[T], int], size: SliceSize, total: int | None = None
) -> Iterator[list[T]]:
    """Cut items into slices, in order.

    A slice is yielded as soon as it is full. If `items` raises an error, the items before it are yielded first.

    Args:
        items: Any iterable; it is read no further than the slice that is asked for, and one item beyond it at most.
        prompts: Prompts of an item, estimated.
        characters: Characters of an item, estimated.
        size: Bounds of a slice.
        total: The number of items, where it is known: if one slice can hold them, there are no small first slices.

    Yields:
        Lists of items; one empty list if `total` is 0.
    """
    if total == 0:
        yield []
        return
    most = size.most if total is not None and total <= size.most else min(size.first, size.most)
    batch: list[T] = []
    prompts_left, characters_left = most, size.characters
    try:
        for item in items:
            needed, length = prompts(item), characters(item)
            if batch and (needed > prompts_left or length > characters_left):
                yield batch
                most = min(2 * most, size.most)
                batch, prompts_left, characters_left = [], most, size.characters
            batch.append(item)
            prompts_left, characters_left = prompts_left - needed, characters_left - length
            if prompts_left <= 0:
                yield batch
                most = min(2 * most, size.most)
                batch, prompts_left, characters_left = [], most, size.characters
    except Exception:
        if batch:
            yield batch
        raise
    if batch:
        yield batch
