"""The options of a server as a form: its fields as data, and what a person has typed as values, each with what is wrong with it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal, TypeAlias, get_args

from qwen3_integrations.core.types import Task
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.catalog import CHECKPOINTS, DEFAULT_MODELS, TINY, Source
from qwen3_integrations.serving import ServerOptions
from qwen3_integrations.serving.options import EngineName

Kind = Literal["choice", "model", "text", "number", "share", "switch", "words"]
Form: TypeAlias = dict[str, str | bool]
"""What stands in the fields: text as it was typed, empty for the default; True or False in a switch."""

SECRET = ("api_key", "env")
"""Options that no form shows: they would reach the browser and saved notebooks. They are given in Python."""

MAIN = ""
"""The group that is always open."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field of the form.

    Attributes:
        name: The option of `ServerOptions`.
        label: What stands above it.
        kind: How it is edited.
        group: Under which heading; `MAIN` for those that matter.
        help: What it does, in a few words.
        choices: What may be chosen, or is proposed.
        empty: What it is while nothing is typed.
    """

    name: str
    label: str
    kind: Kind
    group: str
    help: str = ""
    choices: tuple[str, ...] = ()
    empty: str = ""


FIELDS: tuple[Field, ...] = (
    Field("task", "Task", "choice", MAIN, "what the model does", get_args(Task)),
    Field("engine", "Engine", "choice", MAIN, "the program that serves", get_args(EngineName)),
    Field("model", "Model", "model", MAIN, "a hub's name or a folder"),
    Field("port", "Port", "number", MAIN, "on this machine alone", empty="any free one"),
    Field("max_tokens", "Longest prompt", "number", MAIN, "tokens, template included"),
    Field("concurrency", "Concurrency", "number", MAIN, "longest prompts in the cache"),
    Field("dtype", "Precision", "choice", MAIN, "auto is the checkpoint's", ("auto", "bfloat16", "float16", "float32")),
    Field("host", "Host", "text", "Address", "where it listens; the default is this machine alone"),
    Field("uds", "Unix socket", "text", "Address", "a path, instead of host and port", empty="none"),
    Field("served_name", "Served name", "text", "Address", "what clients ask for", empty="the model's"),
    Field("without_key", "Ask for no key", "switch", "Address", "anybody who reaches it may use it"),
    Field("max_num_seqs", "Prompts in a pass", "number", "Speed", "at most", empty="the engine's"),
    Field("max_num_batched_tokens", "Tokens in a pass", "number", "Speed", "at most", empty="8192 or more"),
    Field("api_server_count", "API processes", "number", "Speed", "more of them for short texts", empty="1"),
    Field("prefix_caching", "Prefix caching", "switch", "Speed", "what prompts begin with alike is computed once"),
    Field("enforce_eager", "Start eagerly", "switch", "Speed", "starts sooner, runs slower"),
    Field("quantization", "Quantise while loading", "text", "Memory", "such as fp8", empty="as stored"),
    Field("kv_cache_memory_bytes", "Cache", "number", "Memory", "bytes", empty="planned"),
    Field("gpu_memory_utilization", "Share of each GPU", "share", "Memory", "in (0, 1], instead of a plan", empty="planned"),
    Field("tensor_parallel_size", "Tensor parallel", "number", "GPUs", "GPUs that share every layer"),
    Field("pipeline_parallel_size", "Pipeline parallel", "number", "GPUs", "GPUs that share out the layers"),
    Field("data_parallel_size", "Data parallel", "number", "GPUs", "copies of the model"),
    Field("source", "Source", "choice", "Program", "where the name may lead", get_args(Source)),
    Field("revision", "Revision", "text", "Program", "branch, tag or commit", empty="the default"),
    Field("python", "Python", "text", "Program", "the interpreter that has the engine", empty="this kernel's"),
    Field("extra_args", "More flags", "words", "Program", "as the engine spells them: --seed 1", empty="none"),
)
_BY_NAME = {each.name: each for each in FIELDS}
_DEFAULTS = {each.name: None if each.default is MISSING else each.default for each in fields(ServerOptions)}


def described() -> list[dict[str, Any]]:
    """The fields for the browser: each with what it holds at first (`default`), and what an empty one means (`empty`)."""
    models = {task: [*(name for name, each in CHECKPOINTS.items() if each.task == task), TINY] for task in get_args(Task)}
    made = []
    for field in FIELDS:
        plain = {name: getattr(field, name) for name in Field.__slots__} | {"choices": list(field.choices)}
        default = _DEFAULTS[field.name]
        plain["default"] = default if field.kind in ("switch", "choice") else ""
        plain["empty"] = field.empty or ("" if default is None else str(default))
        made.append(plain | ({"choices": models, "empty": dict(DEFAULT_MODELS)} if field.kind == "model" else {}))
    return made


def form_of(options: ServerOptions) -> Form:
    """The form that reads as these options; what is left at its default stays empty."""
    return {field.name: _typed(field, getattr(options, field.name)) for field in FIELDS}


def _typed(field: Field, value: Any) -> str | bool:
    if field.kind in ("switch", "choice"):
        return value if field.kind == "switch" else str(value)
    if value == _DEFAULTS[field.name]:
        return ""
    return shlex.join(value) if field.kind == "words" else str(value)


def changed(form: Form, name: str, value: object) -> Form:
    """The form with one field changed. With the task, a published model gives way to its twin for the other task.

    Raises:
        ConfigError: If there is no such field, or the value is of another kind than it holds.
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
    """What was typed as options.

    Args:
        form: The fields.
        secrets: The options that no form shows.

    Returns:
        The options, and nothing; or None, and what is wrong, by field.
    """
    values: dict[str, Any] = {}
    wrong: dict[str, ConfigError] = {}
    for field in FIELDS:
        try:
            values[field.name] = _read(field, form[field.name])
        except ValueError as error:
            wrong[field.name] = ConfigError(f"can't be parsed: {str(error).lower()}", option=field.name)
    # One error is raised at a time: what it names is put back, until all are found.
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


def _read(field: Field, typed: str | bool) -> Any:
    if isinstance(typed, bool):
        return typed
    text = typed.strip()
    if not text:
        return _DEFAULTS[field.name]
    if field.kind == "words":
        return tuple(shlex.split(text))
    if field.kind in ("number", "share"):
        try:
            return int(text.replace(",", "").replace("_", "")) if field.kind == "number" else float(text)
        except ValueError:  # the options say better what they want
            return text
    return text
