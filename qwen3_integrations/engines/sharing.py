"""Engines shared within the process: one engine for equal settings, closed with its last user."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from qwen3_integrations.core.engine import Engine
from qwen3_integrations.core.html import engine_facts, facts_table
from qwen3_integrations.core.tokenizer import Tokenizer
from qwen3_integrations.core.types import Job, Reply, Task
from qwen3_integrations.errors import EngineClosed, own_copy


@dataclass(slots=True)
class _Shared:
    engine: Future[Engine]
    make: Callable[[], Engine]  # kept for the options in it, whose identities are part of the key
    users: int = 0

    @property
    def usable(self) -> bool:
        """False when it failed to open, or has died since: the next user gets a new one."""
        return not self.engine.done() or (self.engine.exception() is None and getattr(self.engine.result(), "alive", True))


_open: dict[tuple[str, ...], _Shared] = {}
_lock = threading.RLock()  # never held while an engine opens: a finalizer in any thread may want to release another


def _forget() -> None:
    """In a forked process: its parent's engines do not work here, and a lock may be held by a thread that is not here."""
    global _lock  # noqa: PLW0603
    _lock = threading.RLock()
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def share(key: tuple[str, ...], make: Callable[[], Engine]) -> SharedEngine:
    """Open an engine, or share the one that is open under the same key.

    Args:
        key: Equal keys mean equal engines.
        make: Opens a new engine; called without a lock held.
    """
    with _lock:
        shared = _open.get(key)
        first = shared is None or not shared.usable
        if shared is None or first:
            shared = _open[key] = _Shared(Future(), make)
        shared.users += 1
    if first:
        try:
            shared.engine.set_result(make())
        except BaseException as error:
            shared.engine.set_exception(error)
            with _lock:
                if _open.get(key) is shared:
                    del _open[key]
            raise
    elif error := shared.engine.exception():
        raise own_copy(error)
    return SharedEngine(shared.engine.result(), lambda: _release(key, shared))


def _release(key: tuple[str, ...], shared: _Shared) -> None:
    with _lock:
        shared.users -= 1
        if shared.users:
            return
        if _open.get(key) is shared:
            del _open[key]
    shared.engine.result().close()


class SharedEngine:
    """One user's hold on an engine that others may use too; what `open_engine` returns."""

    def __init__(self, engine: Engine, release: Callable[[], None]) -> None:
        self._engine = engine
        self._release = weakref.finalize(self, release)
        self._release.atexit = True

    @property
    def backend(self) -> str:
        """`torch`, `vllm`, `http` or `fake`."""
        return self._engine.backend

    @property
    def task(self) -> Task:
        """`embed` or `rerank`."""
        return self._engine.task

    @property
    def model(self) -> str:
        """The model's name as it was asked for."""
        return self._engine.model

    @property
    def tokenizer(self) -> Tokenizer | None:
        """The model's tokenizer, if one is at hand."""
        return self._engine.tokenizer

    @property
    def max_tokens(self) -> int | None:
        """The longest prompt the model takes, in tokens, if known."""
        return self._engine.max_tokens

    @property
    def dimensions(self) -> int | None:
        """Width of a full embedding, if known."""
        return self._engine.dimensions

    @property
    def where(self) -> str | None:
        """Where it computes, in a few words, if the engine says so; never holds credentials."""
        return getattr(self._engine, "where", None)

    def run(self, job: Job) -> Reply:
        """Run a job; see `Engine.run`."""
        return self._checked().run(job)

    async def arun(self, job: Job) -> Reply:
        """Run a job; see `Engine.arun`."""
        return await self._checked().arun(job)

    def close(self) -> None:
        """End this user's hold. The engine itself closes with its last user."""
        self._release()

    def __enter__(self) -> SharedEngine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _checked(self) -> Engine:
        if not self._release.alive:
            raise EngineClosed(f"this engine for {self.model} is closed", advice="Call open_engine again")
        return self._engine

    def __repr__(self) -> str:
        return repr(self._engine) if self._release.alive else f"<closed engine for {self.model}>"

    def _repr_html_(self) -> str:
        return facts_table("Engine" if self._release.alive else "Closed engine", engine_facts(self))
