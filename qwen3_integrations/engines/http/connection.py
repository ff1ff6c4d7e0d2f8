"""The connection to one server: its requests, and what its first contact showed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from qwen3_integrations.core.prompts import DEFAULT_INSTRUCTION
from qwen3_integrations.core.tokenizer import Tokenizer
from qwen3_integrations.core.types import Job, Prompt, Rows, Task
from qwen3_integrations.engines.http.address import Address
from qwen3_integrations.engines.http.dialects import Answer, DialectName
from qwen3_integrations.engines.http.discovery import ServerInfo, discover
from qwen3_integrations.engines.http.handshake import Handshake, shake_hands
from qwen3_integrations.engines.http.numbers import check_finite
from qwen3_integrations.engines.http.transport import Transport
from qwen3_integrations.errors import BadReply, ConfigError, own_copy


class Connection:
    """Requests to a server, which is discovered and checked before the first job. All coroutines must run on one event loop.

    Args:
        transport: Sends the requests.
        address: The server's address.
        model: The name under which the server serves the model.
        task: `embed` or `rerank`.
        dialect: The server's dialect; `auto` to find it out.
        handshake: What is checked on first contact.
        tokenizer: The model's tokenizer; None where it is not on this machine.
        dimensions: Width of the model's embeddings; None where it is not known.
        concurrency: Maximum number of requests in flight.

    Attributes:
        dimensions: Width of the model's embeddings; None for a reranker, and where it is not known yet.
        info: The server's description of itself; None before the first contact.
    """

    def __init__(
        self,
        transport: Transport,
        address: Address,
        model: str,
        task: Task,
        *,
        dialect: DialectName,
        handshake: Handshake,
        tokenizer: Tokenizer | None,
        dimensions: int | None,
        concurrency: int,
    ) -> None:
        self.dimensions = dimensions
        self.info: ServerInfo | None = None
        self.dialect: DialectName = dialect
        self._transport, self._address, self._model, self._task = transport, address, model, task
        self._handshake, self._tokenizer = handshake, tokenizer
        self._reads_instructions = True
        self._slots = asyncio.Semaphore(concurrency)
        self._first_contact: asyncio.Task[ServerInfo] | None = None

    async def server(self) -> ServerInfo:
        """The server's description of itself, after discovery and handshake.

        Callers at the same time share one first contact. If it failed, the next call tries again.

        Raises:
            HandshakeFailed: If the server does not answer as the model must.
            EngineError: If the server fails.
        """
        if self._first_contact is None or _has_failed(self._first_contact):
            self._first_contact = asyncio.ensure_future(self._contact())
        contact = self._first_contact
        await asyncio.wait([contact])  # a cancelled caller does not cancel it
        if error := contact.exception():
            raise own_copy(error)
        return contact.result()

    async def ask(self, server: ServerInfo, prompts: Sequence[Prompt]) -> Answer:
        """Send prompts in one request in the server's dialect."""

        def read(answer: Any) -> Answer:
            found = server.dialect.read(answer, len(prompts))
            check_finite(found.rows)
            return found

        answer: Answer = await self.post(server.url, server.dialect.body(server.model, prompts), read)
        if self.info is not None:  # the handshake has its own words for another width
            self.check_width(answer.rows, server)
        return answer

    async def post(self, url: str, body: Mapping[str, Any], read: Callable[[Any], Any] | None = None) -> Any:
        """Post JSON to an address, as one of the requests in flight; see `Transport.post`."""
        async with self._slots:
            return await self._transport.post(url, body, read)

    def check_width(self, rows: Rows, server: ServerInfo) -> None:
        """Check that rows are as wide as the model's embeddings: a server may be restarted with another model.

        Raises:
            BadReply: If they have another width.
        """
        if self._task == "rerank":
            return
        width = rows.shape[1]
        if self.dimensions is None:
            self.dimensions = width
        if width != self.dimensions:
            raise BadReply(
                f"{server.url} sent vectors of {width} dimensions, but {server.model} has {self.dimensions}: it serves another model"
            )

    def check_instruction(self, job: Job, server: ServerInfo) -> None:
        """Check that the server reads the instruction of a job.

        Raises:
            ConfigError: If it ignores instructions, and the job has another than the default.
        """
        if self._reads_instructions:
            return
        instructions = (prompt.prefix.instruction for prompt in job.prompts)
        ignored = next((instruction for instruction in instructions if instruction != DEFAULT_INSTRUCTION), None)
        if ignored is not None:
            raise ConfigError(
                f"{ignored!r} would have no effect, because {server.url} ignores the instruction",
                option="instruction",
                advice="Use the default instruction, or vLLM, whose /classify accepts the finished prompt",
            )

    async def _contact(self) -> ServerInfo:
        server = await discover(self._transport, self._address, self._model, self._task, self.dialect)
        if self._handshake != "off":
            ask = partial(self.ask, server)
            proof = await shake_hands(server, self._task, self._tokenizer, self._handshake, self.dimensions, ask)
            self.dimensions = self.dimensions or proof.width
            self._reads_instructions = proof.instructed
        self.info = server
        return server


def _has_failed(task: asyncio.Task[Any]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
