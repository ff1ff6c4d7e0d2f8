"""A time limit for a whole call, in sync and async code."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from qwen3_integrations.core.engine import waited
from qwen3_integrations.core.event_loop import BackgroundLoop
from qwen3_integrations.errors import DeadlineExceeded

T = TypeVar("T")

Call = Callable[[], Coroutine[Any, Any, T]]
"""Starts a call."""


async def awithin(call: Call[T], deadline_s: float, model: str) -> T:
    """The result of a call that must end in time. A call that does not is cancelled: prompts that are not started are dropped.

    Args:
        call: Starts the call.
        deadline_s: Seconds from now.
        model: The model, for the message.

    Raises:
        DeadlineExceeded: If the call did not end in time.
    """
    try:
        async with asyncio.timeout(deadline_s) as limit:
            return await call()
    except TimeoutError as error:
        if not limit.expired():  # the call has a timeout of its own
            raise
        reason = f"{model} did not finish within the deadline of {deadline_s:g} s"
        raise DeadlineExceeded(reason, model=model, advice="Pass fewer or shorter documents, or a longer deadline_s") from error


def within(call: Call[T], deadline_s: float, model: str) -> T:
    """As `awithin`, for sync callers, also inside a running event loop."""
    loop = BackgroundLoop(model)
    try:
        return waited(loop.submit(awithin(call, deadline_s, model)))
    finally:
        loop.close(_nothing)


async def _nothing() -> None:
    pass
