"""Wrappers: engines that pass their jobs on to another engine, and do something before or after."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Generator, Iterable
from typing import Any, NoReturn, Self, TypeAlias

from qwen3_integrations.core.engine import Capabilities, Engine
from qwen3_integrations.core.fingerprint import Fingerprint
from qwen3_integrations.core.html import engine_facts, facts_table
from qwen3_integrations.core.tokenizer import Tokenizer
from qwen3_integrations.core.types import Job, Reply, Task
from qwen3_integrations.errors import ConfigError

Step: TypeAlias = Job | Callable[[], Any]
"""What `EngineWrapper.around` may yield: a job for the wrapped engine, or a function that blocks."""

Around: TypeAlias = Generator[Step, Any, Reply]


class EngineWrapper:
    """An engine around another one. Subclass it and override `around`; everything else is passed on to the wrapped engine.

    A wrapper is an `Engine`, and can be wrapped again. Further attributes of an engine (`memory`, `device`, `dtype`, `where`, `jobs`, ...)
    are passed on, except those with a leading underscore.

    A wrapper that counts and times jobs, in full:

        class TimedEngine(EngineWrapper):
            def __init__(self, engine):
                super().__init__(engine)
                self.seconds = []

            def around(self, job):
                started = time.perf_counter()
                reply = yield job
                self.seconds.append(time.perf_counter() - started)
                return reply

    Args:
        engine: The engine to wrap. `close()` closes it.

    Attributes:
        engine: The wrapped engine.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def around(self, job: Job) -> Around:
        """Run a job: one generator for `run` and `arun`.

        Yield a job, the same or another, to run it on the wrapped engine. The `yield` returns the reply, or raises the error. Yield no
        job to answer without the engine, or several jobs to retry or to split. Return the reply.

        Yield a function without arguments for work that blocks, such as a database query: `run` calls it, and `arun` calls it in a
        thread. In `arun` the code between two yields runs on the event loop, so it must be fast. Many jobs run at once in several
        threads, so shared state needs a lock or atomic operations.

        Args:
            job: The caller's job.

        Returns:
            The reply, by the generator's `return`: as many rows as `job` has prompts.
        """
        reply: Reply = yield job
        return reply

    def run(self, job: Job) -> Reply:
        """Run a job through `around` and wait for it. See `Engine.run`."""
        steps = self.around(job)
        step = _first(steps)
        while not isinstance(step, Reply):
            try:
                result = self.engine.run(step) if isinstance(step, Job) else step()
            except BaseException as error:  # noqa: BLE001  interrupts too, because `around` may have to clean up
                step = _raised(steps, error)
            else:
                step = _sent(steps, result)
        return step

    async def arun(self, job: Job) -> Reply:
        """Run a job through `around` without blocking the event loop. See `Engine.arun`."""
        steps = self.around(job)
        step = _first(steps)
        while not isinstance(step, Reply):
            try:
                result = await self.engine.arun(step) if isinstance(step, Job) else await asyncio.to_thread(step)
            except BaseException as error:  # noqa: BLE001  cancellations too
                step = _raised(steps, error)
            else:
                step = _sent(steps, result)
        return step

    def close(self) -> None:
        """Close the wrapped engine. See `Engine.close`."""
        self.engine.close()

    @property
    def backend(self) -> str:
        """The wrapped engine's backend."""
        return self.engine.backend

    @property
    def task(self) -> Task:
        """`embed` or `rerank`."""
        return self.engine.task

    @property
    def model(self) -> str:
        """The model's name as the caller passed it."""
        return self.engine.model

    @property
    def tokenizer(self) -> Tokenizer | None:
        """The model's tokenizer, if the engine has one."""
        return self.engine.tokenizer

    @property
    def max_tokens(self) -> int | None:
        """Length of the longest prompt that the model accepts, in tokens, if known."""
        return self.engine.max_tokens

    @property
    def dimensions(self) -> int | None:
        """Width of a full embedding, if known."""
        return self.engine.dimensions

    @property
    def capabilities(self) -> Capabilities:
        """What only some engines can do, and whether the wrapped one can."""
        return self.engine.capabilities

    def fingerprint(self) -> Fingerprint:
        """The wrapped engine's fingerprint. See `Engine.fingerprint`."""
        return self.engine.fingerprint()

    def __getattr__(self, name: str) -> Any:
        # Python calls this only for attributes that the wrapper does not have. `engine` is missing before `__init__`.
        if name.startswith("_") or name == "engine":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.engine, name)

    def __dir__(self) -> Iterable[str]:
        return sorted({*super().__dir__(), *(name for name in dir(self.engine) if not name.startswith("_"))})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """As `__copy__`: a new wrapper of the same engine, which is never copied."""
        return self.__copy__()

    def __copy__(self) -> Self:
        copied = type(self).__new__(type(self))
        copied.__dict__.update(self.__dict__)
        if isinstance(self.engine, EngineWrapper):  # `SharedEngine` counts its users
            copied.engine = copy.copy(self.engine)
        return copied

    def __reduce__(self) -> NoReturn:
        raise ConfigError(f"{self!r} can't be pickled: it holds an opened engine", advice="Open an engine in each process")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.engine!r})"

    def _repr_html_(self) -> str:
        return facts_table(type(self).__name__, engine_facts(self))


def _first(steps: Around) -> Step | Reply:
    if not isinstance(steps, Generator):
        raise TypeError(f"a wrapper's around() must be a generator, not a function that returns {steps!r:.80}: use `reply = yield job`")
    return _sent(steps, None)


def _sent(steps: Around, result: Any) -> Step | Reply:
    """The next step; or the reply, if the generator has returned."""
    try:
        return steps.send(result)
    except StopIteration as end:
        return _checked(end.value)


def _raised(steps: Around, error: BaseException) -> Step | Reply:
    """As `_sent`, but raises an error at the generator's `yield`."""
    try:
        return steps.throw(error)
    except StopIteration as end:
        return _checked(end.value)


def _checked(reply: object) -> Reply:
    if not isinstance(reply, Reply):
        raise TypeError(f"a wrapper's around() must return a Reply, not {reply!r:.80}: end it with `return reply`")
    return reply
