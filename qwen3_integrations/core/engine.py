"""The protocol of engines: one operation, sync and async, and what an engine says of itself."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

from qwen3_integrations.core.fingerprint import Fingerprint
from qwen3_integrations.core.prompts import MODEL_CARD, TextConventions
from qwen3_integrations.core.tokenizer import Tokenizer
from qwen3_integrations.core.types import Job, Reply, Task
from qwen3_integrations.errors import EngineError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What only some engines can do. The defaults are what every engine can.

    Attributes:
        exact: True where the row of a prompt is the same to 1e-5 whatever other prompts are computed with it: in float32. In
            bfloat16 and float16 a row depends on the size of its batch.
        gradients: True where the engine can give gradients of a result with respect to its prompt.
        modalities: What prompts may hold.
        devices: On how many devices the model is computed; None where that is not known, such as behind a server.
    """

    exact: bool = False
    gradients: bool = False
    modalities: frozenset[str] = frozenset({"text"})
    devices: int | None = 1


@runtime_checkable
class Engine(Protocol):
    """Turns finished prompts into rows. The only place where this package computes or talks to a server.

    `run` and `arun` may be called from any number of threads and tasks at once, inside a running event loop
    too; the work of all callers is batched together. `arun` never blocks the loop.

    Engines may offer more beside it, each by its documented name: `where` (where it computes, in a few words, without
    credentials), `alive` (False once it has died), `device`, `dtype`, `memory`, `conventions` (what the model's folder declares about its
    texts). A wrapper (`EngineWrapper`) passes them on.
    """

    @property
    def backend(self) -> str:
        """The name under which the engine is registered: `torch`, `vllm`, `http`, `fake` or a third party's."""

    @property
    def task(self) -> Task:
        """`embed` or `rerank`; jobs of the other are refused."""

    @property
    def model(self) -> str:
        """The model's name as it was asked for."""

    @property
    def tokenizer(self) -> Tokenizer | None:
        """The model's tokenizer; None when the engine counts and cuts itself (see `Job`)."""

    @property
    def max_tokens(self) -> int | None:
        """The longest prompt the model takes, in tokens; None when that is not known before the first call."""

    @property
    def dimensions(self) -> int | None:
        """Width of a full embedding; None for a reranker, or when not known before the first call."""

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
        """Run a job and wait for it. An empty job is an empty reply, with no call."""

    async def arun(self, job: Job) -> Reply:
        """As `run`, without blocking the event loop."""

    def close(self) -> None:
        """Give back memory, threads and connections. Closing twice is fine; using it afterwards is `EngineClosed`."""


class Submitting(ABC):
    """`run` and `arun` of an engine that takes jobs with `_submit` and works elsewhere: in a thread, a process or a server."""

    @abstractmethod
    def _submit(self, job: Job) -> Future[Reply]:
        """Take a job; cancelling the future drops what has not begun."""

    def run(self, job: Job) -> Reply:
        """Run a job and wait for it; an interrupt drops what has not begun. See `Engine.run`."""
        return waited(self._submit(job))

    async def arun(self, job: Job) -> Reply:
        """Run a job without blocking the event loop; cancelling the task drops what has not begun."""
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
        raise EngineError(f"the engine for {engine.model} is open for {engine.task}, not for {job.task}")
