"""A command line and its parts. Secrets go into the environment or a file."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import InitVar, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qwen3_integrations.errors import ConfigError
from qwen3_integrations.serving.extra_flags import spelled
from qwen3_integrations.serving.hidden import Hidden, HoldsHidden
from qwen3_integrations.serving.installed import Installed
from qwen3_integrations.serving.options import OPTIONS, TITLES, ServerOptions

TEMPLATE = Path(__file__).parent / "qwen3_reranker.jinja"
"""The official prompt for the routes on which the server combines query and document: /score, /rerank, /v1/rerank."""

KEY_FILE = "{key-file}"
"""Placeholder in a command for the path of the file that holds the key; see `Command.key_config`."""


@dataclass(frozen=True, slots=True, eq=False)
class Command(HoldsHidden):
    """A command to run.

    Attributes:
        argv: The words of the command line, without secrets.
        env: Variables to add to this process's environment. They hold the key, so this is no field: it is not shown and not pickled.
        key_config: The content of a key file, for an engine that reads its key from one; its path replaces `KEY_FILE` in `argv`.
    """

    argv: tuple[str, ...]
    if TYPE_CHECKING:
        env: Mapping[str, str]
        key_config: str | None = None
    else:
        env: InitVar[Mapping[str, str]] = Hidden()
        key_config: InitVar[str | None] = Hidden()

    def __post_init__(self, env: Mapping[str, str] | None = None, key_config: str | None = None) -> None:  # noqa: RUF033  fields to type checkers
        self._hide(env=dict(env or {}), key_config=key_config)

    def __str__(self) -> str:
        return shlex.join(self.argv)


def common_values(options: ServerOptions, port: int) -> dict[str, object]:
    """The options whose flags are always given, with values that are computed here; None for no flag."""
    place: dict[str, object] = {"host": options.host, "port": port}
    if options.uds is not None:
        place = {"uds": options.socket, "host": None, "port": None}
    return {
        "model": None,  # the command begins with it
        "served_name": options.name,
        "dtype": options.dtype,
        "max_num_batched_tokens": options.batched_tokens,
    } | place


class Flags:
    """Words of a command line; each flag is one that the installed version has."""

    def __init__(self, installed: Installed) -> None:
        self._installed = installed
        self.words: list[str] = []

    def add(self, flag: str, value: object) -> None:
        """Add a flag with a value.

        Args:
            flag: With underscores.
            value: Its value.
        """
        self._installed.check(flag)
        self.words += [spelled(flag), str(value)]

    def switch(self, flag: str) -> None:
        """Add a flag without a value; `no_x` is also allowed where the version has `x`."""
        if not self._installed.has(flag.removeprefix("no_")):
            self._installed.check(flag)
        self.words.append(spelled(flag))

    def add_options(self, options: ServerOptions, values: Mapping[str, object]) -> None:
        """Add the flag of each option that is not at its default.

        Args:
            options: The options.
            values: By option: the value to give instead of the option's own, also at its default; None gives no flag.

        Raises:
            ConfigError: For an option that only another engine has.
        """
        engine = self._installed.engine
        for option in OPTIONS:
            flag, value = option.flag(engine), getattr(options, option.name)
            if flag is None and option.flags and value != option.default:
                able = " or ".join(map(repr, option.flags))
                raise ConfigError(
                    f"has no equivalent in {TITLES[engine]}", option=option.name, advice=f"Leave it out, or use engine={able}"
                )
            value = values.get(option.name, None if value == option.default else value)
            if flag is None or value is None:
                continue
            if option.kind == "switch":
                self.switch(flag)
            else:
                self.add(flag, value)
