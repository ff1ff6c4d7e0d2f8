"""Engines shared within the process: one engine for equal settings, closed with its last user."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Self

from qwen3_integrations.core.engine import Engine
from qwen3_integrations.core.fingerprint import Fingerprint
from qwen3_integrations.core.fork_guard import ForkGuard, leave_to_parent
from qwen3_integrations.core.html import engine_facts, facts_table
from qwen3_integrations.core.types import Job
from qwen3_integrations.engines.secrets import check_no_secrets
from qwen3_integrations.engines.wrapper import Around, EngineWrapper
from qwen3_integrations.errors import EngineClosed, own_copy


@dataclass(slots=True)
class _Shared:
    engine: Future[Engine]
    make: Callable[[], Engine]  # keeps the options alive, because their identities are part of the key
    users: int = 0

    @property
    def usable(self) -> bool:
        """False if the engine did not open, or has died. Then the next user gets a new one."""
        return not self.engine.done() or (self.engine.exception() is None and getattr(self.engine.result(), "alive", True))


_open: dict[tuple[str, ...], _Shared] = {}
_lock = threading.RLock()  # not held while an engine opens, because finalizers in other threads may need it


def _forget() -> None:
    """Reset in a forked process: the parent's engines do not work here, and a thread that does not exist here may hold the lock."""
    global _lock  # noqa: PLW0603
    _lock = threading.RLock()
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


@dataclass(frozen=True, slots=True)
class Opening:
    """How an engine was opened, so that another process can open its own.

    Attributes:
        open: `open_engine`.
        settings: Its arguments but the options.
        options: The options of the engine.
    """

    open: Callable[..., SharedEngine]
    settings: Mapping[str, Any]
    options: Mapping[str, Any]

    def again(self) -> SharedEngine:
        """Open an engine with the same settings."""
        return self.open(**self.settings, **self.options)


def share(key: tuple[str, ...], make: Callable[[], Engine], opening: Opening) -> SharedEngine:
    """Open an engine, or share the open engine with the same key.

    Args:
        key: Equal keys mean equal engines.
        make: Opens a new engine. No lock is held during the call.
        opening: How this user opens it.
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
    elif failure := shared.engine.exception():
        raise own_copy(failure)
    return SharedEngine(key, shared, opening)


def _release(key: tuple[str, ...], shared: _Shared) -> None:
    with _lock:
        shared.users -= 1
        if shared.users:
            return
        if _open.get(key) is shared:
            del _open[key]
    shared.engine.result().close()


class SharedEngine(EngineWrapper):
    """One user's reference to an engine that others may also use. `open_engine` returns it.

    The engine closes with its last user. A copy is a user of its own. It is pickled as its settings, if they hold no secret: the copy opens
    an engine in the other process.
    """

    def __init__(self, key: tuple[str, ...], shared: _Shared, opening: Opening) -> None:
        super().__init__(shared.engine.result())
        self._key, self._shared, self._opening = key, shared, opening
        self._fork_guard = ForkGuard(self.model)
        self._release = weakref.finalize(self, _release, key, shared)
        self._release.atexit = True

    def around(self, job: Job) -> Around:
        """Pass the job on. After `close`, refuse it."""
        self._check_open()
        return (yield from super().around(job))

    def fingerprint(self) -> Fingerprint:
        """The engine's fingerprint. See `Engine.fingerprint`."""
        self._check_open()
        return super().fingerprint()

    def close(self) -> None:
        """End this use. The engine itself closes with its last user."""
        self._release()

    def _check_open(self) -> None:
        if not self._release.alive:
            raise EngineClosed(f"this engine for {self.model} is closed", advice="Call open_engine again")
        self._fork_guard.reopened(self._reopen)

    def _reopen(self) -> None:
        """In a forked process, open an engine in place of the parent's, unless the parent's does that itself."""
        if getattr(self.engine, "reopens_itself", False):
            return
        fresh = share(self._key, self._shared.make, self._opening)
        fresh._release.detach()
        leave_to_parent(self.engine, self._shared)
        of_parent = self._release
        self.engine, self._shared, self._release = fresh.engine, fresh._shared, weakref.finalize(self, _release, self._key, fresh._shared)
        of_parent.detach()

    def __copy__(self) -> Self:
        with _lock:
            self._check_open()
            self._shared.users += 1
        return type(self)(self._key, self._shared, self._opening)

    def __reduce__(self) -> tuple[Any, ...]:  # type: ignore[override]  # other wrappers can't be pickled
        self._check_open()
        settings = self._opening.settings
        check_no_secrets(f"the engine for {self.model}", settings["base_url"], settings["api_key"], self._opening.options)
        return Opening.again, (self._opening,)

    def __repr__(self) -> str:
        return repr(self.engine) if self._release.alive else f"<closed engine for {self.model}>"

    def _repr_html_(self) -> str:
        return facts_table("Engine" if self._release.alive else "Closed engine", engine_facts(self))
