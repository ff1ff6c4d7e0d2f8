"""What `Embedder` and `Reranker` share: an engine, the usage so far, and how they are copied."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Any, Self

from qwen3_integrations.core.engine import Engine
from qwen3_integrations.core.fork_guard import process_lock
from qwen3_integrations.core.preparation import OnBadText, Preparation, Preprocess, check_can_be_pickled, name_of
from qwen3_integrations.core.results import Usage


class Component(ABC):
    """A component on an engine. A copy, shallow or deep, has the same settings and the same engine, and counts its own usage.

    It is pickled as its settings, if its engine can be pickled: an engine of `open_engine` without secrets. The copy opens its own engine.

    Args:
        engine: An opened engine.
        on_bad_text, preprocess: See `Preparation`.

    Attributes:
        engine: The engine.
    """

    def __init__(self, engine: Engine, on_bad_text: OnBadText = "error", preprocess: Preprocess | None = None) -> None:
        self._preparation = Preparation(on_bad_text, preprocess)
        self.engine = engine
        self._usage = Usage()
        self._lock = process_lock()

    @property
    def usage(self) -> Usage:
        """Total usage of all calls so far."""
        return self._usage

    @property
    def on_bad_text(self) -> OnBadText:
        """What happens to texts with lone surrogates: `error`, or `replace` by U+FFFD."""
        return self._preparation.on_bad_text

    @property
    def preprocess(self) -> Preprocess | None:
        """The function that changes documents before the model reads them; None for none."""
        return self._preparation.preprocess

    @property
    def _takes_any_text(self) -> bool:
        return self._preparation.on_bad_text == "replace"

    def _preparation_words(self) -> str:
        """The settings of the preparation for `repr`; empty for the usual ones."""
        words = f", on_bad_text={self.on_bad_text!r}" if self.on_bad_text != "error" else ""
        return words + (f", preprocess={name_of(self.preprocess)}" if self.preprocess else "")

    def _preparation_facts(self) -> dict[str, object]:
        """The same for HTML."""
        facts: dict[str, object] = {"lone surrogates": "replaced"} if self.on_bad_text == "replace" else {}
        return facts | ({"preprocess": name_of(self.preprocess)} if self.preprocess else {})

    @abstractmethod
    def _settings(self) -> dict[str, Any]:
        """The arguments of the constructor, without the engine and the preparation."""

    def _count(self, used: Usage) -> None:
        with self._lock:
            self._usage += used

    def __copy__(self) -> Self:
        # A wrapper copies itself: `SharedEngine` counts its users. Other engines are never copied.
        engine = copy.copy(self.engine) if hasattr(type(self.engine), "__copy__") else self.engine
        return type(self)(engine, **self._all_settings())

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.__copy__()

    def __reduce__(self) -> tuple[Any, ...]:
        check_can_be_pickled(self.preprocess)
        return _remade, (type(self), self.engine, self._all_settings())

    def _all_settings(self) -> dict[str, Any]:
        return {**self._settings(), "on_bad_text": self.on_bad_text, "preprocess": self.preprocess}


def _remade(cls: type[Component], engine: Engine, settings: dict[str, Any]) -> Component:
    return cls(engine, **settings)
