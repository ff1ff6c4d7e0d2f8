"""Which processes listen at a server's address: it must be the server itself before texts or its key are sent there.

The operating system gives the answer, so it works for every program. It gives no process id for another user's processes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from qwen3_integrations.engines.http.address import Address
from qwen3_integrations.errors import ConfigError

Owner = Literal["nobody", "own", "other"]
_ANY = ("0.0.0.0", "::")  # noqa: S104
_CONNECT_S = 2.0
_TAKEN = errno.EADDRINUSE


@dataclass(frozen=True, slots=True)
class Listening:
    """The listeners at an address.

    Attributes:
        owner: `own` if only the server's processes listen; `other` if another process listens too, which may then get the requests;
            `nobody` if no listener is seen.
        who: The other process, for messages; empty if it is not known.
    """

    owner: Owner
    who: str = ""


def who_listens(url: str, supervisor: int, group: int) -> Listening:
    """Find the listeners at a server's address.

    Args:
        url: The server's address.
        supervisor: The process that started the server.
        group: The server's process group; 0 if there is none yet.
    """
    own = _processes_of(supervisor, group)
    address = Address.parse(url)
    if address.socket:
        return _judged(_of_socket(address.socket, own), own)
    parts = urlsplit(address.root)
    places = _addresses(parts.hostname or "", parts.port or 80)
    found = {pid for pid in own if any(_covers(each, places) for each in _connections(pid))}
    return _judged([*found, *_all_listening(places)], own)


def check_free(host: str, port: int) -> None:
    """Check that a port is free at every address of a host.

    Raises:
        ConfigError: If it is taken, or the address does not belong to this machine.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConfigError(f"{host!r} can't be used to listen on: {error}", option="host") from error
    wildcards = [(socket.AF_INET, ("0.0.0.0", port))] if host in _ANY else []  # noqa: S104
    refusals: list[OSError] = []
    for family, place in {(family, place) for family, _, _, _, place in found} | set(wildcards):
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                # Otherwise just closed connections of an earlier server would block the port. A listener blocks it in any case.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(place)
        except OSError as error:
            refusals.append(error)
        else:
            if _is_reserved(family, place):
                raise taken_error(host, port)
    taken = [error for error in refusals if error.errno == _TAKEN]
    if taken or len(refusals) == len(found):
        raise (
            taken_error(host, port) if taken else ConfigError(f"{host!r} can't be used to listen on: {refusals[0].strerror}", option="host")
        )


def _is_reserved(family: int, place: Any) -> bool:
    """Whether a socket that may share an address holds it and does not listen yet: vLLM binds its port before it loads.

    The system does not list such sockets. It lists connections, which occupy a port too but do not prevent listening.
    """
    import psutil

    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind(place)
    except OSError as error:
        if error.errno != _TAKEN:
            return False
    else:
        return False
    try:
        return not any(each.laddr and each.laddr.port == place[1] for each in psutil.net_connections("tcp"))
    except (psutil.Error, OSError):  # on some systems only root may read this
        return False


def taken_error(host: str, port: int) -> ConfigError:
    """The error for a port that is taken; names the process where it is known."""
    who = _judged(_all_listening(_addresses({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)), frozenset()).who  # noqa: S104
    reason = f"{port} is taken{f' by {who}' if who else ''}, at {host}"
    return ConfigError(reason, option="port", advice="Use another port, or 0 for a free one")


def clear_socket(path: Path) -> None:
    """Remove a Unix socket that an earlier server left: vLLM never removes it.

    Raises:
        ConfigError: If a process uses it, or it is not a socket.
    """
    try:
        about = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(about.st_mode):
        raise ConfigError(f"{str(path)!r} is a file and not a socket", option="uds", advice="Use another path")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_CONNECT_S)  # a listener that accepts no more connections would block
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            if not _is_bound(path):
                path.unlink(missing_ok=True)
                return
        except FileNotFoundError:
            return
        except OSError:  # another user's socket, or of another kind
            pass
    raise ConfigError(f"{str(path)!r} is in use by another process", option="uds", advice="Use another path")


def _judged(found: list[int | None], own: frozenset[int]) -> Listening:
    others = [pid for pid in found if pid not in own]
    if others:
        return Listening("other", _named(others[0]))
    return Listening("own" if found else "nobody")


def _named(pid: int | None) -> str:
    import psutil

    if pid is None:
        return ""
    try:
        return f"process {pid} ({psutil.Process(pid).name()})"
    except psutil.Error:
        return f"process {pid}"


def _processes_of(supervisor: int, group: int) -> frozenset[int]:
    """The processes of a server: its supervisor's children, and its process group."""
    import psutil

    found = set()
    with contextlib.suppress(psutil.Error):
        found |= {child.pid for child in psutil.Process(supervisor).children(recursive=True)} if supervisor else set()
    if group:
        for pid in psutil.pids():
            with contextlib.suppress(OSError):
                found |= {pid} if os.getpgid(pid) == group else set()
    return frozenset(found)


def is_frozen(supervisor: int, group: int) -> bool:
    """Whether a process of a server is stopped by a signal or a debugger, and so computes nothing.

    Args:
        supervisor, group: As in `who_listens`.
    """
    import psutil

    for pid in _processes_of(supervisor, group):
        with contextlib.suppress(psutil.Error):
            if psutil.Process(pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP):
                return True
    return False


def _addresses(host: str, port: int) -> frozenset[tuple[str, int]]:
    try:
        return frozenset((str(place[0]), port) for *_, place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except OSError:
        return frozenset({(host, port)})


def _covers(connection: Any, places: frozenset[tuple[str, int]]) -> bool:
    """Whether a connection is a listener that requests to one of these addresses would reach."""
    import psutil

    if connection.status != psutil.CONN_LISTEN:
        return False
    host, port = connection.laddr.ip.removeprefix("::ffff:"), connection.laddr.port
    return (host, port) in places or (host in _ANY and any(port == wanted for _, wanted in places))


def _connections(pid: int) -> list[Any]:
    import psutil

    with contextlib.suppress(psutil.Error):
        return list(psutil.Process(pid).net_connections("tcp"))
    return []


def _all_listening(places: frozenset[tuple[str, int]]) -> list[int | None]:
    """All listeners at these addresses; None for another user's. Empty if only root may read this."""
    import psutil

    with contextlib.suppress(psutil.Error, OSError):
        return [each.pid for each in psutil.net_connections("tcp") if _covers(each, places)]
    return []


def _of_socket(path: str, own: frozenset[int]) -> list[int | None]:
    """The process that listens on a Unix socket; Linux reports it to a client."""
    import psutil

    if not hasattr(socket, "SO_PEERCRED"):
        with contextlib.suppress(psutil.Error):
            return [pid for pid in own if any(each.laddr == path for each in psutil.Process(pid).net_connections("unix"))]
        return []
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_CONNECT_S)
        try:
            probe.connect(path)
        except OSError:
            return []
        pid, _, _ = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return [pid or None]


def _is_bound(path: Path) -> bool:
    """Whether a process has bound this path and does not listen yet, as a server that still loads."""
    import psutil

    with contextlib.suppress(psutil.Error, OSError):
        return any(each.laddr == str(path) for each in psutil.net_connections("unix"))
    return False
