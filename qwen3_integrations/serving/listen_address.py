"""The address on which a server listens: whether it is valid, and who can reach it."""

from __future__ import annotations

from pathlib import Path

from qwen3_integrations.engines.http.address import is_loopback
from qwen3_integrations.errors import ConfigError

_SOCKET_BYTES = 107
"""Longest path of a Unix socket. Source: `sun_path` of Linux' <sys/un.h>, without its final zero."""


def check_address(host: str, uds: str | Path | None) -> None:
    """Check host and Unix socket.

    Args:
        host: The host; not used with a socket.
        uds: Path of the Unix socket; None for host and port.

    Raises:
        ConfigError: If the host is empty, the path is too long, or the socket's folder does not exist.
    """
    if uds is None:
        if not host.strip():
            raise ConfigError("must be an address such as 127.0.0.1, not an empty string", option="host")
        return
    socket = Path(uds).absolute()
    if not str(uds) or len(bytes(socket)) > _SOCKET_BYTES:
        raise ConfigError(f"must be a path of 1 to {_SOCKET_BYTES} bytes (the system's limit), not {str(uds)!r}", option="uds")
    if not socket.parent.is_dir():
        raise ConfigError(f"{str(uds)!r} is in a folder that does not exist", option="uds", advice="Create the folder")


def is_public(host: str, uds: str | Path | None) -> bool:
    """True when other machines can reach a server on this host or Unix socket."""
    return uds is None and host != "localhost" and not is_loopback(host)


def exposure_warning(host: str, *, without_key: bool) -> str:
    """The warning for a server that other machines can reach.

    Args:
        host: The host on which it listens.
        without_key: Whether clients need no key.
    """
    if without_key:
        return f"{host} can be reached by other machines, and the server asks for no key: anybody there may use it"
    return f"{host} can be reached by other machines: key and texts travel unencrypted"
