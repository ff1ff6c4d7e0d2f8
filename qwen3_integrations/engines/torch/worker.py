"""One thread for each device: it takes prompts that wait, and runs them in passes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress

from qwen3_integrations.core.types import Rows
from qwen3_integrations.engines.torch.packing import suffix_tokens
from qwen3_integrations.engines.torch.passes import Device, PassTooLarge, is_usable
from qwen3_integrations.engines.torch.waiting import PassItems, WaitingJobs

log = logging.getLogger("qwen3_integrations")

GROW_AFTER = 16
"""After this number of passes without a lack of memory, the size of passes doubles again."""


class DeviceWorker:
    """Runs passes on a device, in a thread of its own.

    The next pass is prepared while the device computes one. If a pass needs more memory than the device has, its prompts are retried in
    passes of half the size. The size doubles again after `GROW_AFTER` passes without an error.

    If a pass fails for another reason, its jobs fail. But if there are other devices, and this one can't compute a pass of one token any
    more, the worker stops, and the others take its prompts.

    Args:
        waiting: The jobs.
        device: The device.
    """

    def __init__(self, waiting: WaitingJobs, device: Device) -> None:
        self._waiting, self._device, self._runner = waiting, device, device.runner
        self._budget = device.budget
        self._passes_since_error = 0
        self._left_out = False
        self.computes = False
        """Whether a pass is computed by this thread at this moment."""
        self.thread = threading.Thread(target=self._work, name=f"qwen3 {device.name}", daemon=True)
        self.thread.start()

    def _work(self) -> None:
        in_flight: tuple[PassItems, Callable[[], Rows]] | None = None
        while not self._left_out:
            items = self._waiting.take(self._budget, wait=in_flight is None)
            started = self._start_pass(items) if items else None
            for one in (in_flight, None if self._runner.asynchronous else started):
                if one:
                    self._finish_pass(*one)
            in_flight = started if self._runner.asynchronous else None
            if self._waiting.closed and not in_flight:
                break
        if self._left_out:
            if in_flight:
                self._finish_pass(*in_flight)
            with suppress(Exception):  # a device that has failed may refuse even this
                self._runner.close()
        else:
            self._waiting.leave()
            self._runner.close()

    def _start_pass(self, items: PassItems) -> tuple[PassItems, Callable[[], Rows]] | None:
        """Start a pass; None if it failed or was too large."""
        try:
            self.computes = True
            try:
                return items, self._runner.start([pending.job.prompts[index] for pending, index in items])
            finally:
                self.computes = False
        except PassTooLarge as error:
            self._halve(items, error)
        except Exception as error:  # noqa: BLE001  every error of a pass goes to the jobs in it
            self._failed(items, error)
        return None

    def _halve(self, items: PassItems, error: PassTooLarge) -> None:
        """Give back the prompts of a pass that was too large, and halve the size of passes."""
        tokens = sum(suffix_tokens(pending.job.prompts[index]) for pending, index in items)
        if len(items) == 1:
            detail = f"for one prompt of {tokens} tokens: free memory on the device, or lower max_tokens"
            self._waiting.fail(items, PassTooLarge(f"{error}, {detail}"))
            return
        self._budget, self._passes_since_error = max(1, min(self._budget, tokens) // 2), 0
        name = self._device.name
        log.warning("%s: a pass of %d tokens was too large (%s); passes now have at most %d", name, tokens, error, self._budget)
        self._waiting.give_back(items)

    def _finish_pass(self, items: PassItems, wait: Callable[[], Rows]) -> None:
        try:
            rows = wait()
        except Exception as error:  # noqa: BLE001  as in _start_pass
            self._failed(items, error)
            return
        try:
            self._waiting.finish(items, rows)
        except Exception as error:  # noqa: BLE001  rows of another number or shape
            self._waiting.fail(items, error)
            return
        self._passes_since_error += 1
        if self._budget < self._device.budget and self._passes_since_error >= GROW_AFTER:
            self._budget, self._passes_since_error = min(self._device.budget, 2 * self._budget), 0

    def _failed(self, items: PassItems, error: Exception) -> None:
        if not self._left_out:
            if not self._waiting.has_others or is_usable(self._runner) or not self._waiting.leave_to_others():
                self._waiting.fail(items, error)
                return
            self._left_out = True
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            log.warning("%s failed and is left out, the other devices take its work: %s", self._device.name, reason)
        self._waiting.retry(items, error)
