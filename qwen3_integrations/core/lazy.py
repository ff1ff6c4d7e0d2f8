"""Public names of a package that are imported when they are first used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(package: str, modules: Mapping[str, tuple[str, ...]]) -> Callable[[str], Any]:
    """The `__getattr__` of a package (PEP 562).

    Args:
        package: `__name__` of the package.
        modules: Module, relative to the package -> the public names that it defines.

    Example:
        >>> from qwen3_integrations.core.lazy import lazy_names
        >>> find = lazy_names("json", {"decoder": ("JSONDecoder",)})
        >>> find("JSONDecoder").__name__
        'JSONDecoder'
    """
    origin = {name: module for module, names in modules.items() for name in names}

    def find(name: str) -> Any:
        if name in origin:
            return getattr(import_module(f"{package}.{origin[name]}"), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return find
