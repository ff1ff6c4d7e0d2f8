"""Find out a server's task, model and dialect by requests."""

from __future__ import annotations

from typing import get_args

from qwen3_integrations.core.planning import document_prompts, rerank_prompts
from qwen3_integrations.core.prompts import DEFAULT_INSTRUCTION
from qwen3_integrations.core.types import Task
from qwen3_integrations.engines.http.address import Address
from qwen3_integrations.engines.http.dialects import DialectName
from qwen3_integrations.engines.http.discovery import ServerInfo, discover, tasks_of
from qwen3_integrations.engines.http.transport import Transport
from qwen3_integrations.errors import BadReply, ModelNotServed, RedirectRefused, RequestRefused, RouteNotServed, ServerFailed
from qwen3_integrations.models.catalog import CHECKPOINTS, Checkpoint


async def find(
    transport: Transport, address: Address, task: Task | None, model: str | None, dialect: DialectName
) -> tuple[Task, ServerInfo]:
    """A server's task, and its description of itself.

    Args:
        transport: Sends the requests.
        address: The server's address.
        task: Its task; None for the task for which its model is published, otherwise the task of a first request that it answers.
        model: The model's name; None for the first that the server lists.
        dialect: Its dialect; `auto` finds it out.

    Raises:
        ConfigError: For an unknown dialect.
        ModelNotServed: If it serves other models.
        RouteNotServed: If it has neither task, or no list of models.
        ServerError: If it can't be reached, or refuses the request.
    """
    if task is not None:
        return task, await discover(transport, address, model, task, dialect)
    failures = ""
    for candidate in get_args(Task) if dialect == "auto" else tasks_of(dialect):
        server = await discover(transport, address, model, candidate, dialect)
        if published_as(server, candidate):
            return candidate, server
        try:
            await _first_answer(transport, server, candidate)
        except (RouteNotServed, ModelNotServed, RequestRefused, RedirectRefused, ServerFailed, BadReply) as error:
            failures += f"; for {candidate}: {error}"
        else:
            return candidate, server
    raise RouteNotServed(
        f"{address} neither embeds nor reranks{failures}",
        url=str(address),
        status=404,
        advice="Serve the model for one of the two tasks; vLLM needs --runner pooling",
    )


async def _first_answer(transport: Transport, server: ServerInfo, task: Task) -> None:
    prompts = (
        document_prompts(["text"], None, 0) if task == "embed" else rerank_prompts([("query", "text")], DEFAULT_INSTRUCTION, "\n", None, 0)
    )
    server.dialect.read(await transport.post(server.url, server.dialect.body(server.model, prompts)), 1)


def published_as(server: ServerInfo, task: Task) -> Checkpoint | None:
    """The published checkpoint that a server claims to serve for a task, by its name or its origin."""
    for name in (server.model, server.origin):
        if name is not None and name in CHECKPOINTS and CHECKPOINTS[name].task == task:
            return CHECKPOINTS[name]
    return None


def described(server: ServerInfo) -> str:
    """A server's models and context, in one line."""
    others = f" (also as {', '.join(server.others)})" if server.others else ""
    context = f"up to {server.context} tokens" if server.context else "context not reported"
    return f"serves {server.model}{others}, {context}, on {server.url}"
