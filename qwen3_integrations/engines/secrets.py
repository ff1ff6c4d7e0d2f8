"""Which settings of an engine hold a secret: they are never pickled or dumped."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from qwen3_integrations.errors import ConfigError

KEY_VARIABLE = "QWEN3_API_KEY"

_OPTION = re.compile(r"key|token$|secret|password|header|client|auth|cookie", re.IGNORECASE)
_CREDENTIALS = re.compile(r"(?<=//)[^/?#]*@")


def without_secrets(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options whose names do not say that they hold a secret."""
    return {name: value for name, value in options.items() if not _OPTION.search(name)}


def without_credentials(url: str) -> str:
    """An address without user and password."""
    return _CREDENTIALS.sub("", url)


def check_no_secrets(what: str, base_url: str | None, api_key: object, options: Mapping[str, Any] | None) -> None:
    """Refuse to pickle settings with a secret.

    Args:
        what: What would be pickled, for the message.
        base_url: The address of a server, which may hold user and password.
        api_key: The key of a server; None for none.
        options: Options of the engine.

    Raises:
        ConfigError: If one of them holds a secret.
    """
    given = options or {}
    url = base_url or ""
    if api_key is not None or without_secrets(given) != dict(given) or without_credentials(url) != url:
        raise ConfigError(
            f"{what} can't be pickled: the pickle would contain the secret in its api_key, base_url or engine_options",
            advice=f"Set {KEY_VARIABLE} in the environment of both processes, and omit the setting",
        )
