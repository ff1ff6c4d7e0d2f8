"""The HTTP library of the installed OpenAI SDK. This package uses no other."""

from __future__ import annotations

import importlib
import ssl
from functools import cache
from typing import Any

from qwen3_integrations.engines.http.address import Address


@cache
def http_library() -> Any:
    """The module `httpx`, or `httpx2` with version 3 of the OpenAI SDK and later."""
    import openai

    base = openai.DefaultAsyncHttpxClient.__base__
    assert base is not None
    return importlib.import_module(base.__module__.partition(".")[0])


def sync_client(address: Address, timeout_s: float) -> Any:
    """An `httpx.Client` for single requests to a server. A server on this machine is reached without a proxy.

    Args:
        address: The server's address, which may be a Unix socket.
        timeout_s: Seconds for each of connecting, sending and receiving.
    """
    library = http_library()
    transport = None if address.socket is None else library.HTTPTransport(uds=address.socket)
    return library.Client(timeout=timeout_s, trust_env=not address.is_local, transport=transport, verify=_certificates())


@cache
def _certificates() -> ssl.SSLContext:
    """The certificates of the system, loaded once, because loading takes tens of milliseconds."""
    return ssl.create_default_context()
