"""The options of a server as a form: its fields as data, and the typed text as values or errors, by field."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any, TypeAlias, get_args

from qwen3_integrations.core.types import Task
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.catalog import CHECKPOINTS, DEFAULT_MODELS, TINY
from qwen3_integrations.serving import ServerOptions
from qwen3_integrations.serving.option_fields import Option
from qwen3_integrations.serving.options import OPTIONS

Form: TypeAlias = dict[str, str | bool]
"""The contents of the fields: text as it was typed, empty for the default; True or False for a switch."""

SECRET = tuple(option.name for option in OPTIONS if option.secret)
"""Options that no form shows, because they would reach the browser and saved notebooks. They are given in Python."""

FIELDS = tuple(option for option in OPTIONS if not option.secret)
"""The options with a field in the form; those without a group are always visible."""

_BY_NAME = {field.name: field for field in FIELDS}
_SHOWN = ("name", "label", "group", "help", "kind")


def described() -> list[dict[str, Any]]:
    """The fields for the browser: each with its initial value (`default`) and the meaning of an empty field (`empty`)."""
    return [_described(field) for field in FIELDS]


def _described(field: Option) -> dict[str, Any]:
    plain = {name: getattr(field, name) for name in _SHOWN} | {"choices": list(field.choices)}
    plain["default"] = field.default if field.kind in ("choice", "switch") else ""
    plain["empty"] = field.empty or ("" if field.default is None else str(field.default))
    if field.name != "model":
        return plain
    models = {task: [*(name for name, each in CHECKPOINTS.items() if each.task == task), TINY] for task in get_args(Task)}
    return plain | {"kind": "model", "choices": models, "empty": dict(DEFAULT_MODELS)}


def form_of(options: ServerOptions) -> Form:
    """The form for these options; an option at its default gives an empty field."""
    return {field.name: _typed(field, getattr(options, field.name)) for field in FIELDS}


def _typed(field: Option, value: Any) -> str | bool:
    if field.kind in ("switch", "choice"):
        return value if field.kind == "switch" else str(value)
    if value == field.default:
        return ""
    return shlex.join(value) if field.kind == "words" else str(value)


def changed(form: Form, name: str, value: object) -> Form:
    """The form with one field changed. When the task changes, a published model is replaced by its counterpart for that task.

    Raises:
        ConfigError: If there is no such field, or the value is of the wrong type for it.
    """
    field = _BY_NAME.get(name)
    if field is None or not isinstance(value, bool if field.kind == "switch" else str):
        raise ConfigError(f"is not a field of the form that can contain {value!r}", option=str(name))
    after: Form = {**form, name: value}
    known = CHECKPOINTS.get(str(form["model"]))
    if name == "task" and known and known.task != value:
        words = ("Embedding", "Reranker") if known.task == "embed" else ("Reranker", "Embedding")
        after["model"] = known.name.replace(*words)
    return after


def read_form(form: Form, secrets: Mapping[str, Any]) -> tuple[ServerOptions | None, dict[str, ConfigError]]:
    """Read a form as options.

    Args:
        form: The fields.
        secrets: The options that are not in the form.

    Returns:
        The options and an empty mapping; or None and the errors, by field.
    """
    values: dict[str, Any] = {}
    wrong: dict[str, ConfigError] = {}
    for field in FIELDS:
        try:
            values[field.name] = _read(field, form[field.name])
        except ValueError as error:
            wrong[field.name] = ConfigError(f"can't be parsed: {str(error).lower()}", option=field.name)
    # `ServerOptions` raises one error at a time: the option it names is reset to its default, until no error is left.
    while len(wrong) <= len(FIELDS):
        try:
            options = ServerOptions(**values, **secrets)
        except ConfigError as error:
            name = error.option if error.option in _BY_NAME else "model"
            wrong[name] = error
            if name not in values or name == "task":
                break
            del values[name]
        else:
            return (None if wrong else options), wrong
    return None, wrong


def _read(field: Option, typed: str | bool) -> Any:
    if isinstance(typed, bool):
        return typed
    text = typed.strip()
    if not text:
        return field.default
    if field.kind == "words":
        return tuple(shlex.split(text))
    if field.kind in ("number", "share"):
        try:
            return int(text.replace(",", "").replace("_", "")) if field.kind == "number" else float(text)
        except ValueError:  # the options' own check gives a better message
            return text
    return text
