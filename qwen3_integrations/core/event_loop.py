"""An event loop in its own thread, for sync and async callers."""

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
    """An event loop in its own thread.

    Args:
        name: The owner's name, for messages.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._fork_guard = ForkGuard(name)
        self._lock = threading.Lock()
        self._closing = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=f"qwen3 {name}", daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine; cancelling the future cancels it.

        Raises:
            EngineClosed: If the loop is closed, or this process was forked from the one that opened it.
        """
        if not self._fork_guard.is_here:
            work.close()
        self._fork_guard.check()
        with self._lock:  # no coroutine may start after `close`
            if self._closing:
                work.close()
                raise self.closed()
            return asyncio.run_coroutine_threadsafe(self._guarded(work), self._loop)

    def close(self, last: Callable[[], Awaitable[None]], *, idle: bool = False) -> None:
        """Cancel all running coroutines, await `last`, and end the thread, which is awaited too. Any thread may call it, also twice.

        Args:
            last: The last work.
            idle: All coroutines have ended or are being cancelled: they are not cancelled again, and the thread is not awaited.
        """
        if not self._fork_guard.is_here:
            return
        with self._lock:
            if not self._closing:
                self._closing = True
                self._loop.call_soon_threadsafe(lambda: self._loop.create_task(self._end(last, idle)))
        if not idle and threading.current_thread() is not self._thread:
            self._thread.join()

    def closed(self) -> EngineClosed:
        """The error for calls after `close`."""
        return EngineClosed(f"the engine for {self._name} is closed", advice="Open it again")

    def _run(self) -> None:
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    async def _guarded(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return await work
        except BaseExceptionGroup as group:  # only the first failure counts: it caused the cancellation of the others
            first = group.exceptions[0]
        except asyncio.CancelledError:
            if self._closing:
                raise self.closed() from None
            raise
        raise first  # outside the except block, so that the traceback does not show the group as context

    async def _end(self, last: Callable[[], Awaitable[None]], idle: bool) -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in () if idle else others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        try:
            await last()
        except Exception as error:  # noqa: BLE001  an error in one cleanup step must not prevent the next ones
            log.warning("closing %s failed: %s: %s", self._name, type(error).__name__, error)
        await self._loop.shutdown_asyncgens()
        await self._loop.shutdown_default_executor()
        self._loop.stop()
