"""Requests that wait to be sent, the batches that they are sent in, and the order in which jobs take turns."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from qwen3_integrations.core.types import Prompt, Rows
from qwen3_integrations.engines.http.dialects import Answer
from qwen3_integrations.errors import BadReply, EngineError, Partial, own_copy

REQUEST_CHARACTERS = 1 << 20
"""Characters in one request: far below the limits of servers and proxies, and enough text to fill a forward pass."""

_JOBS_SEARCHED = 256
"""Jobs that are searched for one request; a limit on the time of the search."""


@dataclass(slots=True, eq=False)
class PendingRequest:
    """The prompts of one caller and the future that the caller awaits; several batches may answer them."""

    kind: object
    job: object
    prompts: Sequence[Prompt]
    answer: asyncio.Future[Answer]
    weight: int = 0  # characters
    parts: dict[int, Rows] = field(default_factory=dict)  # by the offset of their first row
    tokens: int | None = 0
    in_flight: set[Batch] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.weight = sum(prompt.characters for prompt in self.prompts)

    def take(self, offset: int, rows: Rows, tokens: int | None) -> None:
        """Keep the answer to some of the prompts; when all answers are there, resolve the future."""
        if any(part.shape[1:] != rows.shape[1:] for part in self.parts.values()):
            self.fail(BadReply("the server sent vectors of different widths for texts of one call"))
            return
        self.parts[offset] = rows
        self.tokens = None if tokens is None or self.tokens is None else self.tokens + tokens
        if not self.answer.done() and sum(map(len, self.parts.values())) == len(self.prompts):
            whole = [self.parts[at] for at in sorted(self.parts)]
            self.answer.set_result(Answer(whole[0] if len(whole) == 1 else np.concatenate(whole), self.tokens))

    def fail(self, error: BaseException) -> None:
        """Fail with a copy of the error: callers in several threads must not share one exception. It has the rows that were answered."""
        if self.answer.done():
            return
        if isinstance(error, EngineError):
            which = tuple(at + offset for offset, rows in sorted(self.parts.items()) for at in range(len(rows)))
            error = error.replace(partial=Partial(np.concatenate([self.parts[at] for at in sorted(self.parts)]), which) if which else None)
        self.answer.set_exception(own_copy(error))


@dataclass(slots=True, eq=False)
class Search:
    """A refused batch whose halves are sent, to find the prompts at fault.

    Attributes:
        failure: The refusal.
        prompts: The prompts of the batch.
        answered: The prompts of the halves that were answered as a whole.
    """

    failure: EngineError
    prompts: list[Prompt]
    answered: list[list[Prompt]] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Batch:
    """One HTTP request: spans of pending requests, each as (pending request, first prompt, last prompt + 1).

    Attributes:
        spans: The spans.
        request: The request, once it is sent.
        abandoned: Whether all callers have left.
        suspect: Whether it is part of a refused batch, and one of its prompts may be at fault.
        search: The refused batch, of which it is a half.
    """

    spans: list[tuple[PendingRequest, int, int]]
    request: asyncio.Future[Answer] | None = None
    abandoned: bool = False
    suspect: bool = False
    search: Search | None = None

    @property
    def prompts(self) -> list[Prompt]:
        """All prompts of the request, in order."""
        return [prompt for pending, begin, end in self.spans for prompt in pending.prompts[begin:end]]

    def fail(self, error: BaseException) -> None:
        """Fail all callers in the batch; an error about one prompt of the request names its position among its caller's prompts."""
        index = error.index if isinstance(error, EngineError) else None
        at = 0
        for pending, begin, end in self.spans:
            if index is None or not isinstance(error, EngineError):
                pending.fail(error)
            else:
                inside = at <= index < at + end - begin
                pending.fail(error.replace(index=begin + index - at if inside else None))
            at += end - begin

    def drop_done(self) -> None:
        """Remove the spans whose caller no longer waits."""
        self.spans = [span for span in self.spans if not span[0].answer.done()]

    def halves(self, failure: EngineError) -> list[Batch]:
        """The first and the second half of the prompts, as suspects after a failure."""
        search = Search(failure, self.prompts)
        count = len(search.prompts)
        halves = self.divided([count // 2, count - count // 2])
        for half in halves:
            half.suspect, half.search = True, search
        return halves

    def divided(self, counts: Sequence[int]) -> list[Batch]:
        """Consecutive parts with so many prompts each."""
        parts: list[Batch] = []
        spans = deque(self.spans)
        for count in counts:
            part = Batch([], suspect=self.suspect)
            room = count
            while room and spans:
                pending, begin, end = spans.popleft()
                middle = min(end, begin + room)
                part.spans.append((pending, begin, middle))
                room -= middle - begin
                if middle < end:
                    spans.appendleft((pending, middle, end))
            parts.append(part)
        return parts


class RequestQueue:
    """Pending requests by kind. Within a kind the jobs take turns (fairness), so that a query does not wait behind a corpus."""

    def __init__(self) -> None:
        self.prompts = 0
        self._kinds: OrderedDict[object, OrderedDict[object, deque[PendingRequest]]] = OrderedDict()

    def put(self, pending: PendingRequest) -> None:
        """Add a pending request after the others of its job."""
        self._kinds.setdefault(pending.kind, OrderedDict()).setdefault(pending.job, deque()).append(pending)
        self.prompts += len(pending.prompts)

    def remove(self, pending: PendingRequest) -> None:
        """Remove a pending request, if it is still queued."""
        waiting = self._kinds.get(pending.kind, OrderedDict()).get(pending.job)
        if waiting is not None and pending in waiting:
            waiting.remove(pending)
            self._forget(pending)

    def next_requests(self, size: int) -> list[PendingRequest]:
        """The next pending request and others of its kind, up to `size` prompts; the jobs take turns."""
        if not self._kinds:
            return []
        kind, jobs = next(iter(self._kinds.items()))
        self._kinds.move_to_end(kind)
        chosen: list[PendingRequest] = []
        count = weight = 0
        fits = True
        while fits and count < size:
            fits = False
            for job in list(islice(jobs, _JOBS_SEARCHED)):
                pending = jobs[job][0]
                if chosen and (count + len(pending.prompts) > size or weight + pending.weight > REQUEST_CHARACTERS):
                    continue
                fits = True
                chosen.append(jobs[job].popleft())
                count, weight = count + len(pending.prompts), weight + pending.weight
                jobs.move_to_end(job)
                self._forget(pending)
        return chosen

    def _forget(self, pending: PendingRequest) -> None:
        self.prompts -= len(pending.prompts)
        jobs = self._kinds[pending.kind]
        if not jobs[pending.job]:
            del jobs[pending.job]
        if not jobs:
            del self._kinds[pending.kind]
