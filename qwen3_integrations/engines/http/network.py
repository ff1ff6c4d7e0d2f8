"""The way to a server: its proxy and the certificates that are trusted, from options or from the environment's variables."""

from __future__ import annotations

import os
import ssl
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from qwen3_integrations.engines.http.address import Address, shown_url
from qwen3_integrations.errors import ConfigError

_DIRECT = "Correct it, or unset it"


@dataclass(frozen=True, slots=True)
class Network:
    """Proxy and certificates.

    Attributes:
        proxy: The proxy's address; an empty string for none; None for that of the environment (`HTTPS_PROXY` and its like), which is not
            used for a server on this machine.
        verify: Whether the server's certificate is checked.
        ca: A file, or a folder, with the certificates to trust; None for `SSL_CERT_FILE` or `SSL_CERT_DIR`, or else the system's.
    """

    proxy: str | None = None
    verify: bool = True
    ca: str | Path | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.verify, bool):
            advice = "Pass a file with certificates as ca"
            raise ConfigError(f"must be True or False, not {type(self.verify).__name__}", option="verify", advice=advice)
        if self.proxy is not None and not isinstance(self.proxy, str):
            raise ConfigError(f"must be an address such as http://proxy:3128, not {type(self.proxy).__name__}", option="proxy")
        if self.ca is not None and not self.verify:
            raise ConfigError("can't be combined with verify=False", option="ca", advice="Leave one of them out")
        if self.ca is not None:
            _loaded("ca", str(Path(self.ca).expanduser()))

    def certificates(self, library: Any) -> ssl.SSLContext:
        """The certificates to trust: without option and variable, those that the HTTP library trusts.

        Raises:
            ConfigError: If the file or folder is missing, or holds no certificates.
        """
        if not self.verify:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            return context
        if self.ca is not None:
            return _loaded("ca", str(Path(self.ca).expanduser()))
        for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
            if path := os.environ.get(name):
                return _loaded(name, path)
        return _of_the_system(library)

    def proxy_for(self, address: Address) -> tuple[str, str] | None:
        """The proxy on the way to a server, and the option or variable that names it; None for none."""
        if address.socket is not None:
            return None
        if self.proxy is not None:
            return (self.proxy, "proxy") if self.proxy else None
        parts = urlsplit(address.root)
        if address.is_local or proxy_bypass(parts.hostname or ""):
            return None
        found = getproxies()
        for scheme in (parts.scheme, "all"):
            if value := found.get(scheme):
                return value, _variable(f"{scheme}_proxy", value)
        return None

    def check_proxies(self, address: Address, library: Any) -> None:
        """Check the proxies, because the HTTP library's own errors do not say where an address comes from.

        Raises:
            ConfigError: With the name of the option or the variable.
        """
        if address.socket is not None:
            return
        for option, value in self._named(address):
            url = value if "://" in value else f"http://{value}"
            try:
                parts = urlsplit(url)
                if parts.scheme not in ("http", "https", "socks5", "socks5h") or not parts.hostname or parts.port == 0:
                    raise ValueError
                library.AsyncHTTPTransport(proxy=url, verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
            except ImportError:
                reason = f"names the proxy {shown_url(url)}, but the package socksio is not installed"
                raise ConfigError(reason, option=option, advice="pip install 'httpx[socks]'") from None
            except Exception:  # noqa: BLE001  the libraries raise errors of several classes
                reason = f"must be a proxy's address such as http://proxy:3128, not {shown_url(value)!r}"
                raise ConfigError(reason, option=option, advice=None if option == "proxy" else _DIRECT) from None
        if self.proxy is None and not address.is_local:
            self._check_exceptions(library)

    def _named(self, address: Address) -> Iterator[tuple[str, str]]:
        if self.proxy is not None:
            yield from [("proxy", self.proxy)] if self.proxy else []
        elif not address.is_local:
            found = getproxies()
            yield from (
                (_variable(f"{scheme}_proxy", found[scheme]), found[scheme]) for scheme in ("http", "https", "all") if scheme in found
            )

    def _check_exceptions(self, library: Any) -> None:
        value = getproxies().get("no")
        if not value:
            return
        try:
            library.Client(verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)).close()
        except Exception as error:  # noqa: BLE001  as above
            reason = f"must be a list of hosts, not {value[:200]!r} ({type(error).__name__}: {str(error)[:100]})"
            raise ConfigError(reason, option=_variable("no_proxy", value), advice=_DIRECT) from None


def _variable(name: str, value: str) -> str:
    """The name of a variable as it is spelled in the environment: the lower case has precedence."""
    return next((each for each in (name, name.upper()) if os.environ.get(each) == value), name.upper())


def _loaded(option: str, path: str) -> ssl.SSLContext:
    try:
        found = Path(path).stat()
        return _trusting(path, stat.S_ISDIR(found.st_mode), found.st_mtime_ns)
    except OSError as error:  # ssl.SSLError too
        reason = f"must be a file or a folder with certificates in PEM format, not {path!r} ({error.strerror or type(error).__name__})"
        raise ConfigError(reason, option=option, advice=None if option == "ca" else _DIRECT) from None


@lru_cache(maxsize=8)  # because loading takes tens of milliseconds
def _trusting(path: str, folder: bool, changed: int) -> ssl.SSLContext:  # noqa: ARG001  `changed` is part of the cache's key
    return ssl.create_default_context(capath=path) if folder else ssl.create_default_context(cafile=path)


@lru_cache(maxsize=1)
def _of_the_system(library: Any) -> ssl.SSLContext:
    context: ssl.SSLContext = library.create_ssl_context()
    return context
