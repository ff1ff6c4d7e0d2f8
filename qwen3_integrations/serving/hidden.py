"""Values that stay in their process: keys, and environments that may hold keys.

Code that writes an object's fields (`asdict`, pydantic, a repr) does not see them, and pickling is refused: without its key, a copy in
another process would start a server with another key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any, Self, cast

from qwen3_integrations.errors import ConfigError


class Hidden:
    """The default of a dataclass's `InitVar`: an attribute that is not a field; None unless it is given.

    Args:
        metadata: As of `dataclasses.field`.
    """

    def __init__(self, metadata: Mapping[str, Any] = MappingProxyType({})) -> None:
        self.metadata = metadata

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return None if instance is None else instance._hidden[self._name]


class HoldsHidden:
    """Base of a frozen dataclass (`eq=False`) with `Hidden` attributes, which `__post_init__` passes to `_hide`.

    Copies in the same process, `dataclasses.replace` among them, keep them; equal objects have equal ones.
    """

    __slots__ = ("_hidden",)

    _hidden: dict[str, Any]

    def _hide(self, **values: Any) -> None:
        object.__setattr__(self, "_hidden", values)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        secret = [name for name, value in self._hidden.items() if value]
        if secret:
            raise ConfigError(
                f"{type(self).__name__} can't be pickled: {' and '.join(secret)} may hold a secret, which would be written out with it: "
                "leave it out, and give it in the other process"
            )
        return _remade, (type(self), self._shown())

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and (self._shown(), self._hidden) == (other._shown(), other._hidden)

    def __hash__(self) -> int:
        return hash((type(self), *self._shown().values()))

    def _shown(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(cast("Any", self))}


class Masked:
    """A secret in an attribute: its repr is stars, and it can't be pickled."""

    __slots__ = ("value",)

    def __init__(self, value: str | None) -> None:
        self.value = value

    def __repr__(self) -> str:
        return "None" if self.value is None else "'**********'"

    def __reduce__(self) -> tuple[Any, ...]:
        raise _key_stays()

    def __getstate__(self) -> object:
        raise _key_stays()


def _key_stays() -> ConfigError:
    return ConfigError("a server's key can't be pickled: give it in the other process")


def _remade(cls: type[Any], values: dict[str, Any]) -> Any:
    return cls(**values)
