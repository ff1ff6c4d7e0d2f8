"""Divides the prompts of a job into requests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qwen3_integrations.core.types import Prompt
from qwen3_integrations.engines.http.pending import REQUEST_CHARACTERS
from qwen3_integrations.engines.http.server_info import ServerInfo


def grouped(prompts: Sequence[Prompt], server: ServerInfo, size: int) -> Iterator[tuple[list[int], object]]:
    """Divide prompts into requests.

    Args:
        prompts: The prompts of a job.
        server: The server that gets the requests.
        size: Maximum number of prompts in a request.

    Yields:
        For each request the positions of its prompts, and their kind. A request has prompts of one kind and at most
        `REQUEST_CHARACTERS`; a prompt with more characters is a request of its own.
    """
    kinds: dict[object, list[int]] = {}
    for position, prompt in enumerate(prompts):
        kinds.setdefault(_kind(prompt, server), []).append(position)
    if server.dialect.one_prefix:
        kinds = _joined(kinds)
    for kind, positions in kinds.items():
        part: list[int] = []
        room = REQUEST_CHARACTERS
        for position in positions:
            length = prompts[position].characters
            if part and (len(part) == size or length > room):
                yield part, kind
                part, room = [], REQUEST_CHARACTERS
            part.append(position)
            room -= length
        yield part, kind


def _kind(prompt: Prompt, server: ServerInfo) -> object:
    """Prompts of equal kinds may share a request.

    The query, where the server has its own template; otherwise, whether ids are sent, and the prefix where a request has it once.
    """
    if server.dialect.one_query:
        return prompt.prefix.query, prompt.prefix.instruction
    by_ids = server.dialect.sends_ids(prompt)
    return (by_ids, prompt.prefix.text) if server.dialect.one_prefix else by_ids


def _joined(kinds: dict[object, list[int]]) -> dict[object, list[int]]:
    """The same, where prompts that share their prefix with no other prompt may share a request."""
    joined: dict[object, list[int]] = {}
    for kind, positions in kinds.items():
        by_ids = kind[0] if isinstance(kind, tuple) else kind
        joined.setdefault(kind if len(positions) > 1 else (by_ids, None), []).extend(positions)
    return joined
