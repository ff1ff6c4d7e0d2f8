"""Names of options: unknown ones are refused, with the nearest that is known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from qwen3_integrations.errors import ConfigError


def check_options(given: Iterable[str], known: Iterable[str], owner: str) -> None:
    """Refuse options that nobody knows, with the nearest known one.

    Raises:
        ConfigError: For the first unknown option.
    """
    names = sorted(known)
    for option in given:
        if option not in names:
            raise ConfigError(f"{owner} has no option {option!r}{suggest(option, names)}; it has: {', '.join(names)}")


def suggest(word: str, known: Iterable[str]) -> str:
    """`, did you mean 'x'?` or nothing."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f", did you mean {near[0]!r}?" if near else ""
