"""A server's address, with or without `/v1`, or the address of a Unix socket. Credentials are never shown."""

from __future__ import annotations

import base64
import ipaddress
import re
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit, urlunsplit

from qwen3_integrations.errors import ConfigError

UNIX = "unix://"
_SOCKET_HOST = "http://localhost"

_VERSION = re.compile(r"/v\d+$")
"""The end of an address with a version, such as `/v1`, `/api/v3`, `/compatible-mode/v1`."""

_ROUTES = ("/embeddings", "/services/rerank/text-rerank/text-rerank", "/rerank", "/reranks", "/classify", "/score")
"""Ends of addresses that name a route. Source: the dialects, and DashScope's API reference."""


@dataclass(frozen=True, slots=True)
class Address:
    """A server's address, split into what requests and messages need.

    Attributes:
        root: Address without credentials, `/v1` and a trailing slash; may have a path of its own (a proxy's prefix).
        socket: Path of a Unix socket, for an address such as `unix:///run/qwen3.sock`; the root's host is then a placeholder.
        versioned: True when the address was given with `/v1`.
        route: The address of a route, where the address was given with one, such as `/v1/embeddings`; None otherwise.
        authorization: The header for the user and password in the address; None where it has none. Not in the root, because HTTP
            clients log complete addresses.
    """

    root: str
    versioned: bool
    authorization: str | None = field(default=None, repr=False)
    socket: str | None = None
    route: str | None = None

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read an address.

        Raises:
            ConfigError: If it is neither an http(s) address nor the address of a Unix socket, or has a query or a fragment.
        """
        if url.strip().startswith(UNIX):
            return cls(_SOCKET_HOST, versioned=False, socket=url.strip().removeprefix(UNIX))
        try:
            parts = urlsplit(url.strip())
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:  # a port that is not a number, an incomplete IPv6 address
            usable = False
        if not usable:
            raise ConfigError(
                f"must be an http or https address such as http://127.0.0.1:8000/v1, or unix:///path, not {shown_url(url)!r}",
                option="base_url",
            )
        if parts.query or parts.fragment:
            raise ConfigError(
                f"{shown_url(url)} has a query or a fragment, which can't be sent with every request",
                option="base_url",
                advice="Use headers for what the server needs: engine_options={'headers': {...}}",
            )
        path = parts.path.rstrip("/")
        route = next((route for route in _ROUTES if path.endswith(route)), None)
        path = path.removesuffix(route) if route else path
        versioned = path.endswith("/v1")
        user, _, host = parts.netloc.rpartition("@")
        authorization = f"Basic {base64.b64encode(unquote(user).encode()).decode()}" if user else None
        given = urlunsplit((parts.scheme, host, path, "", ""))
        return cls(given.removesuffix("/v1"), versioned, authorization, route=given + route if route else None)

    @property
    def versions(self) -> tuple[str, ...]:
        """Possible bases of the OpenAI-compatible routes, most likely first: most servers have them under `/v1`, some at the root.

        An address that ends with a version is a base itself; below it, `/v1` may follow, where the version is a proxy's prefix.
        """
        if self.versioned:
            return (f"{self.root}/v1", self.root)
        if _VERSION.search(self.root):
            return (self.root, f"{self.root}/v1")
        prefixed = (f"{self.route}/v1", self.route) if self.route else ()  # a proxy's prefix with the name of a route
        return (f"{self.root}/v1", self.root, *prefixed)

    @property
    def given(self) -> str:
        """The address as it was given, without credentials."""
        return self.route or (f"{self.root}/v1" if self.versioned else self.root)

    def without_version(self, base: str) -> str:
        """The base of the routes outside `/v1`, for a base of the versioned routes."""
        return _VERSION.sub("", base)

    @property
    def is_local(self) -> bool:
        """True for a server on this machine, which is reached without a proxy."""
        host = urlsplit(self.root).hostname or ""
        return self.socket is not None or host == "localhost" or is_loopback(host)

    def shown(self, url: str) -> str:
        """A route of this server for messages and logs: see `shown_url`."""
        return shown_url(url) if self.socket is None else f"{self} {urlsplit(url).path}"

    def __str__(self) -> str:
        return self.root if self.socket is None else f"{UNIX}{self.socket}"


def is_loopback(host: str) -> bool:
    """True for an IP address that only this machine can reach."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def has_credentials(url: str) -> bool:
    """Whether an address contains a user and password."""
    return "@" in url.partition("//")[2].partition("/")[0]


def shown_url(url: str) -> str:
    """An address for messages and logs, without user, password, query and fragment. Of a text that is no address, the part after an `@`."""
    try:
        parts = urlsplit(url)
        if not parts.netloc:
            return url.rpartition("@")[2].partition("?")[0]
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit((parts.scheme, host, parts.path, "", ""))
    except ValueError:
        return "<not an address>"
