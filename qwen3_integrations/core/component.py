"""What `Embedder` and `Reranker` share: an engine, the usage so far, and how they are copied."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Any, Self

from qwen3_integrations.core.engine import Engine
from qwen3_integrations.core.fork_guard import process_lock
from qwen3_integrations.core.results import Usage


class Component(ABC):
    """A component on an engine. A copy, shallow or deep, has the same settings and the same engine, and counts its own usage.

    It is pickled as its settings, if its engine can be pickled: an engine of `open_engine` without secrets. The copy opens its own engine.

    Args:
        engine: An opened engine.

    Attributes:
        engine: The engine.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._usage = Usage()
        self._lock = process_lock()

    @property
    def usage(self) -> Usage:
        """Total usage of all calls so far."""
        return self._usage

    @abstractmethod
    def _settings(self) -> dict[str, Any]:
        """The arguments of the constructor, without the engine."""

    def _count(self, used: Usage) -> None:
        with self._lock:
            self._usage += used

    def __copy__(self) -> Self:
        # A wrapper copies itself: `SharedEngine` counts its users. Other engines are never copied.
        engine = copy.copy(self.engine) if hasattr(type(self.engine), "__copy__") else self.engine
        return type(self)(engine, **self._settings())

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.__copy__()

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, (type(self), self.engine, self._settings())


def _remade(cls: type[Component], engine: Engine, settings: dict[str, Any]) -> Component:
    return cls(engine, **settings)
