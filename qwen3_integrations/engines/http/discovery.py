"""Find out a server's model, context, dialect and routes, once, from its list of models."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from qwen3_integrations.core.types import Task
from qwen3_integrations.core.validation import suggest
from qwen3_integrations.engines.http.address import Address
from qwen3_integrations.engines.http.caps import NO_CAPS, Caps, described_caps
from qwen3_integrations.engines.http.dialects import DIALECT_NAMES, DIALECTS, Dialect, DialectName, is_vllm
from qwen3_integrations.engines.http.numbers import is_name, short_list, whole
from qwen3_integrations.engines.http.transport import Transport
from qwen3_integrations.errors import (
    AuthenticationFailed,
    BadReply,
    ConfigError,
    ModelNotServed,
    RedirectRefused,
    RequestRefused,
    RouteNotServed,
)

_FULL_CONTEXT_SINCE = (0, 32)
"""The first version of vLLM that answers every prompt of exactly `max_model_len` tokens."""

_NO_SUCH_ROUTE = (RouteNotServed, ModelNotServed, RequestRefused, RedirectRefused, AuthenticationFailed, BadReply)
"""Errors of a server without an optional route."""


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """A server as it describes itself.

    Attributes:
        url: The address to which prompts are posted.
        root: The base of the routes outside `/v1`.
        dialect: Its dialect.
        model: The name under which it serves the model.
        context: Tokens of the longest prompt that it accepts; None where it does not report it. For an older vLLM, one
            less than it reports.
        counts: Whether it counts tokens for clients (`/tokenize`).
        origin: The folder or name from which it loaded the model (vLLM's `root`); None where it does not report it.
        others: The other names that it serves.
        caps: What it says that it accepts in one request.
    """

    url: str
    root: str
    dialect: Dialect
    model: str
    context: int | None
    counts: bool
    origin: str | None = None
    others: tuple[str, ...] = ()
    caps: Caps = NO_CAPS


async def discover(transport: Transport, address: Address, model: str | None, task: Task, asked: DialectName) -> ServerInfo:
    """Request a server's list of models, and choose the dialect unless one is named.

    Args:
        transport: Sends the requests.
        address: The server's address.
        model: The model's name; None for the first that the server lists.
        task: `embed` or `rerank`.
        asked: The dialect; `auto` to choose it.

    Raises:
        ModelNotServed: If it lists only other models (the message names them); or no model, and `model` is None.
        RouteNotServed: If it has no list of models, and `asked` is `auto`.
        ServerError: If it can't be reached, or refuses the request.
    """
    base, listed = await _models(transport, address, task)
    if not listed and asked == "auto":
        raise RouteNotServed(
            f"{address} lists no models under /v1/models, so its dialect is not known",
            url=str(address),
            status=404,
            advice="Check base_url, or name the dialect: engine_options={'dialect': 'openai'} or 'rerank' or 'vllm'",
        )
    served = _served(listed, model, address)
    name_served = str(served["id"])
    dialect = next(each for each in DIALECTS if each.task == task and each.speaks(served)) if asked == "auto" else dialect_for(asked, task)
    context = whole(served.get("max_model_len")) or None
    if context is not None and is_vllm(served) and not await _answers_full_context(transport, address):
        context -= 1
    return ServerInfo(
        url=(base if dialect.versioned else address.root) + dialect.path,
        root=address.root,
        dialect=dialect,
        model=name_served,
        context=context,
        counts=is_vllm(served) or dialect.exact,
        origin=served["root"] if is_name(served.get("root")) else None,
        others=tuple(str(entry["id"]) for entry in listed if entry["id"] != name_served),
        caps=caps if isinstance(caps := served.get("caps"), Caps) else NO_CAPS,
    )


async def _answers_full_context(transport: Transport, address: Address) -> bool:
    """Whether this vLLM answers a prompt of exactly `max_model_len` tokens that it computes in chunks.

    0.24 does not answer: it reserves the last position for a generated token. Source: vLLM's issues 47971 and 55427; fixed in the code
    of 0.32. For a server that does not report its version, the answer is False.
    """
    try:
        answer = await transport.get(f"{address.root}/version")
    except _NO_SUCH_ROUTE:
        return False
    numbers = re.match(r"(\d{1,6})\.(\d{1,6})", str(answer.get("version") if isinstance(answer, dict) else ""))
    return numbers is not None and (int(numbers[1]), int(numbers[2])) >= _FULL_CONTEXT_SINCE


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


async def _models(transport: Transport, address: Address, task: Task) -> tuple[str, list[dict[str, Any]]]:
    """The base of the versioned routes, and the entries of the list of models; no entries where there is no list."""
    for base in address.versions:
        try:
            answer = await transport.get(f"{base}/models")
        except (RouteNotServed, ModelNotServed):
            continue
        listed = answer.get("data") if isinstance(answer, dict) else answer
        if isinstance(listed, list):
            return base, [entry for entry in listed if isinstance(entry, dict) and is_name(entry.get("id"))]
    return await _described(transport, address, task) or (address.versions[0], [])


async def _described(transport: Transport, address: Address, task: Task) -> tuple[str, list[dict[str, Any]]] | None:
    """As `_models`, for Text Embeddings Inference: it has no list of models, but describes its only model.

    Its reranking route is at the root, its OpenAI-compatible embeddings route under `/v1`. Source: its API reference (`GET /info`).
    """
    try:
        answer = await transport.get(f"{address.root}/info")
    except _NO_SUCH_ROUTE:
        return None
    if not isinstance(answer, dict) or not is_name(answer.get("model_id")):
        return None
    entry = {"id": answer["model_id"], "max_model_len": answer.get("max_input_length"), "caps": described_caps(answer)}
    return address.root if task == "rerank" else f"{address.root}/v1", [entry]


def _served(listed: list[dict[str, Any]], model: str | None, address: Address) -> dict[str, Any]:
    """The entry of the model. vLLM lists an alias as `id` and the name from which the model was loaded as `root`."""
    for entry in listed:
        if model is None or model in (entry["id"], entry.get("root")):
            return entry
    if not listed and model is None:
        raise ModelNotServed(f"{address} lists no models", url=str(address), status=404, advice="Pass the name of the model that it serves")
    if not listed:
        return {"id": model}
    names = short_list([repr(entry["id"]) for entry in listed])
    raise ModelNotServed(
        f"{address} does not serve {model!r}; it serves {names}",
        url=str(address),
        status=404,
        advice="Pass the served name as model if that is the right model, or use another server",
    )
