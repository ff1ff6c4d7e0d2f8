"""A server elsewhere: vLLM, or anything that speaks like OpenAI's embeddings or Cohere's reranking."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from qwen3_integrations.core.engine import Submitting, check_task
from qwen3_integrations.core.event_loop import BackgroundLoop
from qwen3_integrations.core.planning import fit_prompt
from qwen3_integrations.core.prompts import DEFAULT_INSTRUCTION
from qwen3_integrations.core.tokenizer import Tokenizer
from qwen3_integrations.core.types import Job, Prompt, Reply, Rows, Task
from qwen3_integrations.core.validation import check_choice, seconds, whole_number
from qwen3_integrations.engines.http.address import Address
from qwen3_integrations.engines.http.batching import REQUEST_CHARACTERS, Batcher, fair_share
from qwen3_integrations.engines.http.dialects import Answer, DialectName
from qwen3_integrations.engines.http.discovery import ServerInfo, dialect_for, discover
from qwen3_integrations.engines.http.handshake import Handshake, shake_hands
from qwen3_integrations.engines.http.remote_tokens import fit_on_server, may_exceed
from qwen3_integrations.engines.http.transport import Transport
from qwen3_integrations.errors import BadReply, ConfigError, EngineError, PromptTooLong, RequestRefused, own_copy
from qwen3_integrations.models.catalog import CHECKPOINTS, Source
from qwen3_integrations.models.checkpoint import read_model
from qwen3_integrations.models.hub import find_model

log = logging.getLogger("qwen3_integrations")


_TOO_LARGE = 413
"""HTTP's status for a request with too much in it."""


class HttpEngine(Submitting):
    """Sends finished prompts to a server.

    All calls, sync and async, from whatever threads and event loops, run on one loop of the engine's own: connections,
    retries and the bound on requests in flight are shared, and no connection outlives the loop it belongs to. What has to
    wait for a place among the requests in flight shares the next request with others that wait.

    A tokenizer is used when the model's files are on this machine already (in a folder or a hub's cache; nothing is
    downloaded) or `tokenizer` names it. Documents are then cut exactly, and prompts that no text says exactly (those that
    spell a control token) go as token ids where the server takes them. Without one the server counts (`/tokenize`) what might be
    too long, and control-token spellings in texts are broken up by a blank: see `tokens.neutral`.

    Args:
        task: `embed` or `rerank`.
        model: The name under which the server serves the model.
        base_url: The server's address, with or without `/v1`; or a Unix socket's, `unix:///run/qwen3.sock`.
        api_key: Sent as a bearer token, without blanks and line breaks around it; None: none is sent. User and password in the
            address are sent too (basic), and never shown.
        dialect: `vllm`, `openai`, `rerank`; `auto` asks the server.
        handshake: `full` proves on first use that the server answers as the model must; `counts` proves only what it
            reads; `off` proves nothing.
        timeout_s: Seconds for one request.
        connect_timeout_s: Seconds to connect.
        max_retries: Tries after the first on 408, 409, 429, 5xx and broken connections, with backoff.
        concurrency: Requests in flight at once, over all callers.
        request_size: Prompts in one request, at most.
        tokenizer: A folder with the model's `tokenizer.json`.
        headers: More headers for every request.
        client: Your own configured `openai.OpenAI` or `openai.AsyncOpenAI`; its key, timeouts and retries hold instead of
            the above. An async one belongs to this engine from then on, since its connections belong to the engine's loop:
            use it nowhere else, `close()` closes it. A sync one stays yours.
        source, revision: Which local cache to look in for the tokenizer, and which revision.

    Raises:
        ConfigError: For settings that can't work.
    """

    backend = "http"

    def __init__(
        self,
        task: Task,
        model: str,
        *,
        base_url: str,
        api_key: str | None = None,
        dialect: Literal["auto"] | DialectName = "auto",
        handshake: Handshake = "full",
        timeout_s: float = 120.0,
        connect_timeout_s: float = 10.0,
        max_retries: int = 4,
        concurrency: int = 8,
        request_size: int = 128,
        tokenizer: str | Path | None = None,
        headers: Mapping[str, str] | None = None,
        client: Any = None,
        source: Source = "auto",
        revision: str | None = None,
    ) -> None:
        if dialect != "auto":
            dialect_for(dialect, task)
        check_choice(handshake, get_args(Handshake), "handshake")
        timeout_s, connect_timeout_s = seconds(timeout_s, "timeout_s"), seconds(connect_timeout_s, "connect_timeout_s")
        concurrency, request_size = whole_number(concurrency, "concurrency"), whole_number(request_size, "request_size")
        max_retries = whole_number(max_retries, "max_retries", 0)
        if headers is not None and not isinstance(headers, Mapping):
            raise ConfigError(f"must be a mapping from names to values, not {type(headers).__name__}", option="headers")
        api_key = api_key.strip() or None if isinstance(api_key, str) else api_key  # of a key's file, the line break is read too
        self.task: Task = task
        self.model = model
        self._address = Address.parse(base_url)
        folder = Path(tokenizer).expanduser() if tokenizer else find_model(model, task, source=source, revision=revision)
        if folder and not tokenizer and not (folder / "tokenizer.json").is_file():
            folder = None  # something else that is called like the model
        self.tokenizer = Tokenizer.from_folder(folder) if folder else None
        self.max_tokens: int | None = None
        self.dimensions = _width(task, model, folder if not tokenizer else None)
        self._asked, self._handshake, self._request_size = dialect, handshake, request_size
        self._dialect: str = dialect
        self._instructed = True
        self._told = False
        if api_key and self._address.authorization:
            reason = f"can't be combined with the user and password in base_url {self._address}"
            raise ConfigError(reason, option="api_key", advice="Leave one of them out")
        own = {"Authorization": self._address.authorization} if self._address.authorization else {}
        self._transport = Transport(
            self._address,
            model,
            api_key=api_key,
            timeout_s=timeout_s,
            connect_timeout_s=connect_timeout_s,
            max_retries=max_retries,
            headers=own | dict(headers or {}),
            client=client,
        )
        self._slots = asyncio.Semaphore(concurrency)
        self._batcher: Batcher | None = None
        self._concurrency = concurrency
        self._greeting: asyncio.Task[ServerInfo] | None = None
        self._loop = BackgroundLoop(f"{model} on {self._address}")
        self._finalizer = weakref.finalize(self, self._loop.close, self._transport.close)

    def close(self) -> None:
        """Close connections; calls still on their way raise `EngineClosed`."""
        self._finalizer()

    def _submit(self, job: Job) -> Future[Reply]:
        check_task(self, job)
        if not self._finalizer.alive:
            raise self._loop.closed()
        if not job.prompts:
            done: Future[Reply] = Future()
            done.set_result(Reply(np.empty((0, self.dimensions or 0) if self.task == "embed" else 0, dtype=np.float32), 0))
            return done
        return self._loop.submit(self._work(job))

    # Everything below runs on the engine's own loop.

    async def _work(self, job: Job) -> Reply:
        server = await self._server()
        if not self._instructed:
            _refuse_instructions(job, server)
        budget = min(job.max_tokens, server.context or job.max_tokens)
        prompts, cut = await self._fitted(server, job, budget)
        share = fair_share(job.call_size, self._concurrency)
        requests = list(_requests(prompts, server, min(self._request_size, share)))
        if self._batcher is None:
            self._batcher = Batcher(partial(self._ask, server), self._concurrency, self._request_size)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_sent(self._batcher, positions, prompts, kind, job)) for positions, kind in requests]
        rows: Rows | None = None
        tokens = 0
        for (positions, _), task in zip(requests, tasks, strict=True):
            answer = task.result()
            self._check_width(answer.rows, server)
            if rows is None:
                rows = np.empty((len(prompts), *answer.rows.shape[1:]), dtype=np.float32)
            rows[positions] = answer.rows
            tokens += _counted([prompts[position] for position in positions]) if answer.tokens is None else answer.tokens
        assert rows is not None  # every prompt is in one of the requests
        return Reply(rows, tokens, cut, budget)

    def _check_width(self, rows: Rows, server: ServerInfo) -> None:
        """Rows of another width than the model's, or than those before: a server may be restarted with another model."""
        if self.task == "rerank":
            return
        width = rows.shape[1]
        if self.dimensions is None:
            self.dimensions = width
        if width != self.dimensions:
            raise BadReply(
                f"{server.url} sent vectors of {width} dimensions, but {server.model} has {self.dimensions}: it serves another model"
            )

    async def _server(self) -> ServerInfo:
        """The server, greeted once: callers that come meanwhile wait for the same greeting; a failed one is tried again."""
        if self._greeting is None or _has_failed(self._greeting):
            self._greeting = asyncio.ensure_future(self._greet())
        greeting = self._greeting
        await asyncio.wait([greeting])  # a caller that is cancelled does not cancel it
        if error := greeting.exception():
            raise own_copy(error)
        return greeting.result()

    async def _greet(self) -> ServerInfo:
        server = await discover(self._transport, self._address, self.model, self.task, self._asked)
        if self._handshake != "off":
            ask = partial(self._ask, server)
            proof = await shake_hands(server, self.task, self.tokenizer, self._handshake, self.dimensions, ask)
            self.dimensions = self.dimensions or proof.width
            self._instructed = proof.instructed
        self.max_tokens, self._dialect = server.context, server.dialect.name
        return server

    async def _fitted(self, server: ServerInfo, job: Job, budget: int) -> tuple[list[Prompt], frozenset[int]]:
        """The job's prompts, cut to what the server takes, and which of them were cut here."""
        fitted = list(job.prompts)
        # No more than half of the places for requests, so that others' texts need not wait until all of this job's are counted.
        gate = asyncio.Semaphore(max(1, self._concurrency // 2))

        async def count(position: int) -> None:
            async with gate:
                try:
                    fitted[position] = await fit_on_server(job.prompts[position], budget, server, self._post)
                except PromptTooLong as error:
                    one_query = all(prompt.prefix is job.prompts[0].prefix for prompt in job.prompts)
                    raise error.replace(index=None if one_query else position) from None

        try:
            async with asyncio.TaskGroup() as group:
                for position, prompt in enumerate(job.prompts):
                    tokens = prompt.tokens
                    if tokens is None and may_exceed(prompt, budget):
                        if server.counts:
                            group.create_task(count(position))
                        else:
                            self._tell_uncounted(server, budget)
                    elif tokens is not None and tokens > budget and self.tokenizer and prompt.body.ids is not None:
                        fitted[position] = fit_prompt(
                            prompt.prefix, prompt.body.text, prompt.body.ids, prompt.suffix, self.tokenizer, budget
                        )
        except BaseExceptionGroup as group_error:
            error = group_error.exceptions[0]
            if isinstance(error, PromptTooLong) and budget < job.max_tokens:
                raise _too_long_for(server, error) from error
            raise
        cut = frozenset(n for n, (old, new) in enumerate(zip(job.prompts, fitted, strict=True)) if new.truncated and new is not old)
        return fitted, cut

    def _tell_uncounted(self, server: ServerInfo, budget: int) -> None:
        """Say once that a budget can't be kept."""
        if not self._told:
            self._told = True
            log.warning(
                "%s does not count tokens, and no tokenizer of %s is on this machine: texts that may exceed max_tokens=%d are sent untruncated, "
                "and the server may refuse or truncate them. Pass the model's folder: engine_options={'tokenizer': ...}",
                server.url,
                server.model,
                budget,
            )

    async def _ask(self, server: ServerInfo, prompts: Sequence[Prompt]) -> Answer:
        return server.dialect.read(await self._post(server.url, server.dialect.body(server.model, prompts)), len(prompts))

    async def _post(self, url: str, body: Mapping[str, Any]) -> Any:
        async with self._slots:
            return await self._transport.post(url, body)

    @property
    def where(self) -> str:
        """The server's address, without credentials."""
        return str(self._address)

    def __repr__(self) -> str:
        return f"HttpEngine({self.task!r}, {self.model!r}, base_url={str(self._address)!r}, dialect={self._dialect!r})"


def _has_failed(task: asyncio.Task[Any]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


async def _sent(batcher: Batcher, positions: Sequence[int], prompts: Sequence[Prompt], kind: object, job: Job) -> Answer:
    """The answer to some of a job's prompts; an error of one of them has its position in the job."""
    try:
        return await batcher.send([prompts[position] for position in positions], kind, job.turn)
    except EngineError as error:
        if error.index is None:
            raise
        advice = _refusal_advice(error) if isinstance(error, RequestRefused) else error.advice
        raise error.replace(index=positions[error.index], advice=advice) from error.__cause__


def _counted(prompts: Sequence[Prompt]) -> int:
    """Tokens by the ids that are known, for servers that do not say."""
    return sum(prompt.tokens or 0 for prompt in prompts)


def _too_long_for(server: ServerInfo, error: PromptTooLong) -> PromptTooLong:
    return error.replace(
        reason=f"template, instruction and query take {error.tokens} tokens, but {server.url} takes {error.max_tokens} (its max_model_len)",
        advice="Shorten the query or the instruction, or serve the model with a greater max_model_len",
    )


def _requests(prompts: Sequence[Prompt], server: ServerInfo, size: int) -> Iterator[tuple[list[int], object]]:
    """Positions of the prompts of each request, and their kind: at most `size`, at most `REQUEST_CHARACTERS`, all of one kind."""
    kinds: dict[object, list[int]] = {}
    for position, prompt in enumerate(prompts):
        kinds.setdefault(_kind(prompt, server), []).append(position)
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
    """Only prompts of one kind share a request: of one query where the server templates, else all texts or all ids."""
    if server.dialect.one_query:
        return prompt.prefix.query, prompt.prefix.instruction
    return server.dialect.takes_ids and not prompt.literal and prompt.ids is not None


def _refuse_instructions(job: Job, server: ServerInfo) -> None:
    told = next((prompt.prefix.instruction for prompt in job.prompts if prompt.prefix.instruction != DEFAULT_INSTRUCTION), None)
    if told is not None:
        raise ConfigError(
            f"{told!r} would have no effect, since {server.url} ignores the instruction",
            option="instruction",
            advice="Keep the default instruction, or use vLLM, whose /classify takes the finished prompt",
        )


def _refusal_advice(error: RequestRefused) -> str:
    """What to do when a server refuses one prompt. Most refuse only texts that are too long; few say so by a status or a code."""
    shorten = "ower max_tokens; for an exact cut on this machine, pass the model's folder: engine_options={'tokenizer': ...}"
    return f"L{shorten}" if error.status == _TOO_LARGE else f"If the text is too long, l{shorten}. Else look at the text"


def _width(task: Task, model: str, folder: Path | None) -> int | None:
    """The model's width, if anything on this machine says it."""
    if task != "embed":
        return None
    if model in CHECKPOINTS:
        return CHECKPOINTS[model].width
    return read_model(folder, task).width if folder and (folder / "config.json").is_file() else None
