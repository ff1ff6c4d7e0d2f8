"""An event loop in a thread of its own, for sync and async callers alike."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from qwen3_integrations.core.fork_guard import ForkGuard
from qwen3_integrations.errors import EngineClosed

log = logging.getLogger("qwen3_integrations")

T = TypeVar("T")


class BackgroundLoop:
    """An event loop in a thread of its own.

    Args:
        name: What it works for, in messages.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._birthplace = ForkGuard(name)
        self._lock = threading.Lock()
        self._closing = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=f"qwen3 {name}", daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine; cancelling the future cancels it.

        Raises:
            EngineClosed: If the loop is closed, or this is a process that was forked from its own.
        """
        if not self._birthplace.is_here:
            work.close()
        self._birthplace.check()
        with self._lock:  # so that nothing is started behind the closing
            if self._closing:
                work.close()
                raise self.closed()
            return asyncio.run_coroutine_threadsafe(self._guarded(work), self._loop)

    def close(self, last: Callable[[], Awaitable[None]]) -> None:
        """Cancel what runs, await `last`, and end the thread. May be called from any thread, and more than once."""
        if not self._birthplace.is_here:
            return
        with self._lock:
            if not self._closing:
                self._closing = True
                self._loop.call_soon_threadsafe(lambda: self._loop.create_task(self._end(last)))
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def closed(self) -> EngineClosed:
        """The error for calls that come too late."""
        return EngineClosed(f"the engine for {self._name} is closed; open it again")

    def _run(self) -> None:
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    async def _guarded(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return await work
        except BaseExceptionGroup as group:  # the first failure; its siblings were only cancelled for it
            first = group.exceptions[0]
        except asyncio.CancelledError:
            if self._closing:
                raise self.closed() from None
            raise
        raise first  # not in the except block: it would be shown with the group as its context

    async def _end(self, last: Callable[[], Awaitable[None]]) -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        try:
            await last()
        except Exception as error:  # noqa: BLE001  whatever does not close in order must not keep the rest from it
            log.warning("closing %s failed: %s: %s", self._name, type(error).__name__, error)
        await self._loop.shutdown_asyncgens()
        await self._loop.shutdown_default_executor()
        self._loop.stop()
