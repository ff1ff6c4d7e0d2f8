"""A finding of a diagnosis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
