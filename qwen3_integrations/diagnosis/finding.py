"""A finding of a diagnosis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from qwen3_integrations.errors import one_line

Severity = Literal["ok", "note", "warning", "problem"]
"""`note`: fine, but useful to know. `warning`: works, with a disadvantage or a risk. `problem`: does not work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding.

    Attributes:
        area: Such as `GPU` or `models`.
        subject: The part of the area, such as `GPU 0`.
        state: Its severity.
        text: The observation, one sentence at most; never a secret.
        fix: A shell command that helps; empty only where nothing is wrong.
    """

    area: str
    subject: str
    state: Severity
    text: str
    fix: str = ""

    def __post_init__(self) -> None:
        for name in ("subject", "text", "fix"):  # they may have words of a server, or of a file
            object.__setattr__(self, name, one_line(getattr(self, name)))
