"""A widget that polls something: often while a view of it is visible, else rarely."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Future
from typing import Any

from qwen3_integrations.notebook.widget import Widget, python_ends

_VISIBLE_S = 600.0
"""Seconds for which a view counts as visible after its last message (it sends one each minute). A kernel that runs a long cell
receives no messages, and a page that was lost never sends `hide`."""


class PollingWidget(Widget):
    """Base of widgets that poll.

    A view sends `show` when it becomes visible and `hide` when it no longer is; a subclass lists both among its actions.
    """

    def __init__(self, **traits: Any) -> None:
        self._views: dict[str, float] = {}
        self._lock = asyncio.Lock()
        self._polling: Future[None] | None = None  # while it polls
        super().__init__(**traits)

    def _poll_once(self) -> None:
        """Poll; called in a thread of its own, one call at a time. May do less unless `_is_shown`."""
        raise NotImplementedError

    def _pause_s(self) -> float:
        """Seconds until the next poll."""
        raise NotImplementedError

    @property
    def _is_shown(self) -> bool:
        now = time.monotonic()
        return any(now - at < _VISIBLE_S for at in list(self._views.values()))

    def _show(self, view: str) -> None:
        is_new = view not in self._views
        self._views[view] = time.monotonic()
        if is_new:
            self._poll_soon()

    def _hide(self, view: str) -> None:
        self._views.pop(view, None)
        if not self._is_needed and self._polling is not None:
            self._polling.cancel()
            self._polling = None

    @property
    def _is_needed(self) -> bool:
        """Whether there is something to poll for; else polling ends, and with it the thread, until the next view."""
        return self._is_shown

    def _start_polling(self) -> None:
        """Start polling, unless it has started."""
        if self._polling is None and not self._is_closed:
            self._lock = asyncio.Lock()  # it belongs to the loop that uses it first
            self._polling = self._in_background(self._poll_forever())

    def _poll_soon(self) -> None:
        """Poll now, if polling has started or a view is visible."""
        if (self._is_shown or self._polling is not None) and not self._is_closed:
            self._start_polling()
            self._in_background(self._poll())

    async def _poll_forever(self) -> None:
        while True:
            await self._poll()
            if not self._is_needed:
                break
            await asyncio.sleep(self._pause_s())
        self._polling = None

    async def _poll(self) -> None:
        async with self._lock:
            try:
                await asyncio.to_thread(self._poll_once)
            except Exception as error:  # noqa: BLE001  the next poll may succeed
                if not python_ends():
                    self._fail(error)
