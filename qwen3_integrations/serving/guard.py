"""How a server's process finds the guard of its routes, `in_server/qwen3_key_guard.py`; and the environment that it gets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from qwen3_integrations.serving.in_server import qwen3_key_guard

KEY = qwen3_key_guard.KEY
"""Environment variable of a server's processes: its key."""

GUARD = "qwen3_key_guard.KeyGuard"
"""The middleware's import path in a server's process."""

_FOLDER = Path(__file__).parent / "in_server"
_COLOURS = ("FORCE_COLOR", "CLICOLOR_FORCE", "PYTHON_COLORS", "PY_COLORS", "TTY_COMPATIBLE", "VLLM_LOGGING_COLOR")
"""Variables that make programs write colours into a file. Source: force-color.org, bixense.com/clicolors, Python, pytest, rich, vLLM."""


def guarded_sglang() -> str:
    """The script that starts SGLang behind the guard."""
    return str(_FOLDER / "guarded_sglang.py")


def server_environment(around: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """The environment of a server.

    Args:
        around: This process's environment. What makes programs write colours is left out: the log is a file that is read.
        own: The variables of the server's command, which are added.

    Returns:
        Both, and `PYTHONPATH` with the folder of the guard in front.
    """
    found = {name: value for name, value in around.items() if name not in _COLOURS} | {"NO_COLOR": "1"} | dict(own)
    found["PYTHONPATH"] = os.pathsep.join([str(_FOLDER), *filter(None, [found.get("PYTHONPATH")])])
    return found
