"""Planned slices: how items become prompts, run on an engine, and become rows."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Generic, TypeVar

import numpy as np

from qwen3_integrations.core.engine import Engine
from qwen3_integrations.core.results import Usage
from qwen3_integrations.core.types import Job, Prompt, Reply, Rows, Task
from qwen3_integrations.errors import EngineError, Partial, Qwen3Error

T = TypeVar("T")

ONE_BY_ONE = 8
"""Items of a failed slice that run at the same time: as many as `HttpEngine` sends requests at once."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """The prompts of some items.

    Attributes:
        prompts: All prompts, those of one item next to each other, in the order of the items.
        counts: Number of prompts of each item; None if each item has one.
        replaced: Positions of the items in which lone surrogates were replaced.
        preprocessed: Positions of the items that the caller's `preprocess` changed.
    """

    prompts: tuple[Prompt, ...]
    counts: tuple[int, ...] | None = None
    replaced: frozenset[int] = frozenset()
    preprocessed: frozenset[int] = frozenset()

    def item_of(self, prompt: int) -> int:
        """The position of the item that a prompt belongs to."""
        return prompt if self.counts is None else bisect_right(list(accumulate(self.counts)), prompt)


def one_prompt(item: object) -> int:  # noqa: ARG001
    """An item has one prompt."""
    return 1


@dataclass(frozen=True, slots=True, eq=False)
class Work(Generic[T]):
    """How items become prompts, and how an engine's rows become results.

    Attributes:
        task: `embed` or `rerank`.
        max_tokens: Budget of a prompt, in tokens.
        plan: Makes the prompts of a slice's items. It is called for one slice after another, in order, from any thread.
        finish: Makes checked rows from an engine's rows, their plan, and the position of the slice's first item.
        characters: Estimated number of characters of an item's prompts.
        prompts: Estimated number of prompts of an item.
        blocks: Whether `plan` may take long even for few items: then it never runs in the event loop's thread.
    """

    task: Task
    max_tokens: int
    plan: Callable[[Sequence[T]], Plan]
    finish: Callable[[Rows, Plan, int], Rows]
    characters: Callable[[T], int]
    prompts: Callable[[T], int] = one_prompt
    blocks: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Slice(Generic[T]):
    """A finished slice of a call.

    Attributes:
        items: The items, in their order.
        begin: The position of the first item in the whole call.
        rows: The result of `Work.finish`.
        usage: Prompts, tokens and cut prompts of this slice.
        truncated: Positions in the whole call of the items with a cut prompt. The plan or the engine may cut it.
        replaced: Positions in the whole call of the items in which lone surrogates were replaced.
        preprocessed: Positions in the whole call of the items that the caller's `preprocess` changed.
        max_tokens: The budget that was used, if it is less than `Work.max_tokens` (a server's own limit); else None.
        planned_at: Time at which the planning ended, by `time.perf_counter`.
        failed: The errors of the items that were left out, by their positions in the whole call. `rows` has no rows for them.
    """

    items: Sequence[T]
    begin: int
    rows: Rows
    usage: Usage
    truncated: frozenset[int]
    replaced: frozenset[int]
    preprocessed: frozenset[int]
    max_tokens: int | None
    planned_at: float
    failed: Mapping[int, Qwen3Error] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Planned(Generic[T]):
    """A slice whose prompts are planned."""

    work: Work[T]
    items: Sequence[T]
    begin: int
    plan: Plan
    job: Job
    planned_at: float

    @property
    def is_whole(self) -> bool:
        """Whether this slice is the whole call."""
        return self.job.call is None

    def single(self, item: int) -> Planned[T]:
        """The slice of one item, by its position in this slice."""
        counts = self.plan.counts
        first, count = (item, 1) if counts is None else (sum(counts[:item]), counts[item])
        plan = Plan(
            self.plan.prompts[first : first + count],
            None if counts is None else (count,),
            frozenset({0} if item in self.plan.replaced else ()),
            frozenset({0} if item in self.plan.preprocessed else ()),
        )
        job = replace(self.job, prompts=plan.prompts)
        return Planned(self.work, self.items[item : item + 1], self.begin + item, plan, job, self.planned_at)

    def finished(self, rows: Rows, reply: Reply | None = None) -> Slice[T]:
        """The slice with its finished rows; without the reply that they are from, for the rows in an error."""
        cut = {position for position, prompt in enumerate(self.job.prompts) if prompt.truncated} | (reply.truncated if reply else set())
        tokens = reply.total_tokens if reply else sum(prompt.tokens or 0 for prompt in self.job.prompts)
        return Slice(
            items=self.items,
            begin=self.begin,
            rows=rows,
            usage=Usage(len(self.job.prompts), tokens, len(cut), len(self.plan.replaced), len(self.plan.preprocessed)),
            truncated=frozenset(map(self._position_of, cut)),
            replaced=frozenset(self.begin + item for item in self.plan.replaced),
            preprocessed=frozenset(self.begin + item for item in self.plan.preprocessed),
            max_tokens=reply.max_tokens if reply else None,
            planned_at=self.planned_at,
        )

    def run(self, engine: Engine) -> Slice[T]:
        """Run and finish the slice."""
        try:
            reply = engine.run(self.job)
        except Qwen3Error as error:
            raise self._of_call(error) from error.__cause__
        return self._finished(reply, engine)

    async def arun(self, engine: Engine) -> Slice[T]:
        """As `run`, without blocking the event loop."""
        try:
            reply = await engine.arun(self.job)
        except Qwen3Error as error:
            raise self._of_call(error) from error.__cause__
        return self._finished(reply, engine)

    def _of_call(self, error: Qwen3Error) -> Qwen3Error:
        """The error of this slice as the error of the whole call. Of items with several prompts no part is kept."""
        moved = error_of_call(error, self._position_of)
        if not isinstance(moved, EngineError) or moved.partial is None:
            return moved
        partial, rows = moved.partial, None
        if self.plan.counts is None:
            with suppress(Qwen3Error):  # the first failure is the one to report
                rows = self.work.finish(partial.rows, Plan(tuple(self.plan.prompts[at] for at in partial.which)), self.begin)
        return moved.replace(partial=None if rows is None else Partial(rows, tuple(self.begin + at for at in partial.which)))

    def _position_of(self, prompt: int) -> int:
        """The position in the whole call of the item that a prompt belongs to."""
        return self.begin + self.plan.item_of(prompt)

    def _finished(self, reply: Reply, engine: Engine) -> Slice[T]:
        try:
            rows = self.work.finish(reply.rows, self.plan, self.begin)
        except EngineError as error:
            where = getattr(engine, "where", None)
            url = where if isinstance(where, str) and "://" in where else None
            raise error.replace(model=error.model or engine.model, url=error.url or url) from error.__cause__
        return self.finished(rows, reply)


@dataclass(frozen=True, slots=True, eq=False)
class Skipping(Generic[T]):
    """A slice without its bad items. If an item makes the slice fail, those without a row run one by one.

    Attributes:
        items: The items, in their order.
        begin: The position of the first item in the whole call.
        whole: The planned slice; None if an item can't be planned.
        singles: The slice of each item alone, or the error of its planning.
    """

    items: Sequence[T]
    begin: int
    whole: Planned[T] | None
    singles: Callable[[], Sequence[Planned[T] | Qwen3Error]]

    @property
    def is_whole(self) -> bool:
        """Whether this slice is the whole call."""
        return self.whole is not None and self.whole.is_whole

    def run(self, engine: Engine) -> Slice[T]:
        """Run and finish the slice."""
        failure = None
        try:
            if self.whole:
                return self.whole.run(engine)
        except Qwen3Error as error:
            failure = _of_item(error)
        outcomes = self._known(failure)
        for at, single in self._others(outcomes).items():
            try:
                outcomes[at] = single.run(engine)
            except Qwen3Error as error:
                outcomes[at] = _of_item(error)
        return self._joined(outcomes)

    async def arun(self, engine: Engine) -> Slice[T]:
        """As `run`, without blocking the event loop."""
        failure = None
        try:
            if self.whole:
                return await self.whole.arun(engine)
        except Qwen3Error as error:
            failure = _of_item(error)
        outcomes, places = self._known(failure), asyncio.Semaphore(ONE_BY_ONE)

        async def one(at: int, single: Planned[T]) -> None:
            async with places:
                try:
                    outcomes[at] = await single.arun(engine)
                except Qwen3Error as error:
                    outcomes[at] = _of_item(error)

        tasks = [asyncio.ensure_future(one(at, single)) for at, single in self._others(outcomes).items()]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        return self._joined(outcomes)

    def _known(self, failure: Qwen3Error | None) -> dict[int, Slice[T] | Qwen3Error]:
        """What is known about the items by the failure of the slice: its item is bad, and others have their rows."""
        known: dict[int, Slice[T] | Qwen3Error] = {}
        if failure is None or failure.index is None or self.whole is None:
            return known
        known[failure.index] = failure
        partial = failure.partial if isinstance(failure, EngineError) else None
        for at, row in zip(partial.which, partial.rows, strict=True) if partial else ():
            known[at] = self.whole.single(at - self.begin).finished(row[None])
        return known

    def _others(self, known: Mapping[int, object]) -> dict[int, Planned[T]]:
        """The items to run, by their positions. Adds the errors of the planning to what is known."""
        singles = enumerate(self.singles(), self.begin)
        return {at: single for at, single in singles if isinstance(single, Planned) and at not in known}

    def _joined(self, outcomes: Mapping[int, Slice[T] | Qwen3Error]) -> Slice[T]:
        failed = {at: single for at, single in enumerate(self.singles(), self.begin) if isinstance(single, Qwen3Error)}
        parts: list[Slice[T]] = []
        for at, outcome in sorted(outcomes.items()):
            if isinstance(outcome, Slice):
                parts.append(outcome)
            else:
                failed[at] = outcome
        return Slice(
            items=self.items,
            begin=self.begin,
            rows=np.concatenate([part.rows for part in parts]) if parts else np.empty(0, dtype=np.float32),
            usage=sum((part.usage for part in parts), Usage()),
            truncated=frozenset().union(*(part.truncated for part in parts)),
            replaced=frozenset().union(*(part.replaced for part in parts)),
            preprocessed=frozenset().union(*(part.preprocessed for part in parts)),
            max_tokens=next((part.max_tokens for part in parts if part.max_tokens), None),
            planned_at=self.whole.planned_at if self.whole else time.perf_counter(),
            failed=failed,
        )


def _of_item(error: Qwen3Error) -> Qwen3Error:
    """The error, if it is about one item; raises it otherwise."""
    if error.index is None:
        raise error
    return error


def error_of_call(error: Qwen3Error, position: Callable[[int], int]) -> Qwen3Error:
    """The error of a slice as the error of the whole call."""
    return error if error.index is None else error.replace(index=position(error.index))
