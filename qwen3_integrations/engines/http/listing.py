"""A server's list of models. It is advice: many servers have none, hide it from some keys, or list other names than they accept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from qwen3_integrations.core.types import Task
from qwen3_integrations.engines.http.address import Address
from qwen3_integrations.engines.http.family import may_be_same, same_spelling
from qwen3_integrations.engines.http.numbers import is_name
from qwen3_integrations.engines.http.transport import Transport, retries
from qwen3_integrations.errors import (
    AuthenticationFailed,
    BadReply,
    EngineError,
    ModelNotServed,
    QuotaExceeded,
    RateLimited,
    RequestRefused,
    RouteNotServed,
    ServerFailed,
)


@dataclass(frozen=True, slots=True)
class Listing:
    """A server's list of models, or the reason why there is none.

    Attributes:
        base: The base of the versioned routes: the one that has the list, or the most likely one.
        entries: The models; empty where there is no list.
        failure: Why the list can't be read; None if it was read, or if the server has none.
        info: The server's description of its only model (Text Embeddings Inference); None for other servers.
    """

    base: str
    entries: tuple[Mapping[str, Any], ...] = ()
    failure: EngineError | None = None
    info: Mapping[str, Any] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The models' names."""
        return tuple(str(entry["id"]) for entry in self.entries)


@dataclass(frozen=True, slots=True)
class Match:
    """How a list of models names a model.

    Attributes:
        entry: The model's entry; with `id` alone where the list has none.
        names: Names to try, most likely first.
        missing: Whether the list has other models only.
        same: Whether the server may have this model as its only one, under another name.
    """

    entry: Mapping[str, Any]
    names: tuple[str, ...]
    missing: bool = False
    same: bool = True


async def read_listing(transport: Transport, address: Address, task: Task) -> Listing:
    """Request a server's list of models.

    Raises:
        ServerError: If the server can't be reached, does not answer in time, or redirects to another server.
    """
    failure: EngineError | None = None
    for base in address.versions:
        try:
            with retries(1):
                answer = await transport.get(f"{base}/models")
        except (RouteNotServed, ModelNotServed):
            continue
        except BadReply as error:  # a page of a web interface, for routes that do not exist
            failure = failure or error
            continue
        except (AuthenticationFailed, QuotaExceeded, RequestRefused, RateLimited, ServerFailed) as error:
            return Listing(base, failure=error)
        listed = answer.get("data") if isinstance(answer, dict) else answer
        if isinstance(listed, list):
            entries = tuple(entry for entry in listed if isinstance(entry, dict) and is_name(entry.get("id")))
            return Listing(base, entries)
    return await _described(transport, address, task) or Listing(address.versions[0], failure=failure)


async def _described(transport: Transport, address: Address, task: Task) -> Listing | None:
    """As `read_listing`, for Text Embeddings Inference: it has no list of models, but describes its only model.

    Its reranking route is at the root, its OpenAI-compatible embeddings route under `/v1`. Source: its API reference (`GET /info`).
    """
    try:
        with retries(1):
            answer = await transport.get(f"{address.root}/info")
    except EngineError:
        return None
    if not isinstance(answer, dict) or not is_name(answer.get("model_id")):
        return None
    entry = {"id": answer["model_id"], "max_model_len": answer.get("max_input_length")}
    return Listing(address.root if task == "rerank" else f"{address.root}/v1", (entry,), info=answer)


def match(listing: Listing, model: str) -> Match:
    """How a list names a model. vLLM lists an alias as `id` and the name from which the model was loaded as `root`."""
    for entry in listing.entries:
        if model in (entry["id"], entry.get("root")):
            return Match(entry, (entry["id"],))
    for entry in listing.entries:
        if same_spelling(model, entry["id"]):
            return Match(entry, (model, entry["id"]))
    if not listing.entries or any("*" in name and fnmatchcase(model, name) for name in listing.names):
        return Match({"id": model}, (model,))
    alike = [entry for entry in listing.entries if may_be_same(model, entry["id"])]
    if len(alike) == 1:
        return Match(alike[0], (model, alike[0]["id"]), missing=True)
    return Match({"id": model}, (model,), missing=True, same=bool(alike) or len(listing.entries) > 1)
