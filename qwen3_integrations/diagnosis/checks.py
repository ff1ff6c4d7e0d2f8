"""All checks, in the order of what stands on what. A check that breaks is a finding itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qwen3_integrations.diagnosis import hardware, settings, software, storage
from qwen3_integrations.diagnosis.finding import Finding

Check = Callable[[], Sequence[Finding]]

CHECKS: tuple[tuple[str, Check], ...] = (
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


def diagnose(checks: Sequence[tuple[str, Check]] = CHECKS) -> tuple[Finding, ...]:
    """Look at everything that this package stands on. Imports neither PyTorch nor vLLM, and changes nothing.

    Args:
        checks: Area and function; all there are.

    Returns:
        What was found, area by area.
    """
    return tuple(finding for area, check in checks for finding in _guarded(area, check))


def _guarded(area: str, check: Check) -> Sequence[Finding]:
    try:
        return check()
    except Exception as error:  # noqa: BLE001  a broken part is what a diagnosis is for
        said = " ".join(str(error).split())[:300]
        text = f"this could not be looked at: {type(error).__name__}: {said}"
        return [Finding(area, "this check", "problem", text, "pip check")]
