"""Detects a fork. A forked process has a copy of the engine without its threads, and would wait for them for ever."""

from __future__ import annotations

import os

from qwen3_integrations.errors import EngineClosed


class ForkGuard:
    """Remembers the process in which an engine was opened.

    Args:
        name: The engine's name, for messages.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._pid = os.getpid()

    @property
    def is_here(self) -> bool:
        """Whether this is the process that opened the engine; False in a forked process."""
        return self._pid == os.getpid()

    def check(self) -> None:
        """Refuse use in another process.

        Raises:
            EngineClosed: In a forked process.
        """
        if not self.is_here:
            raise EngineClosed(
                f"the engine for {self._name} was opened before a fork and works only in the process that opened it",
                advice="Open it again in this process",
            )
