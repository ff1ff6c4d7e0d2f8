"""What goes into headers: checked before it is sent, and hidden where servers repeat it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from qwen3_integrations.errors import ConfigError

_UNSENDABLE = re.compile(r"[^\t\x20-\x7e]")
"""What no header's value may hold. Source: RFC 9110, 5.5; HTTP libraries send ASCII alone."""

_SHORTEST_SECRET = 4
"""Characters; what is shorter is in every text."""


def check_header(name: str, value: object) -> None:
    """Refuse what can't be sent in a header, without repeating it: it may be secret.

    Args:
        name: What it is called where it was given.
        value: None, or something that is called for its value, is taken as it is.

    Raises:
        ConfigError: If it is a string that holds a line break, another control character, or one that is not ASCII; or no string.
    """
    if value is None or callable(value):
        return
    if not isinstance(value, str):
        raise ConfigError(f"{name} must be a string, not {type(value).__name__}")
    if found := _UNSENDABLE.search(value):
        raise ConfigError(
            f"{name} holds U+{ord(found[0]):04X} at character {found.start()}, which no HTTP header may hold: "
            "is a line break in it, or a letter that is not ASCII?"
        )


def secrets_in(values: Iterable[object]) -> Iterable[str]:
    """What must not be shown: the values, and of several words (`Bearer ...`) those behind the first."""
    for value in values:
        if isinstance(value, str):
            yield from (word for word in (value, *value.split(" ")[1:]) if len(word) >= _SHORTEST_SECRET)
