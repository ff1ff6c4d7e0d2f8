"""Functions that an option names as `module:function`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from qwen3_integrations.errors import ConfigError

if TYPE_CHECKING:
    from qwen3_integrations.core.preparation import Preprocess


def named_function(name: str | None) -> Preprocess | None:
    """The function that `--preprocess` names. Modules of the current folder are found too.

    Raises:
        ConfigError: If the module can't be imported, or has no such function; and as `check_preprocess`.
    """
    from qwen3_integrations.core.preparation import check_preprocess

    if name is None:
        return None
    module_name, colon, path = name.partition(":")
    if not colon or not module_name or not path:
        raise ConfigError(f"must be MODULE:FUNCTION, such as clean:tidy, not {name!r}", option="preprocess")
    found = _imported(module_name)
    for part in path.split("."):
        if not hasattr(found, part):
            raise ConfigError(
                f"names {path!r}, which {module_name} ({getattr(found, '__file__', 'built-in')}) has not", option="preprocess"
            )
        found = getattr(found, part)
    check_preprocess(found)
    return found  # type: ignore[return-value]  # checked to be a function


def _imported(module_name: str) -> object:
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.append(here)
    try:
        return importlib.import_module(module_name)
    except Exception as error:
        words = " ".join(str(error).split())
        raise ConfigError(
            f"names the module {module_name!r}, which can't be imported: {type(error).__name__}: {words:.300}", option="preprocess"
        ) from error
    finally:
        if added:
            sys.path.remove(here)
