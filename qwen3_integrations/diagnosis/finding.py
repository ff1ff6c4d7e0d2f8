"""One thing that a diagnosis found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["ok", "note", "warning", "problem"]
"""`note`: fine, but good to know. `warning`: works, but worse or only until it is met. `problem`: what was set up does not work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        area: What kind of thing it is, such as `GPU` or `models`.
        subject: Which one.
        state: How it is.
        text: What was seen, in a sentence or less; never a secret.
        fix: What to do, for a shell; empty only where all is well.
    """

    area: str
    subject: str
    state: Severity
    text: str
    fix: str = ""
