"""A widget that looks at something now and then, and closely while somebody sees it."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Future
from typing import Any

from qwen3_integrations.notebook.widget import Widget

_SHOWN_S = 600.0
"""Seconds for which a view counts as shown that has not said so again (it does so each minute): a kernel that works through a long
cell hears nothing meanwhile, and a page that was lost never says good-bye."""


class PollingWidget(Widget):
    """Base of widgets that watch.

    Views say `show` when they come into sight and `hide` when they leave it; a subclass takes both among its actions.
    """

    def __init__(self, **traits: Any) -> None:
        self._views: dict[str, float] = {}
        self._looking = asyncio.Lock()
        self._watching: Future[None] | None = None
        super().__init__(**traits)

    def _see(self) -> None:
        """Look at what is watched; called in a thread of its own, one call at a time. Little is needed unless `_is_shown`."""
        raise NotImplementedError

    def _pause_s(self) -> float:
        """Seconds until the next look."""
        raise NotImplementedError

    @property
    def _is_shown(self) -> bool:
        now = time.monotonic()
        return any(now - at < _SHOWN_S for at in list(self._views.values()))

    def _show(self, view: str) -> None:
        is_new = view not in self._views
        self._views[view] = time.monotonic()
        if is_new:
            self._look_now()

    def _hide(self, view: str) -> None:
        self._views.pop(view, None)

    def _watch(self) -> None:
        """Begin to look now and then, if that has not begun."""
        if self._watching is None and not self._is_closed:
            self._watching = self._in_background(self._keep_looking())

    def _look_now(self) -> None:
        """Look out of turn, if there is anything to look at or anybody to see it."""
        if (self._is_shown or self._watching is not None) and not self._is_closed:
            self._watch()
            self._in_background(self._look())

    async def _keep_looking(self) -> None:
        while True:
            await self._look()
            await asyncio.sleep(self._pause_s())

    async def _look(self) -> None:
        async with self._looking:
            try:
                await asyncio.to_thread(self._see)
            except Exception as error:  # noqa: BLE001  the next look may go well
                self._fail(error)
