"""Find out a server's task, model and dialect by requests."""

from __future__ import annotations

from typing import get_args

from qwen3_integrations.core.planning import document_prompts, rerank_prompts
from qwen3_integrations.core.prompts import DEFAULT_INSTRUCTION, MODEL_CARD
from qwen3_integrations.core.types import Task
from qwen3_integrations.engines.http.address import Address
from qwen3_integrations.engines.http.connection import Connection
from qwen3_integrations.engines.http.dialects import DialectName
from qwen3_integrations.engines.http.discovery import tasks_of
from qwen3_integrations.engines.http.numbers import short_list
from qwen3_integrations.engines.http.server_info import ServerInfo
from qwen3_integrations.engines.http.transport import Transport
from qwen3_integrations.errors import BadReply, ModelNotServed, RedirectRefused, RequestRefused, RouteNotServed, ServerFailed
from qwen3_integrations.models.catalog import CHECKPOINTS, Checkpoint

_CONCURRENCY = 64
"""Requests in flight; the checks of concurrency send fewer."""


async def find(
    transport: Transport, address: Address, task: Task | None, model: str | None, dialect: DialectName, path: str | None = None
) -> tuple[Task, Connection]:
    """A server's task, and a connection to it that made its first contact, without a handshake.

    Args:
        transport: Sends the requests.
        address: The server's address.
        task: Its task; None for the task for which its model is published, otherwise the task of a first request that it answers.
        model: The model's name; None for the first that the server lists.
        dialect: Its dialect; `auto` finds it out.
        path: The route, behind the address; None finds it out.

    Raises:
        ConfigError: For an unknown dialect.
        ModelNotServed: If it serves other models.
        RouteNotServed: If it has neither task, or no list of models.
        ServerError: If it can't be reached, or refuses the request.
    """
    if task is not None:
        return task, (await _connected(transport, address, task, model, dialect, path))[0]
    failures = ""
    for candidate in get_args(Task) if dialect == "auto" else tasks_of(dialect):
        try:
            connection, server = await _connected(transport, address, candidate, model, dialect, path)
            if not published_as(server, candidate):
                await _first_answer(connection, server, candidate)
        except (RouteNotServed, ModelNotServed, RequestRefused, RedirectRefused, ServerFailed, BadReply) as error:
            failures += f"; for {candidate}: {error}"
        else:
            return candidate, connection
    raise RouteNotServed(
        f"{address} neither embeds nor reranks{failures}",
        url=str(address),
        status=404,
        advice="Serve the model for one of the two tasks; vLLM needs --runner pooling",
    )


async def _connected(
    transport: Transport, address: Address, task: Task, model: str | None, dialect: DialectName, path: str | None
) -> tuple[Connection, ServerInfo]:
    connection = Connection(
        transport,
        address,
        model,
        task,
        dialect=dialect,
        handshake="off",
        tokenizer=None,
        conventions=MODEL_CARD,
        dimensions=None,
        concurrency=_CONCURRENCY,
        path=path,
    )
    return connection, await connection.server()


async def _first_answer(connection: Connection, server: ServerInfo, task: Task) -> None:
    prompts = (
        document_prompts(["text"], None, 0) if task == "embed" else rerank_prompts([("query", "text")], DEFAULT_INSTRUCTION, "\n", None, 0)
    )
    await connection.ask(server, prompts)


def published_as(server: ServerInfo, task: Task) -> Checkpoint | None:
    """The published checkpoint that a server claims to serve for a task, by its name or its origin."""
    for name in (server.model, server.origin):
        if name is not None and name in CHECKPOINTS and CHECKPOINTS[name].task == task:
            return CHECKPOINTS[name]
    return None


def described(server: ServerInfo) -> str:
    """A server's models and context, in one line."""
    others = f" (also as {short_list(server.others)})" if server.others else ""
    context = f"up to {server.context} tokens" if server.context else "context not reported"
    return f"serves {server.model}{others}, {context}, on {server.url}"
