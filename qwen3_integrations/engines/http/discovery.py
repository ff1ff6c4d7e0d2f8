"""Find out a server's routes, dialect and context from its list of models, which is advice: requests decide."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from qwen3_integrations.core.tokenizer import Tokenizer
from qwen3_integrations.core.types import Task
from qwen3_integrations.core.validation import suggest
from qwen3_integrations.engines.http.address import Address
from qwen3_integrations.engines.http.caps import described_caps
from qwen3_integrations.engines.http.dialects import DIALECT_NAMES, DIALECTS, NESTED, STANDARD, Dialect, DialectName, is_sglang, is_vllm
from qwen3_integrations.engines.http.listing import Listing, Match, match, read_listing
from qwen3_integrations.engines.http.numbers import is_name, short_list, whole
from qwen3_integrations.engines.http.server_info import ServerInfo
from qwen3_integrations.engines.http.sglang import SGLang, labels_of, sglang_at
from qwen3_integrations.engines.http.transport import Transport, retries
from qwen3_integrations.errors import ConfigError, EngineError, ModelNotServed, RouteNotServed, one_line
from qwen3_integrations.models.sglang_support import RESERVED_TOKENS

_FULL_CONTEXT_SINCE = (0, 32)
"""The first version of vLLM that answers every prompt of exactly `max_model_len` tokens."""

_CAPS = {(host, task): cap for host in ("dashscope", "maas.aliyuncs.com") for task, cap in (("embed", 10), ("rerank", 500))}
"""Prompts in one request, by a part of the host's name. Source: Alibaba Cloud's references of text-embedding-v4, qwen3-rerank."""


@dataclass(frozen=True, slots=True)
class Discovery:
    """What a server may be.

    Attributes:
        candidates: What is tried, most likely first.
        tried: Whether the candidates must be tried by a request: the server's description of itself is missing or doubtful.
        missing: The error for a server that refuses the model's name, which it does not list; None where it lists the name.
        only_missing: Whether the next candidate is tried only where the route of the one before does not exist.
        one_model: Whether the server describes one other model, so that its answer proves nothing if it ignores names.
        unlisted: The error for a server that has none of the routes and no list of models; None where it has a list.
    """

    candidates: tuple[ServerInfo, ...]
    tried: bool = False
    missing: ModelNotServed | None = None
    only_missing: bool = False
    one_model: bool = False
    unlisted: RouteNotServed | None = None


async def discover(
    transport: Transport,
    address: Address,
    model: str | None,
    task: Task,
    asked: DialectName,
    path: str | None = None,
    *,
    tokenizer: Tokenizer | None = None,
    token_ids: tuple[int, int] | None = None,
) -> Discovery:
    """Request a server's list of models, and make the candidates for its routes and its dialect.

    Args:
        transport: Sends the requests.
        address: The server's address.
        model: The model's name; None for the first that the server lists.
        task: `embed` or `rerank`.
        asked: The dialect; `auto` to choose it.
        path: The route, behind the address; None to choose it.
        tokenizer: The model's tokenizer; None where it is not on this machine.
        token_ids: The ids of the tokens for "yes" and for "no" that the model's folder declares; None for the tokens of these words.

    Raises:
        ModelNotServed: If `model` is None, and it lists no model.
        RouteNotServed: If it says that it runs the model for the other task.
        ConfigError: If `asked` needs the token ids of "yes" and "no", which neither this machine nor the server knows.
        ServerError: If it can't be reached; or if `model` is None, and its list can't be read.
    """
    listing = await read_listing(transport, address, task)
    if model is None and not listing.entries:
        if listing.failure:
            raise listing.failure
        raise ModelNotServed(f"{address} lists no models", url=str(address), status=404, advice="Pass the name of the model that it serves")
    found = match(listing, listing.names[0] if model is None else model)
    server = await _described(transport, address, listing, found, task, asked, tokenizer, token_ids)
    dialects = _dialects(found.entry, listing, task, asked, path or address.route, server)
    notes = _notes(listing, found, address)
    missing = _not_served(listing, found, address) if found.missing else None
    auto = asked == "auto"
    return Discovery(
        tuple(_candidate(dialect, listing, found, address, path, server, model, notes) for dialect in dialects),
        tried=len(dialects) > 1 or (auto and not listing.entries) or missing is not None,
        missing=missing,
        only_missing=server.sglang is not None,
        one_model=auto and not found.same,
        unlisted=_unlisted(address) if auto and not listing.entries else None,
    )


@dataclass(frozen=True, slots=True)
class _Described:
    """What a server says of itself beside its list of models.

    Attributes:
        version: vLLM's version; None for a server that only claims to be vLLM, and for others.
        sglang: SGLang's description; None for a server that only claims to be SGLang, and for others.
        labels: The token ids of "yes" and "no", for a reranker on SGLang; None where they are not known.
    """

    version: tuple[int, int] | None = None
    sglang: SGLang | None = None
    labels: tuple[int, int] | None = None

    def proves(self, dialect: Dialect) -> bool:
        """Whether it is proved that the server has a dialect."""
        if dialect.name == "sglang":
            return self.sglang is not None and (dialect.task == "embed" or (self.sglang.generates and self.labels is not None))
        return dialect.exact and self.version is not None


async def _described(
    transport: Transport,
    address: Address,
    listing: Listing,
    found: Match,
    task: Task,
    asked: DialectName,
    tokenizer: Tokenizer | None,
    token_ids: tuple[int, int] | None,
) -> _Described:
    """What the server that a list names, or that the caller names, says of itself. A claim proves nothing: routers pass it on."""
    root = address.without_version(listing.base)
    if is_vllm(found.entry) and asked != "sglang":
        return _Described(await _vllm_version(transport, root))
    if not is_sglang(found.entry) and asked != "sglang":
        return _Described()
    sglang = await sglang_at(transport, root)
    if sglang is not None:
        sglang.check_task(task, found.names[0], address)
    labels = None
    if task == "rerank" and (asked == "sglang" or (sglang is not None and sglang.generates)):
        labels = await labels_of(transport, root, found.names[0], tokenizer, token_ids)
        if labels is None and asked == "sglang":
            raise ConfigError(
                f"'sglang' needs the token ids of yes and no, which {address} does not tell",
                option="dialect",
                advice="Pass the model's folder: engine_options={'tokenizer': ...}, or use the dialect 'rerank'",
            )
    return _Described(sglang=sglang, labels=labels)


def _dialects(
    entry: Mapping[str, Any], listing: Listing, task: Task, asked: DialectName, route: str | None, server: _Described
) -> list[Dialect]:
    """The dialects to try."""
    if asked != "auto":
        return [dialect_for(asked, task)]
    rows = [dialect for dialect in DIALECTS if dialect.task == task and (server.proves(dialect) or not dialect.needs_proof)]
    if route and (named := [dialect for dialect in rows if route.endswith((dialect.path, *dialect.other_paths))]):
        return sorted(named, key=lambda dialect: not dialect.speaks(entry))[:1]
    speaking = [dialect for dialect in rows if dialect.speaks(entry)]
    if listing.entries:
        unsure = server.sglang is not None or (speaking[0].exact and not server.proves(speaking[0]))
        return speaking if task == "rerank" and unsure else speaking[:1]
    return ([dialect for dialect in rows if dialect.exact] if task == "rerank" else []) + speaking[-1:]


def _candidate(
    dialect: Dialect,
    listing: Listing,
    found: Match,
    address: Address,
    path: str | None,
    server: _Described,
    model: str | None,
    notes: tuple[str, ...],
) -> ServerInfo:
    vllm = is_vllm(found.entry)
    urls = _urls(address, listing.base, dialect, path)
    parent = found.entry.get("parent")  # of an adapter: its model
    base = next((entry for entry in listing.entries if parent is not None and entry["id"] == parent), None)
    context = whole(found.entry.get("max_model_len")) or whole((base or {}).get("max_model_len")) or None
    if context is not None and vllm and (server.version is None or server.version < _FULL_CONTEXT_SINCE):
        context -= 1  # 0.24 does not answer a prompt of exactly `max_model_len` tokens: it reserves the last position for a generated token
    if context is not None and is_sglang(found.entry):
        context = max(1, context - RESERVED_TOKENS[dialect.task])
    host = urlsplit(address.root).hostname or ""
    cap = next((cap for (part, task), cap in _CAPS.items() if part in host and task == dialect.task), None)
    proved = server.proves(dialect)
    root = found.entry["root"] if is_name(found.entry.get("root")) else None
    others = tuple(name for name in listing.names if name != found.names[-1]) if not found.missing else listing.names
    return ServerInfo(
        url=urls[0],
        root=address.without_version(listing.base),
        dialect=dialect,
        model=found.names[0],
        context=context,
        counts=vllm or dialect.exact or server.sglang is not None,
        origin=server.sglang.origin if server.sglang else root,
        base=None if base is None else str(base["id"]),
        others=others,
        form=STANDARD if proved else None,
        ids=True if proved else None,
        max_items=described_caps(listing.info).items or cap,
        notes=notes,
        asked=model,
        likely_form="nested" if urls[0].endswith(NESTED) else "texts" if listing.info and dialect.one_query else None,
        labels=server.labels if dialect.name == "sglang" else None,
        other_urls=() if proved else urls[1:],
        other_models=found.names[1:],
    )


def _urls(address: Address, base: str, dialect: Dialect, path: str | None) -> tuple[str, ...]:
    """Possible routes, most likely first."""
    if path is not None:
        return (f"{address.given}/{path.lstrip('/')}",)
    bases = list(dict.fromkeys([base, *address.versions]))
    roots = [] if dialect.versioned else list(dict.fromkeys(map(address.without_version, bases)))
    paths = (dialect.path, *dialect.other_paths)
    named = [address.route] if address.route and address.route.endswith(paths) else []
    return tuple(dict.fromkeys([*named, *(place + route for route in paths for place in dict.fromkeys([*roots, *bases]))]))


async def _vllm_version(transport: Transport, root: str) -> tuple[int, int] | None:
    """The version of vLLM; None for a server that only claims to be vLLM, such as a router in front of it.

    Versions matter for the longest prompt. Source: vLLM's issues 47971 and 55427; fixed in the code of 0.32.
    """
    try:
        with retries(1):
            answer = await transport.get(f"{root}/version")
    except EngineError:
        return None
    numbers = re.match(r"(\d{1,6})\.(\d{1,6})", str(answer.get("version") if isinstance(answer, dict) else ""))
    return None if numbers is None else (int(numbers[1]), int(numbers[2]))


def dialect_for(name: str, task: Task) -> Dialect:
    """The dialect of that name for a task.

    Raises:
        ConfigError: If there is no such dialect, or not for this task.
    """
    tasks_of(name)
    for dialect in DIALECTS:
        if dialect.name == name and dialect.task == task:
            return dialect
    able = ", ".join(sorted(dialect.name for dialect in DIALECTS if dialect.task == task))
    raise ConfigError(f"{name!r} can't {task}", option="dialect", advice=f"These can: {able}")


def tasks_of(name: str) -> tuple[Task, ...]:
    """The tasks that a dialect has.

    Raises:
        ConfigError: If there is no dialect of that name.
    """
    names = sorted(DIALECT_NAMES)
    if name not in names:
        raise ConfigError(f"must be one of auto, {', '.join(names)}, not {name!r}{suggest(str(name), names)}", option="dialect")
    return tuple(dialect.task for dialect in DIALECTS if dialect.name == name)


def _notes(listing: Listing, found: Match, address: Address) -> tuple[str, ...]:
    """What is unexpected in a list of models."""
    if listing.failure is not None:
        return (one_line(f"{address} has no readable list of models ({listing.failure.reason}): requests are sent without it"),)
    if found.missing:
        return (f"{address} lists {_shown(listing.names)}, not {found.names[0]!r}: requests are sent with that name",)
    return ()


def _not_served(listing: Listing, found: Match, address: Address) -> ModelNotServed:
    return ModelNotServed(
        f"{address} does not serve {found.names[0]!r}; it serves {_shown(listing.names)}",
        url=str(address),
        status=404,
        advice="Pass the served name as model if that is the right model, or use another server",
    )


def _unlisted(address: Address) -> RouteNotServed:
    return RouteNotServed(
        f"{address} lists no models under /v1/models, so its dialect is not known, and none of the usual routes answers",
        url=str(address),
        status=404,
        advice="Check base_url, or name the dialect: engine_options={'dialect': 'openai'} or 'rerank' or 'vllm'",
    )


def _shown(names: tuple[str, ...]) -> str:
    return short_list([repr(name) for name in names])
