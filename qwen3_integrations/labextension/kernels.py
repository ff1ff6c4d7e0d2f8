"""The Python interpreters of the kernels: a server is started with the one that has the engine."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qwen3_integrations.errors import Qwen3Error
from qwen3_integrations.serving.installed import find_server
from qwen3_integrations.serving.options import EngineChoice


@dataclass(frozen=True, slots=True)
class KernelPython:
    """The interpreter of a kernel.

    Attributes:
        kernel: The kernelspec's name.
        title: Its title in Jupyter's menus.
        path: The interpreter.
    """

    kernel: str
    title: str
    path: str


def kernel_pythons(specs: Mapping[str, Mapping[str, Any]], first: str | None = None) -> tuple[KernelPython, ...]:
    """The interpreters of the Python kernels, each once.

    Args:
        specs: The kernelspecs by name, as Jupyter's `KernelSpecManager.get_all_specs` returns them.
        first: The kernelspec that is listed first, such as that of the active notebook.
    """
    found: dict[str, KernelPython] = {}
    for name in sorted(specs, key=lambda name: (name != first, name)):
        spec = specs[name]["spec"]
        path = _interpreter(spec.get("argv") or ()) if str(spec.get("language", "")).lower() == "python" else None
        if path is not None and path not in found:
            found[path] = KernelPython(name, str(spec.get("display_name") or name), path)
    return tuple(found.values())


def python_with(engine: EngineChoice, pythons: Sequence[KernelPython], first: str | None = None) -> str | None:
    """The interpreter for an engine: that of the first kernel if it has the engine, then this process's, then another kernel's.

    Args:
        engine: The engine.
        pythons: The kernels' interpreters.
        first: The kernelspec to prefer.

    Returns:
        A path; None for this process's interpreter, also where no interpreter has the engine.
    """
    own = os.path.realpath(sys.executable)
    preferred = [each.path for each in pythons if each.kernel == first]
    others = [each.path for each in pythons if each.kernel != first]
    for path in (*preferred, sys.executable, *others):
        if _has(engine, path):
            return None if os.path.realpath(path) == own and path == sys.executable else path
    return None


def _has(engine: EngineChoice, path: str) -> bool:
    try:
        if engine != "auto":
            find_server(engine, path)
        elif not _has("torch", path):
            return _has("vllm", path)
    except Qwen3Error:
        return False
    return True


def _interpreter(argv: Sequence[str]) -> str | None:
    """The interpreter in a kernelspec's command; None for a command that does not begin with one."""
    named = argv[0] if argv else ""
    if not re.fullmatch(r"python(\d(\.\d+)?)?(\.exe)?", os.path.basename(named)):  # noqa: PTH119
        return None
    if os.path.dirname(named):  # noqa: PTH120
        return named
    # Jupyter itself replaces these names by its own interpreter.
    return (
        sys.executable
        if named in ("python", f"python{sys.version_info[0]}", "python{}.{}".format(*sys.version_info))
        else shutil.which(named)
    )
