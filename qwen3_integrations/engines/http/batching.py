"""Batching: prompts of many callers share few HTTP requests."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence

from qwen3_integrations.core.types import Prompt, PromptPart
from qwen3_integrations.engines.http.caps import NO_CAPS, Caps, shown_caps, stated_caps
from qwen3_integrations.engines.http.dialects import Answer
from qwen3_integrations.engines.http.failures import blames_length, may_be_a_text_s_fault
from qwen3_integrations.engines.http.pending import Batch, PendingRequest, RequestQueue, Search
from qwen3_integrations.engines.http.transport import retries
from qwen3_integrations.errors import EngineError, RequestRefused

_HARMLESS = " word"
"""The body of a prompt that every server answers."""

SMALL_REQUEST = 32
"""Prompts in the smallest request while other callers wait, because each request costs the server some milliseconds. Source:
`examples/benchmarks/concurrency.py`, 21 repeats: with 32 instead of 8, 64 threads got 504 calls/s instead of 412, and 64 tasks 580
instead of 488."""


def fair_share(prompts: int, requests: int) -> int:
    """Prompts per request when `prompts` are divided among `requests` in flight; at least `SMALL_REQUEST`."""
    return max(-(-prompts // requests), SMALL_REQUEST)


class Batcher:
    """Sends at most `concurrency` HTTP requests at the same time; callers share them.

    A single caller never waits for others. Prompts of many callers that wait at the same time are divided among the requests in flight,
    instead of one request for each caller: 64 callers with one text each get 5.6 (threads) or 6.5 times (tasks) the throughput of one
    caller (vLLM on the same two CPU cores, tiny model; `examples/benchmarks/concurrency.py`). All calls must be made on one event loop.

    A request that fails as a whole, whatever its status, may have one bad prompt. A harmless prompt is sent first: if that fails too, no
    prompt is at fault. Otherwise the request is split in halves until the prompt at fault is found. Limits that a refusal states or shows
    are kept in `caps`, and later requests obey them.

    Args:
        ask: Sends prompts in one request.
        concurrency: Maximum number of requests in flight.
        size: Maximum number of prompts in one request.
        caps: What the server is known to accept in one request.

    Attributes:
        caps: What the server accepts in one request, as far as it was learned.
    """

    def __init__(self, ask: Callable[[Sequence[Prompt]], Awaitable[Answer]], concurrency: int, size: int, caps: Caps = NO_CAPS) -> None:
        self.caps = caps
        self._ask = ask
        self._concurrency = concurrency
        self._size = size
        self._queue = RequestQueue()
        self._halves: deque[Batch] = deque()
        self._workers: set[asyncio.Task[None]] = set()

    async def send(self, prompts: Sequence[Prompt], kind: object, job: object) -> Answer:
        """Send prompts, together with others of the same kind.

        Args:
            prompts: At most `size`.
            kind: Only prompts of equal kinds share a request.
            job: Fairness key (`Job.fairness_key`): jobs with equal keys belong to one caller, and callers take turns.

        Returns:
            The answer to these prompts. Its tokens are their share of the request's tokens, by length; exact where ids are known.

        Raises:
            EngineError: If the request failed; `index` is the position in `prompts`, where one of them is at fault.
        """
        pending = PendingRequest(kind, job, prompts, asyncio.get_running_loop().create_future())
        self._queue.put(pending)
        self._start_worker()
        try:
            return await pending.answer
        except asyncio.CancelledError:
            self._abandon(pending)
            raise

    def _start_worker(self) -> None:
        if len(self._workers) < self._concurrency and (self._halves or self._queue.prompts):
            self._workers.add(asyncio.ensure_future(self._work()))

    def _abandon(self, pending: PendingRequest) -> None:
        """Drop a pending request whose caller was cancelled; an HTTP request is cancelled when all its callers are cancelled."""
        self._queue.remove(pending)
        for batch in pending.in_flight:
            if batch.request and all(other.answer.done() for other, _, _ in batch.spans):
                batch.abandoned = True
                batch.request.cancel()

    async def _work(self) -> None:
        me = asyncio.current_task()
        assert me is not None
        try:
            while batch := self._next_batch():
                spans = list(batch.spans)
                try:
                    await self._send(batch)
                except Exception as error:  # noqa: BLE001  no caller may wait forever, whatever the error
                    for pending, _, _ in spans:
                        pending.fail(error)
        finally:
            # Not in a done callback: it runs one iteration of the loop later, and until then no worker could start instead of this one.
            self._workers.discard(me)

    def _next_batch(self) -> Batch | None:
        if self._halves:
            return self._within_caps(self._halves.popleft())
        size = min(self._size, fair_share(self._queue.prompts, self._concurrency))
        chosen = self._queue.next_requests(size)
        return self._within_caps(Batch([(pending, 0, len(pending.prompts)) for pending in chosen])) if chosen else None

    def _within_caps(self, batch: Batch) -> Batch:
        """The first part of a batch that the server accepts; the others are queued."""
        counts = self.caps.divided(batch.prompts)
        if len(counts) < 2:
            return batch
        first, *others = batch.divided(counts)
        self._halves.extendleft(reversed(others))
        self._start_worker()
        return first

    async def _send(self, batch: Batch) -> None:
        """Send a batch; resolve its futures, or split it and queue the parts."""
        prompts = batch.prompts
        failure = await self._try(batch)
        if failure is None:
            if batch.search and batch.spans and not batch.abandoned:
                self._learn_from(batch.search, prompts)
            return
        if not batch.spans:
            return
        prompts = batch.prompts
        stated = stated_caps(failure, getattr(failure, "words", None) or "", prompts)
        if stated != NO_CAPS:
            self.caps = self.caps.least(stated)
            self._queue_parts(batch.divided(self.caps.divided(prompts)))
        elif len(prompts) == 1 and blames_length(failure):
            batch.fail(failure.replace(index=0))
        elif not may_be_a_text_s_fault(failure) or not (batch.suspect or await self._answers_harmless(prompts[0])):
            batch.fail(failure)
        elif failure.index is not None and len(batch.spans) == 1:
            batch.fail(failure)  # the answer shows which
        elif len(prompts) > 1:
            self._queue_parts(batch.halves(failure))
        else:
            await self._blame(batch, failure)

    async def _blame(self, batch: Batch, failure: EngineError) -> None:
        """Fail the caller of the only prompt of a batch. After a search, the server may have failed in the meantime."""
        ((pending, begin, _),) = batch.spans
        sure = isinstance(failure, RequestRefused) or not batch.suspect or await self._answers_harmless(batch.prompts[0])
        pending.fail(failure.replace(index=begin if sure else None))

    def _queue_parts(self, parts: Iterable[Batch]) -> None:
        self._halves += parts
        self._start_worker()

    def _learn_from(self, search: Search, prompts: list[Prompt]) -> None:
        """If both halves of a refused batch were answered, no prompt was at fault: the batch was too large."""
        search.answered.append(prompts)
        if isinstance(search.failure, RequestRefused) and sum(map(len, search.answered)) == len(search.prompts):
            self.caps = self.caps.least(shown_caps(search.failure, search.prompts, search.answered))

    async def _answers_harmless(self, prompt: Prompt) -> bool:
        """Whether the server answers a prompt with a short word as its body; if not, it is broken for all prompts of the kind."""
        with retries(1):
            request = asyncio.ensure_future(self._ask([Prompt(prompt.prefix, PromptPart(_HARMLESS), prompt.suffix)]))
        try:
            await request
        except EngineError:
            return False
        finally:
            request.cancel()
        return True

    async def _try(self, batch: Batch) -> EngineError | None:
        """Send a batch and resolve its futures. Returns the error, or None; None too if no caller waits any longer."""
        batch.drop_done()
        if not batch.spans:
            return None
        for pending, _, _ in batch.spans:
            pending.in_flight.add(batch)
        if batch.suspect:  # a search must not wait for the retries of each of its requests
            with retries(0 if len(batch.prompts) > 1 else 1):
                batch.request = asyncio.ensure_future(self._ask(batch.prompts))
        else:
            batch.request = asyncio.ensure_future(self._ask(batch.prompts))
        try:
            _resolve(batch.spans, await batch.request)
        except asyncio.CancelledError:
            me = asyncio.current_task()
            if batch.abandoned and not (me and me.cancelling()):
                return None
            for pending, _, _ in batch.spans:  # the engine closes: no caller may wait for an answer that will not come
                pending.answer.cancel()
            raise
        except EngineError as error:
            batch.drop_done()
            return error
        except Exception as error:  # noqa: BLE001  the error belongs to the callers
            batch.fail(error)
            batch.drop_done()
        finally:
            for pending, _, _ in batch.spans:
                pending.in_flight.discard(batch)
        return None


def _resolve(spans: Sequence[tuple[PendingRequest, int, int]], answer: Answer) -> None:
    """Give each pending request its rows and its share of the tokens; the shares add up to the tokens of the answer."""
    lengths = [sum(map(_length, pending.prompts[begin:end])) for pending, begin, end in spans]
    whole, so_far, at, assigned = sum(lengths) or 1, 0, 0, 0
    for (pending, begin, end), length in zip(spans, lengths, strict=True):
        so_far += length
        share = None if answer.tokens is None else round(answer.tokens * so_far / whole) - assigned
        pending.take(begin, answer.rows[at : at + end - begin], share)
        at, assigned = at + end - begin, assigned + (share or 0)


def _length(prompt: Prompt) -> int:
    """Tokens, or characters where the tokens are not known."""
    tokens = prompt.tokens
    return prompt.characters if tokens is None else tokens
