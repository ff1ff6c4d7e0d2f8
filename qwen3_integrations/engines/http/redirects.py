"""Redirects are followed within the origin of the request only, so that texts, headers and keys are sent to no other host."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit, urlunsplit

from qwen3_integrations.engines.http.address import shown_url
from qwen3_integrations.errors import RedirectRefused

MOST = 5
"""Maximum number of redirects for one request; real servers need one (a slash, a version)."""

STATUSES = frozenset((301, 302, 303, 307, 308))
"""Source: RFC 9110, 15.4."""

_CHECK = "Check that base_url is the server's address"

_PORTS = {"http": 80, "https": 443}


def onward(asked: str, location: str | None, status: int, *, root: str, method: str, shown: Callable[[str], str] = shown_url) -> str:
    """The address a redirect leads to.

    Args:
        asked: The absolute address of the request.
        location: The `Location` of the answer; may be relative.
        status: The status of the answer.
        root: The server's address, without `/v1`.
        method: `GET` or `POST`. A `POST` stays a `POST` with its body, unless the status forbids it.
        shown: Removes from an address what messages must not contain.

    Returns:
        An absolute address with the scheme, host and port of the request, and the path and query of `Location`.

    Raises:
        RedirectRefused: For another origin, for an invalid address, and for a `POST` that would become a `GET`.
    """
    here = shown(asked)
    if not location:
        raise RedirectRefused(f"{here} redirects ({status}) without a Location", url=here, status=status, advice=_CHECK)
    try:
        target = urljoin(asked, location)
        parts, own = urlsplit(target), urlsplit(asked)
        same = _origin(parts) == _origin(own)
    except ValueError:  # a port that is not a number, an incomplete IPv6 address
        raise RedirectRefused(f"{here} redirects ({status}) to an invalid address", url=here, status=status, advice=_CHECK) from None
    if not same:
        raise _refused(asked, target, status, root, shown)
    if status == 303 and method != "GET":
        raise RedirectRefused(
            f"{here} redirects ({status}) to an address that would be requested without the texts",
            url=here,
            status=status,
            advice=_CHECK,
        )
    # Made from the address of the request, so that no other parser can read another user, host or port from it.
    return urlunsplit((own.scheme, own.netloc, parts.path or "/", parts.query, ""))


def in_a_circle(asked: str, status: int, shown: Callable[[str], str] = shown_url) -> RedirectRefused:
    """The error for a request with more than `MOST` redirects."""
    here = shown(asked)
    return RedirectRefused(f"{here} redirects in a circle: no answer after {MOST} redirects", url=here, status=status)


def _refused(asked: str, target: str, status: int, root: str, shown: Callable[[str], str]) -> RedirectRefused:
    here, there, route = shown(asked), shown_url(target), asked.removeprefix(root)
    usable = there.startswith(("http://", "https://")) and there.endswith(route)
    base = there.removesuffix(route) + ("/v1" if route.startswith("/v1/") else "") if usable else None
    advice = f"base_url={base!r}" if base else "its address as base_url"
    return RedirectRefused(
        f"{here} redirects to {there} ({status}). That is another origin, and texts, headers and keys are not sent "
        f"there. If it is the right server, use {advice}; otherwise check base_url",
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
        headers: Sent with each request.
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
