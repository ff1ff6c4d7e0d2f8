"""What many callers have to send, joined into few requests."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from qwen3_integrations.engines.dialects import Answer
from qwen3_integrations.errors import RequestRefused
from qwen3_integrations.jobs import Prompt

REQUEST_CHARACTERS = 1 << 20
"""Text in one request: far below the limits of servers and proxies, and enough to fill a batch."""

SMALL_REQUEST = 8
"""Fewer prompts than this are not worth a request of their own while others wait: each costs the server some milliseconds."""


def fair_share(prompts: int, requests: int) -> int:
    """Prompts in one request, when so many are to be spread over so many requests at once."""
    return max(-(-prompts // requests), SMALL_REQUEST)


@dataclass(slots=True, eq=False)
class _Parcel:
    """Prompts of one caller that go in one request, and where the caller waits for the answer."""

    kind: object
    prompts: Sequence[Prompt]
    answer: asyncio.Future[Answer]
    load: _Load | None = None

    @property
    def weight(self) -> int:
        return sum(len(prompt.text) for prompt in self.prompts)


@dataclass(slots=True, eq=False)
class _Load:
    """Parcels on their way in one request."""

    parcels: list[_Parcel]
    request: asyncio.Future[Answer] | None = None
    abandoned: bool = False


@dataclass(eq=False)
class Batcher:
    """Sends at most `concurrency` requests at once, in which callers share.

    A lone caller waits for nothing. Prompts of many callers that wait at the same time are spread over the requests in
    flight, instead of costing the server a request each: 64 callers with a text each get 5 times more done so (two CPU cores,
    tiny model). All calls must be made on one event loop.

    Attributes:
        ask: Sends prompts in one request.
        concurrency: Requests in flight at once.
        size: Prompts in one request, at most.
    """

    ask: Callable[[Sequence[Prompt]], Awaitable[Answer]]
    concurrency: int
    size: int
    _waiting: deque[_Parcel] = field(default_factory=deque)
    _couriers: set[asyncio.Task[None]] = field(default_factory=set)

    async def send(self, prompts: Sequence[Prompt], kind: object) -> Answer:
        """Send prompts, with others of the same kind.

        Args:
            prompts: At most `size`.
            kind: Only equal kinds go together in a request.

        Returns:
            The answer to these prompts. Its tokens are their share of the request's, by length; exact where ids are known.
        """
        parcel = _Parcel(kind, prompts, asyncio.get_running_loop().create_future())
        self._waiting.append(parcel)
        if len(self._couriers) < self.concurrency:
            courier = asyncio.ensure_future(self._deliver())
            self._couriers.add(courier)
            courier.add_done_callback(self._couriers.discard)
        try:
            return await parcel.answer
        except asyncio.CancelledError:
            self._abandon(parcel)
            raise

    def _abandon(self, parcel: _Parcel) -> None:
        """Forget a parcel nobody waits for; the request ends when that is true of all in it."""
        if parcel.load is None:
            if parcel in self._waiting:
                self._waiting.remove(parcel)
        elif parcel.load.request and all(other.answer.done() for other in parcel.load.parcels):
            parcel.load.abandoned = True
            parcel.load.request.cancel()

    async def _deliver(self) -> None:
        while self._waiting:
            load = self._next_load()
            if not await self._try(load):
                for parcel in load.parcels:  # refused for one of them: each goes alone
                    parcel.load = _Load([parcel])
                    await self._try(parcel.load)

    def _next_load(self) -> _Load:
        """The parcel that waits longest, and those of its kind that fit in beside it, to a fair share of all that wait."""
        total = sum(len(parcel.prompts) for parcel in self._waiting)
        size = min(self.size, fair_share(total, self.concurrency))
        first = self._waiting.popleft()
        load = _Load([first])
        count, weight = len(first.prompts), first.weight
        left: deque[_Parcel] = deque()
        for parcel in self._waiting:
            fits = count + len(parcel.prompts) <= size and weight + parcel.weight <= REQUEST_CHARACTERS
            if parcel.kind == first.kind and fits:
                load.parcels.append(parcel)
                count, weight = count + len(parcel.prompts), weight + parcel.weight
            else:
                left.append(parcel)
        self._waiting = left
        for parcel in load.parcels:
            parcel.load = load
        return load

    async def _try(self, load: _Load) -> bool:
        """Send a load; False when it was refused and holds parcels of several callers."""
        parcels = [parcel for parcel in load.parcels if not parcel.answer.done()]
        if not parcels:
            return True
        prompts = [prompt for parcel in parcels for prompt in parcel.prompts]
        load.request = asyncio.ensure_future(self.ask(prompts))
        try:
            answer = await load.request
        except asyncio.CancelledError:
            if not load.abandoned:
                raise
        except RequestRefused as error:
            if len(parcels) > 1:
                return False
            _fail(parcels, error)
        except Exception as error:  # noqa: BLE001  it is the callers', who wait for it
            _fail(parcels, error)
        else:
            _hand_out(parcels, answer)
        return True


def _fail(parcels: Sequence[_Parcel], error: Exception) -> None:
    for parcel in parcels:
        if not parcel.answer.done():
            parcel.answer.set_exception(error)


def _hand_out(parcels: Sequence[_Parcel], answer: Answer) -> None:
    lengths = [sum(_length(prompt) for prompt in parcel.prompts) for parcel in parcels]
    whole, so_far, begin, told = sum(lengths) or 1, 0, 0, 0
    for parcel, length in zip(parcels, lengths, strict=True):
        end, so_far = begin + len(parcel.prompts), so_far + length
        share = None if answer.tokens is None else round(answer.tokens * so_far / whole) - told
        if not parcel.answer.done():
            parcel.answer.set_result(Answer(answer.rows[begin:end], share))
        begin, told = end, told + (share or 0)


def _length(prompt: Prompt) -> int:
    ids = prompt.ids
    return len(prompt.text) if ids is None else len(ids)
