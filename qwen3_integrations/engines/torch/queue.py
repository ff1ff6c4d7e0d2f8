"""One queue for many callers and devices: prompts of all waiting jobs share forward passes."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future

from qwen3_integrations.core.fork_guard import ForkGuard, leave_to_parent
from qwen3_integrations.core.types import Job, Reply
from qwen3_integrations.engines.torch.passes import Device
from qwen3_integrations.engines.torch.waiting import WaitingJobs
from qwen3_integrations.engines.torch.worker import DeviceWorker


class JobQueue:
    """Takes jobs from any thread, and runs their prompts on one or several devices.

    Each device has a worker, which takes the next pass when its device is free. See `WaitingJobs` for the order, and `DeviceWorker` for
    what happens when a pass fails.

    Args:
        name: The engine's name, for messages.
        devices: The devices; at least one.
    """

    def __init__(self, name: str, devices: Sequence[Device]) -> None:
        self._name, self._devices = name, tuple(devices)
        self._fork_guard = ForkGuard(name)
        self._waiting = WaitingJobs(name, len(devices))
        self._workers = [DeviceWorker(self._waiting, device) for device in devices]

    def __len__(self) -> int:
        """Number of jobs that are not finished."""
        return len(self._waiting)

    def submit(self, job: Job) -> Future[Reply]:
        """Queue a job. Cancelling the future drops the prompts that are in no pass yet.

        Raises:
            EngineClosed: After `close`, and in a process that was forked from the one that opened the engine.
        """
        self._fork_guard.check()
        if not job.prompts:
            nothing: Future[Reply] = Future()
            nothing.set_result(Reply(self._devices[0].runner.empty_rows(), ()))
            return nothing
        return self._waiting.add(job)

    def in_child(self) -> JobQueue:
        """In a forked process, a queue with the same models and threads of this process.

        Raises:
            EngineClosed: If a pass was computed at the moment of the fork: it stands still here for ever, with all that it holds.
        """
        if any(worker.computes for worker in self._workers):
            raise self._fork_guard.refusal("computed at the moment of the fork")
        leave_to_parent(*(worker.thread for worker in self._workers))
        return JobQueue(self._name, self._devices)

    def close(self) -> None:
        """Finish the running passes, refuse the remaining jobs, and free the memory. Any thread may call it, also twice."""
        if not self._fork_guard.is_here:
            return
        self._waiting.close()
        threads = [worker.thread for worker in self._workers]
        if threading.current_thread() not in threads:
            for thread in threads:
                thread.join()
