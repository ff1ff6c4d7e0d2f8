"""Checks of header values before they are sent, and the secrets that are hidden where a server repeats them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from qwen3_integrations.errors import ConfigError

_UNSENDABLE = re.compile(r"[^\t\x20-\x7e]")
"""Characters that no header's value may contain. Source: RFC 9110, 5.5; HTTP libraries send only ASCII."""

_SHORTEST_SECRET = 4
"""Characters; a shorter secret would occur in many texts by chance."""


def check_header(option: str, value: object, header: str | None = None) -> None:
    """Refuse a value that can't be sent in a header. The message does not repeat it, since it may be secret.

    Args:
        option: The setting that holds the value.
        value: None and functions, which are called for their value, are accepted as they are.
        header: The header's name, for a setting with several.

    Raises:
        ConfigError: If it is not a string, or contains a line break, another control character, or one that is not ASCII.
    """
    if value is None or callable(value):
        return
    place = "" if header is None else f" of {header!r}"
    if not isinstance(value, str):
        raise ConfigError(f"must have a string as the value{place}, not {type(value).__name__}", option=option)
    if found := _UNSENDABLE.search(value):
        raise ConfigError(
            f"must not contain U+{ord(found[0]):04X} (character {found.start()}{place}): no HTTP header may",
            option=option,
            advice="Remove line breaks and letters that are not ASCII",
        )


def secrets_in(values: Iterable[object]) -> Iterable[str]:
    """Strings that must not be shown: the values, and in a value of several words (`Bearer ...`) all words after the first."""
    for value in values:
        if isinstance(value, str):
            yield from (word for word in (value, *value.split(" ")[1:]) if len(word) >= _SHORTEST_SECRET)
