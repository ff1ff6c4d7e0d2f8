"""The arguments of the magics, and the parsing of a line and a cell."""

# mypy: disable-error-code="no-untyped-call"
# IPython's decorators have no types.

from __future__ import annotations

import json
import re
import shlex
from argparse import ArgumentTypeError, Namespace
from collections.abc import Container, Sequence
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic_arguments import argument

from qwen3_integrations.engines.secrets import KEY_VARIABLE
from qwen3_integrations.errors import ConfigError, InputError
from qwen3_integrations.serving.options import OPTIONS

SERVER_ARGUMENTS = ("task", "model", "port", "max_tokens", "dtype", "enforce_eager")
"""Options of a server with an argument of their own; `--option` sets the others."""


def server_argument(name: str) -> Any:
    """The argument for an option of a server, as the option declares itself."""
    option = next(each for each in OPTIONS if each.name == name)
    words: dict[str, Any] = {"help": option.help, "choices": option.choices or None}
    if option.positional:
        return argument(name, nargs=None if not option.empty else "?", **words)
    if option.kind == "switch":
        return argument(option.cli_flag, action="store_true", help=option.help)
    return argument(option.cli_flag, type=option.type if option.kind == "number" else str, default=option.default, **words)


def variable(name: str) -> str:
    """Check the name of a variable."""
    if not name.isidentifier():
        raise ArgumentTypeError(f"{name!r} is not a variable's name")
    return name


def pair(text: str) -> tuple[str, Any]:
    """Parse NAME=VALUE; the value is JSON if it can be parsed as JSON, otherwise a string."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


MODEL = argument("--model", metavar="NAME", help="A hub's name, a folder, or qwen3-tiny-demo. Default: the 0.6B model.")
SERVER = argument("--server", metavar="NAME", help="Use a server of this machine: its name or address, as printed by %%qwen3_status.")
BASE_URL = argument("--base-url", metavar="URL", help="Use a server elsewhere; its key is read from QWEN3_API_KEY.")
BACKEND = argument("--backend", default="auto", help="auto, vllm, torch, http or fake.")
OPTION = argument(
    "--option",
    action="append",
    type=pair,
    default=[],
    metavar="NAME=VALUE",
    help="An option of the engine, such as device=cpu. May be repeated.",
)
INSTRUCTION = argument("--instruction", metavar="TEXT", help="The instruction for relevance: one English sentence, in double quotes.")
PARAGRAPHS = argument("--paragraphs", action="store_true", help="Texts are separated by blank lines. Default: each line is a text.")
NAME = argument("-o", "--output", type=variable, metavar="NAME", help="Also store the result in this variable.")


def parsed(magic: Any, line: str) -> Namespace:
    """Parse the arguments in a line. Double quotes group words; apostrophes are ordinary characters.

    Raises:
        UsageError: For words that are not arguments of the magic.
    """
    lexer = shlex.shlex(line, posix=True)
    lexer.whitespace_split, lexer.quotes, lexer.commenters = True, '"', ""
    try:
        words = list(lexer)
    except ValueError:
        raise UsageError("a double quote is not closed") from None
    arguments: Namespace = magic.parser.parse_args(words)
    return arguments


def texts_in(cell: str, paragraphs: bool) -> list[str]:
    """The texts of a cell, without blank lines.

    Raises:
        InputError: If there is no text.
    """
    parts: Sequence[str] = re.split(r"\n[^\S\n]*\n", cell) if paragraphs else cell.splitlines()
    texts = [part.strip() for part in parts if part.strip()]
    if not texts:
        raise InputError("the cell contains no text")
    return texts


def checked_options(pairs: Sequence[tuple[str, Any]], taken: Container[str]) -> dict[str, Any]:
    """Options by name.

    Raises:
        ConfigError: For an option with an argument of its own, and for a key, which would be saved with the notebook.
    """
    for name, _ in pairs:
        if name == "api_key":
            reason = "can't set api_key, since it would be saved with the notebook"
            raise ConfigError(reason, option="--option", advice=f"Set {KEY_VARIABLE} in the environment")
        if name in taken:
            raise ConfigError(f"can't set {name}, which has an argument of its own", option="--option")
    return dict(pairs)
