"""The saved state of a part file: what its rows were made from, and how many are complete."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qwen3_integrations.bulk.own_files import open_own
from qwen3_integrations.bulk.sources import NO_LINES
from qwen3_integrations.core.fingerprint import Fingerprint
from qwen3_integrations.errors import InputError


@dataclass(frozen=True, slots=True)
class PartState:
    """Content of `OUT.part.json`: the first `rows` rows of the part file come from the first `lines` lines of the input.

    Attributes:
        settings: The settings of the run, by name.
        made_by: The fingerprint of the engine; None before the first row.
        rows: Number of complete rows.
        width: Width of their vectors.
        lines: Number of input lines they come from.
        skipped: Number of these lines that are in the error report.
        digest, made: Hashes of these lines, and of what `preprocess` made of them; see `Mark`.
    """

    settings: Mapping[str, Any]
    made_by: Mapping[str, Any] | None
    rows: int = 0
    width: int = 0
    lines: int = 0
    digest: str = NO_LINES
    made: str = NO_LINES
    skipped: int = 0

    def save(self, path: Path) -> None:
        """Replace the file at `path` with this state. A reader sees the old state or the new one, never a part of one."""
        new = path.with_name(f"{path.name}.new")
        new.unlink(missing_ok=True)
        try:
            with new.open("x", encoding="utf-8") as file:  # "x" does not write through an existing link
                json.dump(asdict(self), file)
            new.replace(path)
        except OSError:
            new.unlink(missing_ok=True)
            raise

    def check_settings(self, settings: Mapping[str, Any], part: Path) -> None:
        """Check that a run has the settings of this state.

        Args:
            settings: The settings of the run.
            part: The part file, for the message.

        Raises:
            InputError: If they differ; names each difference.
        """
        different = [
            f"{name} was {self.settings.get(name)!r} and is {settings.get(name)!r}"
            for name in sorted({*self.settings, *settings})
            if self.settings.get(name) != settings.get(name)
        ]
        if different:
            raise InputError(
                f"{part} was started with other settings ({'; '.join(different)})",
                advice="Use the same settings to continue, or start again with --restart",
            )

    def _checked(self) -> PartState:
        """This state, after a check that its values are of the right kinds.

        Raises:
            ValueError, TypeError, KeyError: If they are not: the file was damaged.
        """
        numbers = (self.rows, self.width, self.lines, self.skipped)
        if (
            any(type(number) is not int or number < 0 for number in numbers)
            or not isinstance(self.digest, str)
            or not isinstance(self.made, str)
            or not isinstance(self.settings, dict)
        ):
            raise ValueError
        if self.rows:
            Fingerprint.from_dict(self.made_by or {})
        return self


def read_state(path: Path, part: Path) -> PartState:
    """Read a saved state.

    Args:
        path: The file of the state.
        part: The part file, for the message.

    Raises:
        InputError: If there is no state, or the file is damaged.
    """
    try:
        with open_own(path, make=False) as file:
            content = file.read()
    except FileNotFoundError:
        content = b""
    try:
        return PartState(**json.loads(content))._checked()
    except (ValueError, TypeError, KeyError, RecursionError):
        raise InputError(
            f"{part} exists, but {path} does not say what it was made from",
            advice="Remove it, or start again with --restart",
        ) from None
