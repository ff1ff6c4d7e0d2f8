"""A fork copies an engine without its threads: such a copy says so, instead of waiting for them for ever."""

from __future__ import annotations

import os

from qwen3_integrations.errors import EngineClosed


class ForkGuard:
    """Remembers in which process something was made.

    Args:
        name: What it works for, in messages.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._pid = os.getpid()

    @property
    def is_here(self) -> bool:
        """False in a process that was forked from it."""
        return self._pid == os.getpid()

    def check(self) -> None:
        """Refuse to go on elsewhere.

        Raises:
            EngineClosed: In a forked process.
        """
        if not self.is_here:
            raise EngineClosed(
                f"the engine for {self._name} was opened before a fork and works only in the process that opened it",
                advice="Open it again in this process",
            )
