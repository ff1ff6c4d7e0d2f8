"""The time at which each call must have ended."""

from __future__ import annotations

import time
from weakref import WeakKeyDictionary

from qwen3_integrations.core.fork_guard import process_lock
from qwen3_integrations.core.types import Call, Job


class Deadlines:
    """Deadlines of calls, each of which may consist of several jobs.

    Args:
        seconds: Seconds for a whole call, from its first job on; None for no deadline.
    """

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self._ends: WeakKeyDictionary[Call, float] = WeakKeyDictionary()
        self._lock = process_lock()

    def left(self, job: Job) -> float | None:
        """Seconds left for a job; None for no deadline."""
        if self.seconds is None or job.call is None:
            return self.seconds
        now = time.monotonic()
        with self._lock:
            return self._ends.setdefault(job.call, now + self.seconds) - now
