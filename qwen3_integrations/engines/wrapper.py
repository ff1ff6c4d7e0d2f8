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
    """An engine around another one. Subclass it and override `around`; everything else is the wrapped engine's.

    A wrapper is an `Engine`: it goes wherever an engine goes, and can be wrapped again. Attributes that an engine has beside the
    protocol (`memory`, `device`, `dtype`, `where`, `jobs`, ...) are passed on, those with a leading underscore are not.

    A wrapper that counts and times jobs, in full:

        class TimedEngine(EngineWrapper):
            def __init__(self, engine):
                super().__init__(engine)
                self.seconds = []

            def around(self, job):
                begun = time.perf_counter()
                reply = yield job
                self.seconds.append(time.perf_counter() - begun)
                return reply

    Args:
        engine: The engine to wrap. `close()` closes it.

    Attributes:
        engine: The wrapped engine.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def around(self, job: Job) -> Around:
        """What happens to a job: one generator for `run` and `arun`.

        Yield a job, the same or another, to run it on the wrapped engine; the reply comes back from the `yield`, and an error is
        raised there. Yield no job to answer without the engine, several to retry or to split. Return the reply.

        Yield a function of no arguments for work that blocks, such as a look-up in a database: `run` calls it, `arun` calls it in
        a thread. The code between two yields runs on the event loop in `arun`, and must be quick. Many jobs run at once, in
        several threads: state that they share needs a lock, or operations that are atomic.

        Args:
            job: What the caller wants.

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
            except BaseException as error:  # noqa: BLE001  an interrupt too: `around` may have something to undo
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
            except BaseException as error:  # noqa: BLE001  a cancellation too
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
        """The model's name as it was asked for."""
        return self.engine.model

    @property
    def tokenizer(self) -> Tokenizer | None:
        """The model's tokenizer, if one is at hand."""
        return self.engine.tokenizer

    @property
    def max_tokens(self) -> int | None:
        """The longest prompt the model takes, in tokens, if known."""
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
        # Only asked for what the wrapper itself does not have. `engine` is missing while a wrapper is being made.
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
        """A wrapper of the same engine, which is never copied; the state of the copy is the original's."""
        return self.__copy__()

    def __copy__(self) -> Self:
        copied = type(self).__new__(type(self))
        copied.__dict__.update(self.__dict__)
        if isinstance(self.engine, EngineWrapper):  # one that counts its users must know of one more
            copied.engine = copy.copy(self.engine)
        return copied

    def __reduce__(self) -> NoReturn:
        raise ConfigError(f"{self!r} can't be pickled: it holds an opened engine. Open an engine in each process")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.engine!r})"

    def _repr_html_(self) -> str:
        return facts_table(type(self).__name__, engine_facts(self))


def _first(steps: Around) -> Step | Reply:
    if not isinstance(steps, Generator):
        raise TypeError(f"a wrapper's around() must be a generator, not a function that returns {steps!r:.80}: use `reply = yield job`")
    return _sent(steps, None)


def _sent(steps: Around, result: Any) -> Step | Reply:
    """The next step; or the reply, when the generator returns."""
    try:
        return steps.send(result)
    except StopIteration as end:
        return _checked(end.value)


def _raised(steps: Around, error: BaseException) -> Step | Reply:
    """As `_sent`, with an error raised in the generator at its yield."""
    try:
        return steps.throw(error)
    except StopIteration as end:
        return _checked(end.value)


def _checked(reply: object) -> Reply:
    if not isinstance(reply, Reply):
        raise TypeError(f"a wrapper's around() must return a Reply, not {reply!r:.80}: end it with `return reply`")
    return reply
