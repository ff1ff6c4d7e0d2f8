"""Optional dependencies: imported when needed. If one is missing, the error has the pip command that installs it."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType
from typing import Any

from qwen3_integrations.errors import MissingExtra


def installed(module: str) -> bool:
    """Whether a module can be imported. It is not imported."""
    return importlib.util.find_spec(module) is not None


def require(module: str, extra: str) -> Any:
    """Import an optional dependency.

    Args:
        module: The import name of the dependency.
        extra: The extra of this package that installs it.

    Raises:
        MissingExtra: If it, or one of its own dependencies, is not installed.
    """
    try:
        imported: ModuleType = importlib.import_module(module)
    except ImportError as error:
        advice = f"Install it with: pip install 'qwen3-integrations[{extra}]'"
        raise MissingExtra(f"{module} can't be imported ({error})", advice=advice) from error
    return imported
