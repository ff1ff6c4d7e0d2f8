"""The HTTP library of the installed OpenAI SDK. This package uses no other."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from qwen3_integrations.engines.http.address import Address
from qwen3_integrations.engines.http.network import Network


@cache
def http_library() -> Any:
    """The module `httpx`, or `httpx2` with version 3 of the OpenAI SDK and later."""
    import openai

    base = openai.DefaultAsyncHttpxClient.__base__
    assert base is not None
    return importlib.import_module(base.__module__.partition(".")[0])


def sync_client(address: Address, timeout_s: float, network: Network | None = None) -> Any:
    """An `httpx.Client` for single requests to a server. A server on this machine is reached without a proxy.

    Args:
        address: The server's address, which may be a Unix socket.
        timeout_s: Seconds for each of connecting, sending and receiving.
        network: Proxy and certificates; None for those of the environment.

    Raises:
        ConfigError: If a variable of the environment names no usable proxy or certificates.
    """
    library = http_library()
    return library.Client(timeout=timeout_s, **client_options(address, network or Network(), library.HTTPTransport))


def async_client(address: Address, network: Network) -> Any:
    """An `httpx.AsyncClient` with the SDK's limits; otherwise as `sync_client`."""
    import openai

    return openai.DefaultAsyncHttpxClient(**client_options(address, network, http_library().AsyncHTTPTransport))


def client_options(address: Address, network: Network, transport: Any) -> dict[str, Any]:
    """Keyword arguments of an httpx client: certificates, and the way to the server.

    Args:
        address: The server's address.
        network: Proxy and certificates.
        transport: The library's class of transports, for a Unix socket.
    """
    network.check_proxies(address, http_library())
    certificates = network.certificates(http_library())
    if address.socket is not None:
        return {"verify": certificates, "trust_env": False, "transport": transport(uds=address.socket, verify=certificates)}
    if network.proxy is not None:
        return {"verify": certificates, "trust_env": False, "proxy": network.proxy or None}
    return {"verify": certificates, "trust_env": not address.is_local}
