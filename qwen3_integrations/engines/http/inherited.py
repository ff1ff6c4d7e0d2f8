"""A user's client in a forked process: it must not use the connections of the parent, whose answers would get mixed up."""

from __future__ import annotations

import copy
from typing import Any

_IN_PROCESS = ("MockTransport", "ASGITransport", "WSGITransport")
"""Transports without connections."""


def without_connections(client: Any) -> tuple[Any, str | None]:
    """A copy of a client without the connections that it has.

    The client itself does not change, because the caller may already use it in this process.

    Args:
        client: An `OpenAI` or `AsyncOpenAI`.

    Returns:
        The copy; and None, or the name of the class of a transport that can't be copied without its connections.
    """
    http_client = copy.copy(client._client)
    http_client._mounts = dict(http_client._mounts)
    try:
        http_client._transport = _without(http_client._transport)
        for pattern, transport in http_client._mounts.items():
            http_client._mounts[pattern] = None if transport is None else _without(transport)
    except _UnknownTransport as error:
        return client, str(error)
    return client.copy(http_client=http_client), None


class _UnknownTransport(Exception):
    """A transport of which it is not known where it keeps its connections."""


def _without(transport: Any) -> Any:
    if type(transport).__name__ in _IN_PROCESS:
        return transport
    pool: Any = copy.copy(getattr(transport, "_pool", None))
    if not all(hasattr(pool, name) for name in ("_connections", "_requests", "_optional_thread_lock")):
        raise _UnknownTransport(type(transport).__name__)
    pool._connections, pool._requests = [], []
    pool._optional_thread_lock = type(pool._optional_thread_lock)()
    fresh = copy.copy(transport)
    fresh._pool = pool
    return fresh
