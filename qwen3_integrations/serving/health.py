"""A running server's health, and its load from /metrics."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from qwen3_integrations.engines.http.address import Address
from qwen3_integrations.engines.http.bounded import BOUNDS, Bounds, TooLarge, bounded
from qwen3_integrations.engines.http.library import http_library, sync_client
from qwen3_integrations.engines.http.transport import LIST_BYTES

PROBE_S = 2.0
"""Seconds within which even a busy server on this machine answers."""

_SAMPLE = re.compile(r"^(?P<name>[a-zA-Z_:][\w:]*)(?:\{[^}]*\})?\s+(?P<value>[\d.eE+-]+|NaN|[+-]Inf)", re.MULTILINE)
_NAMES: Mapping[str, tuple[str, ...]] = {
    "running": ("vllm:num_requests_running", "sglang:num_running_reqs", "qwen3_queued_requests"),
    "waiting": ("vllm:num_requests_waiting", "sglang:num_queue_reqs"),
    "prompt_tokens": ("vllm:prompt_tokens_total", "sglang:prompt_tokens_total", "qwen3_prompt_tokens_total"),
    "requests": ("vllm:request_success_total", "sglang:num_requests_total", "qwen3_prompts_total"),
}


@dataclass(frozen=True, slots=True)
class Load:
    """The load of a server; None where it does not report a number.

    Attributes:
        running: Prompts in flight.
        waiting: Prompts in the queue.
        prompt_tokens: Tokens read since the start.
        requests: Prompts answered since the start.
    """

    running: int | None = None
    waiting: int | None = None
    prompt_tokens: int | None = None
    requests: int | None = None


def is_healthy(url: str, route: str = "/health") -> bool:
    """True when a route, which needs no key, answers 200."""
    return _get(url, route) is not None


def answers(url: str) -> bool:
    """True when a process listens at the address, even if it does not accept connections."""
    address = Address.parse(url)
    parts = urlsplit(address.root)
    try:
        if address.socket:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(PROBE_S)
                probe.connect(address.socket)
        else:
            socket.create_connection((parts.hostname or "", parts.port or 80), PROBE_S).close()
    except TimeoutError:  # its queue is full, because it accepts none
        return True
    except OSError:
        return False
    return True


def load_of(url: str, key: str | None) -> Load:
    """The load from /metrics.

    Args:
        url: The server's address.
        key: Its key; None for none.
    """
    text = _get(url, "/metrics", key)
    return Load() if text is None else parse_load(text)


def asks_for_key(url: str, route: str) -> bool:
    """Whether a server refuses a request without a key on a route."""
    return _status(url, route) == HTTPStatus.UNAUTHORIZED


def parse_load(text: str) -> Load:
    """The numbers in a text of Prometheus' exposition format, summed over a server's processes. Source: prometheus.io."""
    sums: dict[str, float] = {}
    for sample in _SAMPLE.finditer(text):
        sums[sample["name"]] = sums.get(sample["name"], 0.0) + float(sample["value"])
    found = {field: next((int(sums[name]) for name in names if name in sums), None) for field, names in _NAMES.items()}
    return Load(**found)


def _get(url: str, path: str, key: str | None = None) -> str | None:
    """The body of a path of a server on this machine; None unless it answers 200 in time."""
    answer = _answer(url, path, key)
    return answer.content.decode("utf-8", "replace") if answer is not None and answer.status_code == HTTPStatus.OK else None


def _status(url: str, path: str) -> int | None:
    """The status that a path answers; None for no answer in time."""
    answer = _answer(url, path, None)
    return None if answer is None else int(answer.status_code)


def _answer(url: str, path: str, key: str | None) -> Any:
    address = Address.parse(url)
    token = BOUNDS.set(Bounds(PROBE_S, LIST_BYTES))  # another program may listen at the address
    try:
        with sync_client(address, PROBE_S) as client:
            return bounded(client).get(f"{address.root}{path}", headers={} if key is None else {"Authorization": f"Bearer {key}"})
    except (OSError, TooLarge, http_library().HTTPError):
        return None
    finally:
        BOUNDS.reset(token)
