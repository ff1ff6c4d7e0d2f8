"""What many callers have to send, joined into few requests."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from qwen3_integrations.core.types import Prompt, Rows
from qwen3_integrations.engines.http.dialects import Answer
from qwen3_integrations.errors import BadReply, EngineError, RequestRefused, ServerFailed, own_copy

REQUEST_CHARACTERS = 1 << 20
"""Text in one request: far below the limits of servers and proxies, and enough to fill a batch."""

SMALL_REQUEST = 32
"""Fewer prompts than this are not worth a request of their own while others wait: each costs the server some milliseconds. Source:
`examples/benchmarks/concurrency.py`, 21 repeats: with 32 instead of 8, 64 threads got 504 calls/s instead of 412, and 64 tasks 580
instead of 488."""

_JOBS_LOOKED_AT = 256
"""Jobs that may join one request; more would only be looked through in vain."""


def fair_share(prompts: int, requests: int) -> int:
    """Prompts in one request, when so many are to be spread over so many requests at once."""
    return max(-(-prompts // requests), SMALL_REQUEST)


@dataclass(slots=True, eq=False)
class _Parcel:
    """Prompts of one caller, and where the caller waits for the answer; they may be answered in several pieces."""

    kind: object
    job: object
    prompts: Sequence[Prompt]
    answer: asyncio.Future[Answer]
    weight: int = 0  # characters
    parts: dict[int, Rows] = field(default_factory=dict)  # by the offset of their first row
    tokens: int | None = 0
    flying: set[_Piece] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.weight = sum(prompt.characters for prompt in self.prompts)

    def take(self, offset: int, rows: Rows, tokens: int | None) -> None:
        """Keep the answer to some of the prompts; with the last of them, the parcel is answered."""
        self.parts[offset] = rows
        self.tokens = None if tokens is None or self.tokens is None else self.tokens + tokens
        if not self.answer.done() and sum(map(len, self.parts.values())) == len(self.prompts):
            whole = [self.parts[at] for at in sorted(self.parts)]
            self.answer.set_result(Answer(whole[0] if len(whole) == 1 else np.concatenate(whole), self.tokens))

    def fail(self, error: BaseException) -> None:
        """Fail with an error of its own: callers in several threads must not share one."""
        if not self.answer.done():
            self.answer.set_exception(own_copy(error))


@dataclass(slots=True, eq=False)
class _Piece:
    """Parts of parcels on their way in one request: (parcel, first prompt, behind the last)."""

    spans: list[tuple[_Parcel, int, int]]
    request: asyncio.Future[Answer] | None = None
    abandoned: bool = False

    @property
    def prompts(self) -> list[Prompt]:
        return [prompt for parcel, begin, end in self.spans for prompt in parcel.prompts[begin:end]]

    def fail(self, error: BaseException) -> None:
        """Fail all who wait for it; an error about one prompt of the request is about that prompt of its parcel."""
        index = error.index if isinstance(error, EngineError) else None
        at = 0
        for parcel, begin, end in self.spans:
            if index is None or not isinstance(error, EngineError):
                parcel.fail(error)
            else:
                inside = at <= index < at + end - begin
                parcel.fail(error.replace(index=begin + index - at if inside else None))
            at += end - begin

    def drop_done(self) -> None:
        """Leave out parcels that nobody waits for any more."""
        self.spans = [span for span in self.spans if not span[0].answer.done()]

    def halves(self) -> tuple[_Piece, _Piece]:
        """The first and the second half of the prompts."""
        left: list[tuple[_Parcel, int, int]] = []
        right: list[tuple[_Parcel, int, int]] = []
        room = sum(end - begin for _, begin, end in self.spans) // 2
        for parcel, begin, end in self.spans:
            middle = min(end, begin + max(room, 0))
            left += [(parcel, begin, middle)] if middle > begin else []
            right += [(parcel, middle, end)] if end > middle else []
            room -= middle - begin
        return _Piece(left), _Piece(right)


class _Queue:
    """Parcels that wait: by kind, and within a kind the jobs in turn, so that a query does not wait behind a corpus."""

    def __init__(self) -> None:
        self.prompts = 0
        self._kinds: OrderedDict[object, OrderedDict[object, deque[_Parcel]]] = OrderedDict()

    def put(self, parcel: _Parcel) -> None:
        """Add a parcel behind those of its job."""
        self._kinds.setdefault(parcel.kind, OrderedDict()).setdefault(parcel.job, deque()).append(parcel)
        self.prompts += len(parcel.prompts)

    def remove(self, parcel: _Parcel) -> None:
        """Take a parcel out, if it is still in."""
        line = self._kinds.get(parcel.kind, OrderedDict()).get(parcel.job)
        if line is not None and parcel in line:
            line.remove(parcel)
            self._taken(parcel)

    def next_load(self, size: int) -> list[_Parcel]:
        """The parcel whose turn it is, and others of its kind that fit in beside it: to `size` prompts, the jobs in turn."""
        if not self._kinds:
            return []
        kind, jobs = next(iter(self._kinds.items()))
        self._kinds.move_to_end(kind)
        load: list[_Parcel] = []
        count = weight = 0
        fits = True
        while fits and count < size:
            fits = False
            for job in list(islice(jobs, _JOBS_LOOKED_AT)):
                parcel = jobs[job][0]
                if load and (count + len(parcel.prompts) > size or weight + parcel.weight > REQUEST_CHARACTERS):
                    continue
                fits = True
                load.append(jobs[job].popleft())
                count, weight = count + len(parcel.prompts), weight + parcel.weight
                jobs.move_to_end(job)
                self._taken(parcel)
        return load

    def _taken(self, parcel: _Parcel) -> None:
        self.prompts -= len(parcel.prompts)
        jobs = self._kinds[parcel.kind]
        if not jobs[parcel.job]:
            del jobs[parcel.job]
        if not jobs:
            del self._kinds[parcel.kind]


class Batcher:
    """Sends at most `concurrency` requests at once, in which callers share.

    A lone caller waits for nothing. Prompts of many callers that wait at the same time are spread over the requests in
    flight, instead of costing the server a request each: 64 callers with a text each get 5.6 (threads) or 6.5 times (tasks) as much done as
    one caller (vLLM on the same two CPU cores, tiny model; `examples/benchmarks/concurrency.py`). A refused request is halved until the
    prompt at fault is alone. All calls must be made on one event loop.

    Args:
        ask: Sends prompts in one request.
        concurrency: Requests in flight at once.
        size: Prompts in one request, at most.
    """

    def __init__(self, ask: Callable[[Sequence[Prompt]], Awaitable[Answer]], concurrency: int, size: int) -> None:
        self._ask = ask
        self._concurrency = concurrency
        self._size = size
        self._queue = _Queue()
        self._halves: deque[_Piece] = deque()
        self._couriers: set[asyncio.Task[None]] = set()

    async def send(self, prompts: Sequence[Prompt], kind: object, job: object) -> Answer:
        """Send prompts, with others of the same kind.

        Args:
            prompts: At most `size`.
            kind: Only equal kinds go together in a request.
            job: Whose they are (`Job.turn`); jobs take turns.

        Returns:
            The answer to these prompts. Its tokens are their share of the request's, by length; exact where ids are known.

        Raises:
            EngineError: If the request failed; `index` is the position in `prompts`, where one of them is at fault.
        """
        parcel = _Parcel(kind, job, prompts, asyncio.get_running_loop().create_future())
        self._queue.put(parcel)
        self._hire()
        try:
            return await parcel.answer
        except asyncio.CancelledError:
            self._abandon(parcel)
            raise

    def _hire(self) -> None:
        if len(self._couriers) < self._concurrency and (self._halves or self._queue.prompts):
            self._couriers.add(asyncio.ensure_future(self._deliver()))

    def _abandon(self, parcel: _Parcel) -> None:
        """Forget a parcel nobody waits for; a request ends when that is true of all in it."""
        self._queue.remove(parcel)
        for piece in parcel.flying:
            if piece.request and all(other.answer.done() for other, _, _ in piece.spans):
                piece.abandoned = True
                piece.request.cancel()

    async def _deliver(self) -> None:
        me = asyncio.current_task()
        assert me is not None
        try:
            while piece := self._next_piece():
                spans = list(piece.spans)
                try:
                    await self._carry(piece)
                except Exception as error:  # noqa: BLE001  whatever it is, nobody may wait for ever
                    for parcel, _, _ in spans:
                        parcel.fail(error)
        finally:
            # Here and not by a callback, which would come a turn of the loop later: until then nobody would be hired in its place.
            self._couriers.discard(me)

    def _next_piece(self) -> _Piece | None:
        if self._halves:
            return self._halves.popleft()
        size = min(self._size, fair_share(self._queue.prompts, self._concurrency))
        load = self._queue.next_load(size)
        return _Piece([(parcel, 0, len(parcel.prompts)) for parcel in load]) if load else None

    async def _carry(self, piece: _Piece) -> None:
        """Send a piece, and settle it: answer its parcels, fail them, or leave its halves to whoever comes next."""
        failure = await self._try(piece)
        if failure is None or not piece.spans:
            return
        if isinstance(failure, RequestRefused):
            if len(piece.prompts) == 1:
                ((parcel, begin, _),) = piece.spans
                parcel.fail(failure.replace(index=begin))
            else:
                self._halves += piece.halves()
                self._hire()
        elif len(piece.spans) > 1 and (isinstance(failure, BadReply) or (isinstance(failure, ServerFailed) and failure.status == 500)):
            await self._carry_apart(piece)
        else:
            piece.fail(failure)

    async def _carry_apart(self, piece: _Piece) -> None:
        """After a 500 or nonsense each half of the callers by itself: one text may be what the server fails on.

        If both halves fail the server is broken, and it is not asked over and over.
        """
        middle = len(piece.spans) // 2
        halves = [_Piece(piece.spans[:middle]), _Piece(piece.spans[middle:])]
        failures = [await self._try(half) for half in halves]
        for half, failure in zip(halves, failures, strict=True):
            if failure is None:
                continue
            if len(half.spans) == 1 or all(failures):
                half.fail(failure)
            else:
                await self._carry_apart(half)

    async def _try(self, piece: _Piece) -> EngineError | None:
        """Send a piece and hand out its answer; or what it failed with. None, too, when nobody waits for it any more."""
        piece.drop_done()
        if not piece.spans:
            return None
        for parcel, _, _ in piece.spans:
            parcel.flying.add(piece)
        piece.request = asyncio.ensure_future(self._ask(piece.prompts))
        try:
            _hand_out(piece.spans, await piece.request)
        except asyncio.CancelledError:
            me = asyncio.current_task()
            if piece.abandoned and not (me and me.cancelling()):
                return None
            for parcel, _, _ in piece.spans:  # the engine closes: nobody must wait for what won't come
                parcel.answer.cancel()
            raise
        except EngineError as error:
            piece.drop_done()
            return error
        except Exception as error:  # noqa: BLE001  it is the callers', who wait for it
            piece.fail(error)
        finally:
            for parcel, _, _ in piece.spans:
                parcel.flying.discard(piece)
        return None


def _hand_out(spans: Sequence[tuple[_Parcel, int, int]], answer: Answer) -> None:
    lengths = [sum(map(_length, parcel.prompts[begin:end])) for parcel, begin, end in spans]
    whole, so_far, at, told = sum(lengths) or 1, 0, 0, 0
    for (parcel, begin, end), length in zip(spans, lengths, strict=True):
        so_far += length
        share = None if answer.tokens is None else round(answer.tokens * so_far / whole) - told
        parcel.take(begin, answer.rows[at : at + end - begin], share)
        at, told = at + end - begin, told + (share or 0)


def _length(prompt: Prompt) -> int:
    tokens = prompt.tokens
    return prompt.characters if tokens is None else tokens
