"""`WaitingEngine`: a server that goes away for some time does not end a job."""

from __future__ import annotations

import itertools
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from qwen3_integrations.core.engine import Engine
from qwen3_integrations.core.fingerprint import Fingerprint
from qwen3_integrations.core.planning import rerank_prompts
from qwen3_integrations.core.prompts import DEFAULT_INSTRUCTION
from qwen3_integrations.core.types import Job, Rows
from qwen3_integrations.core.validation import seconds
from qwen3_integrations.engines.registry import ROWS
from qwen3_integrations.engines.wrapper import Around, EngineWrapper
from qwen3_integrations.errors import (
    ConfigError,
    EngineClosed,
    ModelNotServed,
    RateLimited,
    ServerError,
    ServerFailed,
    ServerTimeout,
    ServerUnreachable,
    own_copy,
)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0
"""The pauses between two questions to a server that is away: each is twice as long as the one before it."""

MOST_RETURNS = 5
"""Times that one job is sent again. A text that ends the server each time would be sent forever otherwise."""

SAME_SCORE = 0.02
"""The largest difference of a score of one model. The last bit of a bfloat16 score is 0.004; other weights give differences from 0.05."""

_BUDGET = 512
_PAIRS = (
    ("how do I read a csv file", "The csv module reads and writes csv files."),
    ("how do I read a csv file", "Open the file, and read it line by line."),
    ("which cat is largest", "The tiger is a cat that lives in Asia."),
    ("which cat is largest", "Wine is made from grapes in the south."),
)
"""The pairs by whose scores a reranker is recognised."""


def is_away(error: ServerError) -> bool:
    """Whether a server may answer later what it could not answer now: no connection, no answer in time, 429, 502, 503, 504.

    An error of one text of a request (`index`) is not of this kind, and neither is a certificate that is not trusted.
    """
    if error.index is not None:
        return False
    if isinstance(error, ServerUnreachable):
        return not any(isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(error))
    return isinstance(error, ServerTimeout | RateLimited) or (isinstance(error, ServerFailed) and error.status in (502, 503, 504))


class WaitingEngine(EngineWrapper):
    """Waits for a server that is away or not there yet, and sends the jobs again that it did not answer.

    While the server is away, one thread asks it again and again, with growing pauses; the jobs of all threads and tasks wait. When it is
    back, its fingerprint is compared with the first one; a reranker's scores of fixed pairs too. If it does not come back, or another model
    does, that is the error of this job and of all later ones.

    Args:
        engine: An engine on a server.
        wait_s: Seconds to wait for the server, from the first failure on.
        tell: Called with a line when the waiting begins, and when the server is back.

    Raises:
        ConfigError: If the engine runs in this process, or `wait_s` is not a positive number.
    """

    def __init__(self, engine: Engine, wait_s: float, tell: Callable[[str], object] = print) -> None:
        row = ROWS.get(engine.backend)
        if row and not row.has_url:
            raise ConfigError(f"is for servers, but the {engine.backend} engine runs in this process", option="wait")
        super().__init__(engine)
        self._wait_s, self._tell = seconds(wait_s, "wait"), tell
        self._lock = threading.Lock()  # held by the thread that asks the server
        self._served: _Served | None = None
        self._outages = 0
        self._failure: Exception | None = None
        """Why the waiting has ended; all later jobs fail with it."""

    def around(self, job: Job) -> Around:
        """Run a job. Where the server is away, wait for it and run the job again."""
        if not job.prompts:
            return (yield from super().around(job))
        stopped = threading.Event()
        try:
            if self._served is None:
                yield partial(self._begin, stopped)
            for times in itertools.count(1):
                outages = self._outages
                try:
                    return (yield from super().around(job))
                except ServerError as error:
                    if not is_away(error):
                        raise
                    if times > MOST_RETURNS:
                        advice = "One of these texts may be the cause: the server's log says more"
                        reason = f"{error.reason} (the server came back {MOST_RETURNS} times, and failed at the same texts each time)"
                        raise error.replace(reason=reason, advice=advice) from error.__cause__
                    failure = error
                yield partial(self._await_server, failure, outages, job.max_tokens, stopped)
        finally:  # a cancelled job leaves its thread
            stopped.set()
        raise AssertionError  # the loop ends by a return or an error

    def fingerprint(self) -> Fingerprint:
        """The fingerprint at the first contact, for which a server that is not there yet is awaited."""
        self._begin(threading.Event())
        assert self._served is not None
        return self._served.fingerprint

    def _begin(self, stopped: threading.Event) -> None:
        """Make the first contact."""
        with self._lock:
            self._raise_failure()
            if self._served is not None:
                return
            try:
                self._served = self._ask()
            except ServerError as error:
                if not is_away(error):
                    raise
                self._served = self._asked_until_it_answers(error, stopped)

    def _await_server(self, failure: ServerError, outages: int, budget: int, stopped: threading.Event) -> None:
        """Wait until the server is back, or another job has seen that since `outages`."""
        with self._lock:
            self._raise_failure()
            if self._outages == outages:
                self._asked_until_it_answers(failure, stopped, budget)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise own_copy(self._failure)

    def _asked_until_it_answers(self, failure: ServerError, stopped: threading.Event, budget: int | None = None) -> _Served:
        """What the server serves when it answers again. Called with the lock."""
        begun = time.monotonic()
        self._tell(f"{failure.reason}: waiting for the server, at most {in_words(self._wait_s)}")
        try:
            found = self._found(failure, begun + self._wait_s, stopped)
            if self._served is not None:
                self._served.check(found, budget, failure.url)
        except EngineClosed:
            raise  # another job goes on
        except Exception as error:
            self._failure = error
            raise
        self._outages += 1
        self._tell(f"the server answers again, after {in_words(round(time.monotonic() - begun, 1))}")
        return found

    def _found(self, failure: ServerError, end: float, stopped: threading.Event) -> _Served:
        pause = FIRST_PAUSE_S
        while (left := end - time.monotonic()) > 0:
            if stopped.wait(min(max(pause, failure.retry_after_s or 0), left)):
                raise EngineClosed(f"the job for {self.model} was cancelled")
            try:
                return self._ask(again=True)
            except ServerError as error:
                if not is_away(error):
                    raise
                failure = error
            pause = min(2 * pause, LONGEST_PAUSE_S)
        reason = f"{failure.reason}, and no answer came for {in_words(self._wait_s)}"
        raise failure.replace(reason=reason) from failure.__cause__

    def _ask(self, *, again: bool = False) -> _Served:
        contact = getattr(self.engine, "contact_again", None)
        if again and contact is not None:
            contact()
        fingerprint, scores = self.engine.fingerprint(), None
        if self.task == "rerank":
            prompts = rerank_prompts(_PAIRS, DEFAULT_INSTRUCTION, "\n", self.tokenizer, _BUDGET)
            scores = self.engine.run(Job("rerank", prompts, _BUDGET)).rows
        return _Served(fingerprint, scores, self.max_tokens)


@dataclass(frozen=True, slots=True, eq=False)
class _Served:
    """What a server serves: the fingerprint, the scores of fixed pairs, the longest prompt."""

    fingerprint: Fingerprint
    scores: Rows | None
    max_tokens: int | None

    def check(self, now: _Served, budget: int | None, url: str | None) -> None:
        """Refuse another model.

        Args:
            now: What it serves after an outage.
            budget: The longest prompt of a job, in tokens; None if there was no job yet.
            url: The server's address.

        Raises:
            ModelNotServed: If it is another model, or the same in another number format or with another limit below the budget.
        """
        found = [str(each) for each in self._with_budget(budget).differences(now._with_budget(budget))]
        if self.scores is not None and now.scores is not None:
            distance = float(np.max(np.abs(self.scores - now.scores)))
            if distance > SAME_SCORE:
                found.append(f"a score of a fixed pair is {distance:.2g} away from what it was (rounding explains {SAME_SCORE:g})")
        if found:
            raise ModelNotServed(
                f"another model answers at {url} since the server was away ({'; '.join(found)})",
                url=url or "",
                advice="Start the server with the earlier model again",
            )

    def _with_budget(self, budget: int | None) -> Fingerprint:
        if budget is None or self.max_tokens is None:
            return self.fingerprint
        facts = {**self.fingerprint.numerics, "budget in tokens": min(budget, self.max_tokens)}
        return replace(self.fingerprint, numerics=facts)


def in_words(duration_s: float) -> str:
    """A duration with one unit: `90 s`, `10 min`, `1 h`."""
    for unit, size in (("h", 3600), ("min", 60)):
        if duration_s >= size and duration_s % size == 0:
            return f"{duration_s / size:g} {unit}"
    return f"{duration_s:g} s"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(10):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__
