"""Completion of the magics' arguments: flags, and the values that are known."""

# mypy: disable-error-code="no-untyped-call"
# IPython's decorators have no types.

from __future__ import annotations

import re
import shlex
from argparse import Action, ArgumentParser
from collections.abc import Iterable, Sequence
from typing import Any

from qwen3_integrations.core.types import Task
from qwen3_integrations.engines.registry import backends
from qwen3_integrations.models.catalog import CHECKPOINTS, TINY


def complete(magics: type, _: Any, event: Any) -> list[str]:
    """The completions of a word after one of the magics; for IPython's hook `complete_command`.

    Args:
        magics: The class of the magics.
        event: IPython's: `line` up to the cursor, and `symbol`, the word to complete.
    """
    name = re.match(r"%%?(\w+)", event.line.lstrip())
    magic = getattr(magics, name[1], None) if name else None
    if magic is None:
        return []
    before = event.line[: len(event.line) - len(event.symbol)]
    try:
        given = shlex.split(before)[1:]
    except ValueError:  # within quotes
        return []
    tasks: tuple[Task, ...] = ("rerank",) if "rank" in event.line else ("embed",) if "embed" in event.line else ("embed", "rerank")
    return [word for word in _words(magic.parser, given, tasks) if word.startswith(event.symbol)]


def _words(parser: ArgumentParser, given: Sequence[str], tasks: Sequence[Task]) -> Iterable[str]:
    actions = [action for action in parser._actions if action.dest != "help"]
    flags = {flag: action for action in actions for flag in action.option_strings}
    if given and given[-1] in flags and flags[given[-1]].nargs != 0:
        return _values(flags[given[-1]], tasks)
    used = {flags[word].dest for word in given if word in flags}
    free = [flag for flag, action in flags.items() if action.dest not in used or action.dest == "option"]
    positional = [] if given else [word for action in actions if not action.option_strings for word in _values(action, tasks)]
    return [*positional, *(flag for flag in free if flag.startswith("--"))]


def _values(action: Action, tasks: Sequence[Task]) -> list[str]:
    if action.choices:
        return [str(each) for each in action.choices]
    if action.dest == "backend":
        return ["auto", *backends()]
    if action.dest == "model":
        return [TINY, *(name for name, checkpoint in CHECKPOINTS.items() if checkpoint.task in tasks)]
    if action.dest in ("server", "name", "names"):
        from qwen3_integrations.serving import servers

        return [server.name for server in servers()]
    return []
