"""`StrictModel`: a pydantic model that refuses unknown settings with the errors of this package."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from qwen3_integrations.core.validation import suggest
from qwen3_integrations.errors import ConfigError, Qwen3Error

STRICT = ConfigDict(extra="forbid", validate_assignment=True, hide_input_in_errors=True, arbitrary_types_allowed=True)
"""Unknown settings are refused, assignments are checked, and error messages do not contain values, which may be secret."""


class StrictModel(BaseModel):
    """A pydantic model that raises this package's `ConfigError`, which is also a `ValueError`.

    If another pydantic model creates it from a dictionary, pydantic wraps the error in its own `ValidationError` with the same message.
    """

    model_config = STRICT

    if not TYPE_CHECKING:  # type checkers and editors must see the fields, not **settings

        def __init__(self, **settings: Any) -> None:
            try:
                super().__init__(**settings)
            except ValidationError as error:
                raise _refusal(type(self), error) from None

        def __setattr__(self, name: str, value: Any) -> None:
            try:
                super().__setattr__(name, value)
            except ValidationError as error:
                raise _refusal(type(self), error) from None


def _refusal(cls: type[BaseModel], error: ValidationError) -> Qwen3Error:
    """Pydantic's error as an error of this package, without the refused values."""
    items = error.errors(include_input=False, include_url=False)
    causes = [item.get("ctx", {}).get("error") for item in items]
    refusals = [_one_refusal(cls, item, cause) for item, cause in zip(items, causes, strict=True)]
    return refusals[0] if len(refusals) == 1 else ConfigError("; ".join(map(str, refusals)))


def _one_refusal(cls: type[BaseModel], item: Mapping[str, Any], cause: object) -> Qwen3Error:
    if isinstance(cause, Qwen3Error):
        return cause
    name = ".".join(map(str, item["loc"]))
    fields: Iterable[str] = cls.model_fields
    match item["type"]:
        case "extra_forbidden" | "no_such_attribute":
            advice = f"The settings are: {', '.join(sorted(fields))}"
            return ConfigError(f"is not a setting of {cls.__name__}{suggest(name, fields)}", option=name, advice=advice)
        case "frozen_field":
            return ConfigError(f"of {cls.__name__} is fixed once the engine is open", option=name, advice=f"Make a new {cls.__name__}")
        case _:
            return ConfigError(f"of {cls.__name__} can't be used: {cause or item['msg']}", option=name)
