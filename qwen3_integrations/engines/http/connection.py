"""The connection to one server: its requests, and what its answers showed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from qwen3_integrations.core.prompts import DEFAULT_INSTRUCTION, TextConventions
from qwen3_integrations.core.tokenizer import Tokenizer
from qwen3_integrations.core.types import Job, Prompt, Rows, Task
from qwen3_integrations.engines.http.address import Address
from qwen3_integrations.engines.http.dialects import Answer, DialectName, Misplaced
from qwen3_integrations.engines.http.discovery import Discovery, discover
from qwen3_integrations.engines.http.handshake import Handshake, easy_pairs, easy_prompts, shake_hands
from qwen3_integrations.engines.http.learning import ask_and_learn, likeliest
from qwen3_integrations.engines.http.server_info import ServerInfo
from qwen3_integrations.engines.http.transport import Transport
from qwen3_integrations.errors import (
    BadReply,
    ConfigError,
    EngineError,
    ModelNotServed,
    RequestRefused,
    RouteNotServed,
    ServerTimeout,
    ServerUnreachable,
    own_copy,
)

log = logging.getLogger("qwen3_integrations")

_NO_MODEL = "no-such-model"
"""A name that no server has: a server that answers to it ignores names."""


class Connection:
    """Requests to a server, which is discovered and checked before the first job. All coroutines must run on one event loop.

    Args:
        transport: Sends the requests.
        address: The server's address.
        model: The name under which the server serves the model; None for the first that it lists.
        task: `embed` or `rerank`.
        dialect: The server's dialect; `auto` to find it out.
        handshake: What is checked on first contact.
        tokenizer: The model's tokenizer; None where it is not on this machine.
        conventions: What the model's folder declares about its texts.
        dimensions: Width of the model's embeddings; None where it is not known.
        concurrency: Maximum number of requests in flight.
        path: The route, behind the address; None to find it out.
        known: What an earlier connection learned; None to make a first contact.
        token_ids: The ids of the tokens for "yes" and for "no" that the model's folder declares; None for the tokens of these words.

    Attributes:
        dimensions: Width of the model's embeddings; None for a reranker, and where it is not known yet.
    """

    def __init__(
        self,
        transport: Transport,
        address: Address,
        model: str | None,
        task: Task,
        *,
        dialect: DialectName,
        handshake: Handshake,
        tokenizer: Tokenizer | None,
        conventions: TextConventions,
        dimensions: int | None,
        concurrency: int,
        path: str | None = None,
        known: ServerInfo | None = None,
        token_ids: tuple[int, int] | None = None,
    ) -> None:
        self.dimensions = dimensions or (known.proof.width if known else None)
        self.dialect: DialectName = dialect
        self._transport, self._address, self._model, self._task = transport, address, model, task
        self._handshake, self._tokenizer, self._conventions, self._path = handshake, tokenizer, conventions, path
        self._token_ids = token_ids
        self._current = known
        self._is_ready = known is not None
        self._slots = asyncio.Semaphore(concurrency)
        self._first_contact: asyncio.Task[None] | None = None

    @property
    def info(self) -> ServerInfo | None:
        """What is known about the server; None before the first contact."""
        return self._current if self._is_ready else None

    async def server(self) -> ServerInfo:
        """What is known about the server, after discovery and handshake.

        Callers at the same time share one first contact. If it failed, the next call tries again.

        Raises:
            HandshakeFailed: If the server does not answer as the model must.
            EngineError: If the server fails.
        """
        if not self._is_ready:
            if self._first_contact is None or _has_failed(self._first_contact):
                self._first_contact = asyncio.ensure_future(self._contact())
            contact = self._first_contact
            await asyncio.wait([contact])  # a cancelled caller does not cancel it
            if error := contact.exception():
                raise own_copy(error)
        assert self._current is not None
        return self._current

    async def contact_again(self) -> ServerInfo:
        """As `server`, after a new discovery and handshake: the server was away, and may have come back with another model.

        Raises:
            HandshakeFailed, EngineError: As for `server`. The next call makes the contact then.
        """
        self._is_ready, self._first_contact = False, None
        return await self.server()

    def learn(self, **fields: Any) -> None:
        """Keep what an answer showed about the server, for the rest of the engine's life.

        Args:
            fields: New values by attribute of `ServerInfo`.
        """
        assert self._current is not None
        self._current = replace(self._current, **fields)

    async def ask(self, server: ServerInfo, prompts: Sequence[Prompt]) -> Answer:
        """Send prompts in one request in the server's dialect.

        The first request finds out the route and the form of the body that the server accepts.
        """
        answer = await self._answer(self._current or server, prompts)
        if not answer.indexed and self._task == "rerank" and len(prompts) > 1:
            await self._check_order()
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
        _check_instruction(job.prompts, server)

    async def _answer(self, server: ServerInfo, prompts: Sequence[Prompt]) -> Answer:
        def check(answer: Answer) -> None:
            if self.info is not None:  # the handshake has its own words for another width
                self.check_width(answer.rows, server)

        answer, learned = await ask_and_learn(server, prompts, self.post, check)
        if learned:
            self._current = replace(self._current or server, **learned)
            _check_instruction(prompts, self._current)
        return answer

    async def _check_order(self) -> None:
        """Check that results without index are in the order of the request, and not sorted by score.

        Raises:
            BadReply: If they are not.
        """
        server = self._current
        assert server is not None
        if server.ordered is None:
            pair = easy_pairs(0, self._tokenizer)
            one, other = [(await self._answer(server, order)).rows for order in (pair, pair[::-1])]
            self.learn(ordered=bool(one[0] > one[1] and other[1] > other[0]))
        assert self._current is not None
        if not self._current.ordered:
            raise Misplaced(f"the results of {server.url} have no index, and are not in the order of the documents")

    async def _contact(self) -> None:
        found = await discover(
            self._transport,
            self._address,
            self._model,
            self._task,
            self.dialect,
            self._path,
            tokenizer=self._tokenizer,
            token_ids=self._token_ids,
        )
        self._current = await self._tried(found) if found.tried else found.candidates[0]
        server = self._current
        if self._handshake != "off":
            ask = partial(self.ask, server)
            proof = await shake_hands(server, self._task, self._tokenizer, self._conventions, self._handshake, self.dimensions, ask)
            self.dimensions = self.dimensions or proof.width
            carried = self._current.proof.instructed  # False if the accepted form of the body has no instruction
            self.learn(proof=replace(proof, instructed=proof.instructed and carried))
        for note in server.notes:
            log.warning("%s", note)
        self._is_ready = True

    async def _tried(self, found: Discovery) -> ServerInfo:
        """The first candidate that answers a short request."""
        prompts = easy_prompts(self._task, self._tokenizer)[:1]
        failures: list[EngineError] = []
        for candidate in found.candidates:
            try:
                _, learned = await ask_and_learn(candidate, prompts, self.post)
            except (ServerUnreachable, ServerTimeout):
                raise
            except EngineError as error:
                failures.append(error)
                if found.only_missing and not isinstance(error, RouteNotServed):
                    break
                continue
            server = replace(candidate, **learned)
            if found.one_model and found.missing and await self._ignores_names(server, prompts):
                raise found.missing
            return server
        failed = likeliest(failures)
        if found.missing and isinstance(failed, ModelNotServed | RequestRefused):
            raise found.missing from failed
        if found.unlisted and isinstance(failed, RouteNotServed):
            raise found.unlisted from failed
        raise failed

    async def _ignores_names(self, server: ServerInfo, prompts: Sequence[Prompt]) -> bool:
        """Whether a server answers whatever the model's name is: then its answer does not show which model it serves."""
        try:
            await ask_and_learn(replace(server, model=_NO_MODEL), prompts, self.post)
        except EngineError:
            return False
        return True


def _check_instruction(prompts: Sequence[Prompt], server: ServerInfo) -> None:
    if server.proof.instructed:
        return
    instructions = (prompt.prefix.instruction for prompt in prompts)
    ignored = next((instruction for instruction in instructions if instruction != DEFAULT_INSTRUCTION), None)
    if ignored is not None:
        raise ConfigError(
            f"{ignored!r} would have no effect, because {server.url} ignores the instruction",
            option="instruction",
            advice="Use the default instruction, or vLLM, whose /classify accepts the finished prompt",
        )


def _has_failed(task: asyncio.Task[Any]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
