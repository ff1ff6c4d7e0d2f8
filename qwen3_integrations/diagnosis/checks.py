"""All checks, in the order of their dependencies. A check that raises becomes a finding."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from qwen3_integrations.diagnosis import hardware, settings, software, storage
from qwen3_integrations.diagnosis.finding import Finding
from qwen3_integrations.diagnosis.storage import VARIABLES
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.hub.caches import cache_folders
from qwen3_integrations.serving.records import FOLDER_VARIABLE

CheckFunction = Callable[[], Sequence[Finding]]

CHECKS: tuple[tuple[str, CheckFunction], ...] = (
    ("Python", software.python),
    ("package", software.package),
    ("extras", software.extras),
    ("GPU", hardware.gpu),
    ("GPU", hardware.torch),
    ("vLLM", hardware.vllm),
    ("memory", hardware.memory),
    ("models", storage.models),
    ("disk", storage.disk),
    ("servers", settings.running),
    ("environment", settings.environment),
)


def diagnose(checks: Sequence[tuple[str, CheckFunction]] = CHECKS) -> tuple[Finding, ...]:
    """Check everything that this package needs. Imports neither PyTorch nor vLLM, and changes nothing.

    Args:
        checks: Area and function of each check. Default: all checks.

    Returns:
        The findings, area by area.
    """
    return tuple(finding for area, check in checks for finding in _guarded(area, check))


def _guarded(area: str, check: CheckFunction) -> Sequence[Finding]:
    try:
        return check()
    except Exception as error:  # noqa: BLE001  a diagnosis must survive broken parts
        return [broken_finding(area, error)]


def broken_finding(area: str, error: Exception) -> Finding:
    """The finding for a check that raised, with a fix."""
    message = " ".join(str(error).split())[:300]
    fix = "pip check"
    if isinstance(error, OSError):
        path = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes | os.PathLike) else None
        variable = _folder_variable(area, path)
        message = f"{path} can't be read or written: {error.strerror}" if path else message
        fix = f"export {variable}=/a/folder/of/yours" if variable else f"ls -ld {shlex.quote(str(path))}" if path else "df -h"
    elif isinstance(error, ConfigError) and area == "servers":  # the folder of the records can't be created or read
        fix = f"export {FOLDER_VARIABLE}=/a/folder/of/yours"
    return Finding(area, "this check", "problem", f"this could not be checked: {type(error).__name__}: {message}", fix)


def _folder_variable(area: str, path: Path | None) -> str | None:
    """The environment variable that sets the folder of an area."""
    if area == "servers":
        return FOLDER_VARIABLE
    if area not in ("models", "disk"):
        return None
    hubs = (hub for hub, folder in cache_folders().items() if path is not None and path.is_relative_to(folder))
    return VARIABLES[next(hubs, "huggingface")]
