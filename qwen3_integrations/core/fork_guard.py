"""Forks. A forked process has a copy of an engine without its threads, and with connections that belong to its parent."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

from qwen3_integrations.errors import EngineClosed

_locks: WeakSet[Any] = WeakSet()
_forks = 0
_inherited: list[Any] = []


def process_lock() -> threading.Lock:
    """A lock that is free in a forked process, even if a thread that does not exist there held it."""
    lock = threading.Lock()
    _locks.add(lock)
    return lock


def leave_to_parent(*values: Any) -> None:
    """Keep objects of the parent until this process ends: their finalizers would act on what the parent uses, such as its event loop."""
    _inherited.extend(values)


def this_process() -> tuple[int, int]:
    """What tells this process from those that it was forked from: their ids may be used again."""
    return os.getpid(), _forks


def was_forked() -> bool:
    """Whether this process was forked after this module was imported."""
    return _forks > 0


def _after_fork() -> None:
    global _forks  # noqa: PLW0603
    _forks += 1
    for lock in list(_locks):
        lock._at_fork_reinit()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class ForkGuard:
    """Remembers the process in which an engine was opened.

    Args:
        name: The engine's name, for messages.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._process = this_process()
        self._lock = process_lock()

    @property
    def is_here(self) -> bool:
        """Whether this is the process that opened the engine; False in a forked process."""
        return self._process == this_process()

    def check(self) -> None:
        """Refuse use in another process.

        Raises:
            EngineClosed: In a forked process.
        """
        if not self.is_here:
            raise self.refusal()

    def refusal(self, reason: str = "works only in the process that opened it") -> EngineClosed:
        """The error for use in a forked process."""
        advice = "Open it again in this process, or start one server for all processes (qwen3-integrations serve) and pass its base_url"
        return EngineClosed(f"the engine for {self._name} was opened before a fork and {reason}", advice=advice)

    def reopened(self, reopen: Callable[[], None]) -> None:
        """In a forked process, open the engine again, at its first use there and once for all threads.

        Args:
            reopen: Opens it. If it raises, the next use tries again.
        """
        if self.is_here:
            return
        with self._lock:
            if not self.is_here:
                reopen()
                self._process = this_process()
