"""How an option of a server is declared: one `option(...)` per dataclass field, which is read wherever options are needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, InitVar, dataclass, field, replace
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

from qwen3_integrations.core.validation import check_choice, fraction, optional_whole_number, whole_number
from qwen3_integrations.serving.hidden import Hidden

Kind = Literal["choice", "switch", "number", "share", "words", "mapping", "text"]
Flag: TypeAlias = str | tuple[str, ...]
"""A flag of a program without its dashes, `max-num-seqs`; other spellings follow, short ones with their dash: `-tp`."""

_KINDS: Mapping[Any, Kind] = {bool: "switch", int: "number", float: "share", tuple: "words", Mapping: "mapping"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """An option: all facts that command line, form, records and argv use.

    Attributes:
        name: The field's name.
        type: The field's type, without None.
        default: The default value; None also for a required option.
        help: What it does: one or two sentences.
        group: The heading in the form; empty for the options that are always visible.
        label: The label in the form.
        empty: What None, or the default, means.
        choices: The allowed values; empty for any.
        least: The smallest allowed integer.
        most: The largest allowed integer; None for no limit.
        note: Added to the range in an error message.
        secret: True for a hidden value: it is kept out of forms, records, reprs and printed command lines.
        positional: True makes it an argument of the command line and not a flag.
        cli: The flag's name on this package's command line, without dashes.
        envvar: The environment variable from which the command line reads it; empty for none.
        flags: Engine -> the flag's spellings, the one to use first. An engine without an entry has no such flag.
        since: Engine -> the first version that has the flag, where supported versions lack it.
    """

    help: str
    name: str = ""
    type: Any = str
    default: Any = None
    group: str = ""
    label: str = ""
    empty: str = ""
    choices: tuple[str, ...] = ()
    least: int = 1
    most: int | None = None
    note: str = ""
    secret: bool = False
    positional: bool = False
    cli: str = ""
    envvar: str = ""
    flags: Mapping[str, tuple[str, ...]]
    since: Mapping[str, str]

    @property
    def kind(self) -> Kind:
        """How a value is written and edited."""
        return "choice" if self.choices else _KINDS.get(get_origin(self.type) or self.type, "text")

    @property
    def cli_flag(self) -> str:
        """The flag on this package's command line, such as `--max-tokens`."""
        return f"--{self.cli}"

    def flag(self, engine: str) -> str | None:
        """The flag of an engine, with underscores and without leading dashes; None if the engine has no such flag."""
        spellings = self.flags.get(engine)
        return spellings[0].replace("-", "_") if spellings else None

    def checked(self, value: Any) -> Any:
        """The value, after checking it against choices and ranges; integers and shares become plain `int` and `float`.

        Raises:
            ConfigError: Names the option and the value.
        """
        if self.kind == "choice":
            check_choice(value, self.choices, self.name)
        if self.kind == "number":
            if self.default is None:
                return optional_whole_number(value, self.name, self.least, self.most, note=f"{self.note}, or None")
            return whole_number(value, self.name, self.least, self.most, note=self.note)
        return fraction(value, self.name) if self.kind == "share" and value is not None else value


def option(
    default: Any = MISSING,
    *,
    help: str,  # noqa: A002  the word that argument parsers use
    group: str = "",
    label: str = "",
    empty: str = "",
    choices: tuple[str, ...] = (),
    least: int = 1,
    most: int | None = None,
    note: str = "",
    positional: bool = False,
    cli: str = "",
    vllm: Flag = (),
    sglang: Flag = (),
    torch: Flag = (),
    since: Mapping[str, str] | None = None,
) -> Any:
    """A dataclass field that declares an option.

    Args:
        default: The default value; without it the option is required.
        help, group, label, empty, choices, least, most, note, positional, cli: As in `Option`. Label and command-line flag are made from
            the field's name where none is given, choices from its type.
        vllm, sglang: The flag of that program. For a boolean option: the flag that turns it away from its default.
        torch: The flag of this package's own server.
        since: Engine -> the first version that has the flag.
    """
    given = {"vllm": vllm, "sglang": sglang, "torch": torch}
    flags = {engine: (flag,) if isinstance(flag, str) else flag for engine, flag in given.items() if flag}
    declared = Option(
        help=help,
        group=group,
        label=label,
        empty=empty,
        choices=choices,
        least=least,
        most=most,
        note=note,
        positional=positional,
        cli=cli,
        flags=flags,
        since=since or {},
    )
    return field(default=default, metadata={"option": declared})


def secret_option(*, help: str, empty: str = "", envvar: str = "") -> Hidden:  # noqa: A002  as in `option`
    """The default of an `InitVar` that declares an option with a hidden value; see `hidden`.

    Args:
        help, empty, envvar: As in `Option`.
    """
    return Hidden({"option": Option(help=help, empty=empty, envvar=envvar, secret=True, flags={}, since={})})


@cache
def options_of(owner: type) -> tuple[Option, ...]:
    """The options that a dataclass declares, in its order, the secret ones among them."""
    hints = get_type_hints(owner)
    declared: list[Option] = []
    for name, each in owner.__dataclass_fields__.items():  # type: ignore[attr-defined]  # `fields` leaves an `InitVar` out
        hidden = vars(owner).get(name)
        if isinstance(hidden, Hidden):
            declared.append(_named(hidden.metadata["option"], name, hints[name], None))
        else:
            declared.append(_named(each.metadata["option"], name, hints[name], each.default))
    return tuple(declared)


def _named(declared: Option, name: str, hint: Any, default: Any) -> Option:
    hint = hint.type if isinstance(hint, InitVar) else hint
    kept = [part for part in (get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)) if part not in (type(None), Path)]
    return replace(
        declared,
        name=name,
        type=kept[0],
        default=None if default is MISSING else default,
        label=declared.label or name.replace("_", " ").capitalize(),
        cli=declared.cli or name.replace("_", "-"),
        choices=declared.choices or (get_args(kept[0]) if get_origin(kept[0]) is Literal else ()),
    )
