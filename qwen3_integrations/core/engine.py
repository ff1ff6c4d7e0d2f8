"""The protocol of engines: one operation, sync and async, and the properties of an engine."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol, Self, TypeVar, runtime_checkable

from qwen3_integrations.core.fingerprint import Fingerprint
from qwen3_integrations.core.prompts import MODEL_CARD, TextConventions
from qwen3_integrations.core.tokenizer import Tokenizer
from qwen3_integrations.core.types import Job, Reply, Task
from qwen3_integrations.errors import ConfigError, EngineError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What only some engines can do. Every engine can do what the defaults say.

    Attributes:
        exact: True if the other prompts of a batch change the row of a prompt by at most 1e-5. This holds in float32. In bfloat16
            and float16 a row depends on the size of its batch.
        gradients: True if the engine can compute gradients of a result with respect to its prompt.
        modalities: The kinds of content that prompts may have.
        devices: Number of devices that compute the model; None if unknown, for example behind a server.
    """

    exact: bool = False
    gradients: bool = False
    modalities: frozenset[str] = frozenset({"text"})
    devices: int | None = 1


@runtime_checkable
class Engine(Protocol):
    """Turns finished prompts into rows. The only place where this package computes or talks to a server.

    Any number of threads and tasks may call `run` and `arun` at once, also inside a running event loop. The work of all callers
    is batched together. `arun` never blocks the loop.

    Engines may have more attributes: `where` (a short description of the place where it computes, without credentials), `alive`
    (False after the engine has died), `device`, `dtype`, `memory`, `conventions`
    (what the model's folder declares about its texts). A wrapper (`EngineWrapper`) passes them on.
    """

    @property
    def backend(self) -> str:
        """The name under which the engine is registered: `torch`, `vllm`, `http`, `fake` or a third party's."""

    @property
    def task(self) -> Task:
        """`embed` or `rerank`; jobs of the other task are refused."""

    @property
    def model(self) -> str:
        """The model's name as the caller passed it."""

    @property
    def tokenizer(self) -> Tokenizer | None:
        """The model's tokenizer; None if the engine counts and cuts the prompts itself (see `Job`)."""

    @property
    def max_tokens(self) -> int | None:
        """Length of the longest prompt that the model accepts, in tokens; None if it is unknown before the first call."""

    @property
    def dimensions(self) -> int | None:
        """Width of a full embedding; None for a reranker, or if it is unknown before the first call."""

    @property
    def capabilities(self) -> Capabilities:
        """What only some engines can do, and whether this one can."""

    def fingerprint(self) -> Fingerprint:
        """Which model the engine runs, and in which number format.

        An engine over HTTP asks its server, each time: from a coroutine, use `await asyncio.to_thread(engine.fingerprint)`.

        Raises:
            EngineError: If a server fails.
        """

    def run(self, job: Job) -> Reply:
        """Run a job and wait for it. The reply to an empty job is empty; the model or the server is not called."""

    async def arun(self, job: Job) -> Reply:
        """As `run`, without blocking the event loop."""

    def close(self) -> None:
        """Free memory, threads and connections. It may be called twice. Later runs raise `EngineClosed`."""


class Opened:
    """An opened engine. Its copies, shallow and deep, are the engine itself: nobody wants the model twice in memory."""

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise ConfigError(f"{self!r} can't be pickled: it is an opened engine", advice="Open an engine in each process")


class Submitting(Opened, ABC):
    """`run` and `arun` for engines that compute elsewhere (in a thread, a process or a server) and get their jobs by `_submit`."""

    @abstractmethod
    def _submit(self, job: Job) -> Future[Reply]:
        """Queue a job. Cancelling the future drops the prompts that are not started."""

    def run(self, job: Job) -> Reply:
        """Run a job and wait for it. An interrupt drops the prompts that are not started. See `Engine.run`."""
        return waited(self._submit(job))

    async def arun(self, job: Job) -> Reply:
        """Run a job without blocking the event loop. Cancelling the task drops the prompts that are not started."""
        return await asyncio.wrap_future(self._submit(job))


def conventions_of(engine: Engine) -> TextConventions:
    """What the model's folder declares about its texts; the model card's where the engine does not know it."""
    declared = getattr(engine, "conventions", None)
    return declared if isinstance(declared, TextConventions) else MODEL_CARD


def waited(future: Future[T]) -> T:
    """The result of a future. An interrupt while waiting cancels it."""
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def check_task(engine: Engine, job: Job) -> None:
    """Refuse a job of the other task.

    Raises:
        EngineError: If the engine's model can't do the job's task.
    """
    if job.task != engine.task:
        raise EngineError(f"the {engine.backend} engine for {engine.model} is open for {engine.task}, not for {job.task}")
