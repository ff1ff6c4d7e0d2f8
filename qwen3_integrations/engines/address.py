"""A server's address: with or without `/v1`, and never shown with credentials."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from qwen3_integrations.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is.

    Attributes:
        root: Address without `/v1` and without a trailing slash; may have a path of its own (a proxy's prefix).
        versioned: True when the address was given with `/v1`.
    """

    root: str
    versioned: bool

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read an address.

        Raises:
            ConfigError: If it is no http(s) address.
        """
        parts = urlsplit(url.strip())
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"base_url must be an http or https address such as http://127.0.0.1:8000/v1, not {shown_url(url)!r}")
        path = parts.path.rstrip("/")
        versioned = path.endswith("/v1")
        return cls(urlunsplit((parts.scheme, parts.netloc, path.removesuffix("/v1"), "", "")), versioned)

    @property
    def versions(self) -> tuple[str, ...]:
        """Where the OpenAI-compatible routes may be, most likely first: most servers have them under `/v1`, some at the root."""
        return (f"{self.root}/v1",) if self.versioned else (f"{self.root}/v1", self.root)

    def __str__(self) -> str:
        return shown_url(self.root)


def shown_url(url: str) -> str:
    """An address fit for messages and logs: without user, password, query and fragment."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit((parts.scheme, host, parts.path, "", ""))
    except ValueError:
        return "<not an address>"
