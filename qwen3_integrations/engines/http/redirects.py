"""Where a redirect may lead: within the origin that was asked, so that texts, headers and keys go to no other host."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit, urlunsplit

from qwen3_integrations.engines.http.address import shown_url
from qwen3_integrations.errors import RedirectRefused

MOST = 5
"""Redirects that are followed for one request; real servers need one (a slash, a version)."""

STATUSES = frozenset((301, 302, 303, 307, 308))
"""Source: RFC 9110, 15.4."""

_PORTS = {"http": 80, "https": 443}


def onward(asked: str, location: str | None, status: int, *, root: str, method: str, shown: Callable[[str], str] = shown_url) -> str:
    """The address a redirect leads to.

    Args:
        asked: The absolute address that was asked.
        location: The answer's `Location`; may be relative.
        status: The answer's status.
        root: The server's address, without `/v1`.
        method: `GET` or `POST`. A `POST` stays one, with its body, unless the status says that it must not.
        shown: Makes an address fit for messages.

    Returns:
        An absolute address of the origin that was asked (scheme, host and port), whatever the `Location` says besides its path.

    Raises:
        RedirectRefused: For another origin, for what is no address, and for a `POST` that would become a `GET`.
    """
    here = shown(asked)
    if not location:
        raise RedirectRefused(f"{here} redirects ({status}) without saying where: is this the server's address?", url=here, status=status)
    try:
        target = urljoin(asked, location)
        parts, own = urlsplit(target), urlsplit(asked)
        same = _origin(parts) == _origin(own)
    except ValueError:  # a port that is no number, half an IPv6 address
        raise RedirectRefused(f"{here} redirects ({status}) to what is no address", url=here, status=status) from None
    if not same:
        raise _refused(asked, target, status, root, shown)
    if status == 303 and method != "GET":
        raise RedirectRefused(
            f"{here} redirects ({status}) to an address that would be asked without the texts: is this the server's address?",
            url=here,
            status=status,
        )
    # Rebuilt from the address that was asked: no reading of user, host and port by another parser can lead elsewhere.
    return urlunsplit((own.scheme, own.netloc, parts.path or "/", parts.query, ""))


def in_a_circle(asked: str, status: int, shown: Callable[[str], str] = shown_url) -> RedirectRefused:
    """The error after `MOST` redirects."""
    here = shown(asked)
    return RedirectRefused(f"{here} redirects in a circle: {MOST} redirects led to no answer", url=here, status=status)


def _refused(asked: str, target: str, status: int, root: str, shown: Callable[[str], str]) -> RedirectRefused:
    here, there, route = shown(asked), shown_url(target), asked.removeprefix(root)
    usable = there.startswith(("http://", "https://")) and there.endswith(route)
    base = there.removesuffix(route) + ("/v1" if route.startswith("/v1/") else "") if usable else None
    advice = f"base_url={base!r}" if base else "its address as base_url"
    return RedirectRefused(
        f"{here} wants to send the request on to {there} ({status}). That is another origin, and texts, headers and keys are not sent "
        f"there. If it is the right server, use {advice}; else base_url is not a server's address",
        url=here,
        status=status,
        base_url=base,
    )


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    """Scheme, host and port. Source: RFC 6454, 4."""
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


def get_within_origin(client: Any, url: str, headers: Mapping[str, str], *, root: str) -> Any:
    """A GET request of an httpx client, which follows redirects within the origin only. httpx itself follows them anywhere.

    Args:
        client: An `httpx.Client`.
        url: The absolute address.
        headers: Of each request.
        root: The server's address, without `/v1`.

    Returns:
        The `httpx.Response`.

    Raises:
        RedirectRefused: As in `onward`; also after `MOST` redirects.
    """
    for _ in range(MOST + 1):
        answer = client.get(url, headers=headers, follow_redirects=False)
        if answer.status_code not in STATUSES:
            return answer
        url = onward(url, answer.headers.get("location"), answer.status_code, root=root, method="GET")
    raise in_a_circle(url, answer.status_code)
