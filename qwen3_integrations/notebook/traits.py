"""Traits of widgets for numbers, with the checks and the error messages of `core.validation`."""

from __future__ import annotations

from typing import Any

import traitlets

from qwen3_integrations.core.validation import fraction, whole_number


class WholeNumber(traitlets.Int[Any, Any]):
    """A whole number in a range, as a plain `int`; NumPy's integers are allowed.

    Args:
        default: The initial value.
        least: The smallest allowed value.
        note, of_call: As in `whole_number`.
        of: For an item of a list, the list's name: such a trait has no name of its own.
        settings: As in `traitlets.Int`.

    Raises:
        ConfigError: On assignment of another value; an `InputError` with `of_call`.
    """

    def __init__(
        self, default: int | None = None, *, least: int = 1, note: str = "", of: str = "", of_call: bool = False, **settings: Any
    ) -> None:
        super().__init__(default, **settings)
        self._of = of
        self._least = least
        self._note = note
        self._of_call = of_call

    def validate(self, obj: Any, value: Any) -> int:  # noqa: ARG002
        """The value as a plain `int`."""
        return whole_number(value, self._of or str(self.name), self._least, note=self._note, of_call=self._of_call)


class UnitNumber(traitlets.Float[Any, Any]):
    """A number in [0, 1], as a plain `float`; NumPy's numbers are allowed.

    Raises:
        ConfigError: On assignment of another value.
    """

    def validate(self, obj: Any, value: Any) -> float:  # noqa: ARG002
        """The value as a plain `float`."""
        return fraction(value, str(self.name), zero=True)
