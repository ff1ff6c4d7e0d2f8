"""`HttpEngine`: an engine on a server, such as vLLM, or any with OpenAI's embeddings route or Cohere's reranking route."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np

from qwen3_integrations.core.engine import Capabilities, Submitting, check_task, waited
from qwen3_integrations.core.event_loop import BackgroundLoop
from qwen3_integrations.core.fingerprint import SAMPLE_TEXT, Fingerprint, sample_of, templates_digest
from qwen3_integrations.core.fork_guard import ForkGuard, leave_to_parent
from qwen3_integrations.core.planning import document_prompts
from qwen3_integrations.core.types import Job, Prompt, Reply, Rows, Task
from qwen3_integrations.core.validation import check_choice, seconds, whole_number
from qwen3_integrations.engines.http.address import Address
from qwen3_integrations.engines.http.attribution import Finished, all_or_first, in_job, of_server
from qwen3_integrations.engines.http.batching import Batcher, fair_share
from qwen3_integrations.engines.http.connection import Connection
from qwen3_integrations.engines.http.deadlines import Deadlines
from qwen3_integrations.engines.http.dialects import Answer, DialectName
from qwen3_integrations.engines.http.discovery import dialect_for
from qwen3_integrations.engines.http.fitting import Fitter
from qwen3_integrations.engines.http.grouping import grouped
from qwen3_integrations.engines.http.handshake import Handshake, easy_prompts
from qwen3_integrations.engines.http.inherited import without_connections
from qwen3_integrations.engines.http.local_folder import known_model
from qwen3_integrations.engines.http.network import Network
from qwen3_integrations.engines.http.server_info import ServerInfo, loaded
from qwen3_integrations.engines.http.transport import Transport, retries
from qwen3_integrations.errors import ConfigError, EngineError, ServerTimeout
from qwen3_integrations.models.catalog import CHECKPOINTS, Source, model_name
from qwen3_integrations.models.hub import find_model
from qwen3_integrations.models.tokenizer_files import missing_tokenizer

_SAMPLE_TOKENS = 1024
"""Budget for `SAMPLE_TEXT`, which has far fewer tokens."""


class HttpEngine(Submitting):
    """Sends finished prompts to a server.

    All calls, sync and async, from any thread or event loop, run on one event loop of the engine. They share its connections, retries and
    the limit on requests in flight. Prompts of callers that wait at the same time share requests.

    A tokenizer is used if `tokenizer` names its folder, or if the model's files are on this machine already (in a folder or in a hub's
    cache; nothing is downloaded). Prompts and the longest text are then those that the folder declares. Documents are cut exactly, and
    a prompt with a spelled control token is sent as token ids where the server accepts them. Without a tokenizer, the server counts the
    tokens of texts that may be too long (`/tokenize`), and a blank is put into spelled control tokens: see `neutral` in
    `core/tokenizer.py`.

    Args:
        task: `embed` or `rerank`.
        model: The name under which the server serves the model.
        base_url: The server's address, with or without `/v1`; or the address of a Unix socket, `unix:///run/qwen3.sock`.
        api_key: Sent as a bearer token, without blanks and line breaks around it; None to send none. A user and password in the
            address are sent too (basic authentication), and never shown.
        dialect: A name in `dialects.DIALECT_NAMES` such as `vllm`, `openai` or `rerank`; `auto` to find it out.
        handshake: `full` checks on first use that the server answers as the model must; `counts` checks only how many tokens it
            reads; `off` checks nothing.
        timeout_s: Seconds for one whole request, from connecting to the last byte of the answer. A time-out is retried once.
        connect_timeout_s: Seconds to connect.
        max_retries: Retries on 408, 409, 429, 5xx and broken connections, with backoff.
        concurrency: Maximum number of requests in flight, over all callers.
        request_size: Maximum number of prompts in one request.
        tokenizer: The model's folder, or a folder with its `tokenizer.json` alone.
        headers: Additional headers for every request.
        client: A configured `openai.OpenAI` or `openai.AsyncOpenAI`; its key, timeouts and retries are used instead of those above. An
            async client may not be used elsewhere, because its connections belong to the engine's event loop; `close()` closes it. A sync
            client stays open.
        path: The route behind `base_url`, such as `/v3/embeddings`, where it can't be found out.
        server: What another engine learned about the server: `engine.server.options()` has it. Skips the first contact.
        deadline_s: Seconds for a whole call, such as `embed_documents`, with all its requests and retries; None for no deadline.
        proxy: The proxy's address; an empty string for no proxy; None for that of the environment (`HTTPS_PROXY` and its like), which is
            not used for a server on this machine.
        verify: False to accept every certificate of a server.
        ca: A file, or a folder, with the certificates to trust; None for those that `SSL_CERT_FILE` or `SSL_CERT_DIR` names, or else the
            system's.
        source, revision: The local cache in which the tokenizer is searched, and the revision.

    Raises:
        ConfigError: For settings that can't work.
    """

    backend = "http"
    reopens_itself = True
    """In a forked process, the next call opens connections of its own, and keeps what was learned about the server."""
    capabilities = Capabilities(devices=None)

    def __init__(
        self,
        task: Task,
        model: str | os.PathLike[str],
        *,
        base_url: str,
        api_key: str | None = None,
        dialect: DialectName = "auto",
        handshake: Handshake = "full",
        timeout_s: float = 120.0,
        connect_timeout_s: float = 10.0,
        max_retries: int = 4,
        concurrency: int = 8,
        request_size: int = 128,
        tokenizer: str | Path | None = None,
        headers: Mapping[str, str] | None = None,
        client: Any = None,
        path: str | None = None,
        server: Mapping[str, Any] | None = None,
        source: Source = "auto",
        revision: str | None = None,
        deadline_s: float | None = None,
        proxy: str | None = None,
        verify: bool = True,
        ca: str | Path | None = None,
    ) -> None:
        if dialect != "auto":
            dialect_for(dialect, task)
        check_choice(handshake, get_args(Handshake), "handshake")
        timeout_s, connect_timeout_s = seconds(timeout_s, "timeout_s"), seconds(connect_timeout_s, "connect_timeout_s")
        concurrency, request_size = whole_number(concurrency, "concurrency"), whole_number(request_size, "request_size")
        max_retries = whole_number(max_retries, "max_retries", 0)
        network = Network(proxy, verify, ca)
        if client is not None and network != Network():
            raise ConfigError("has its own proxy and certificates", option="client", advice="Leave proxy, verify and ca out")
        self._deadlines = Deadlines(None if deadline_s is None else seconds(deadline_s, "deadline_s"))
        if headers is not None and not isinstance(headers, Mapping):
            raise ConfigError(f"must be a mapping from names to values, not {type(headers).__name__}", option="headers")
        if path is not None and (not isinstance(path, str) or not path.strip("/") or "?" in path or "#" in path):
            raise ConfigError(f"must be the path of a route such as '/v3/embeddings', not {path!r}", option="path")
        api_key = api_key.strip() or None if isinstance(api_key, str) else api_key  # a key read from a file ends with a line break
        self.task: Task = task
        self.model = model = str(model_name(model))
        self._address = Address.parse(base_url)
        folder = Path(tokenizer).expanduser() if tokenizer else find_model(model, task, source=source, revision=revision)
        if folder and not tokenizer and missing_tokenizer(folder):
            folder = None  # not a model, only a folder of the same name
        known = known_model(task, model, folder)
        self.tokenizer = known.tokenizer
        self.conventions = known.conventions
        """What the model's folder declares about its texts: prompts, the longest text."""
        if api_key and self._address.authorization:
            reason = f"can't be combined with the user and password in base_url {self._address}"
            raise ConfigError(reason, option="api_key", advice="Leave one of them out")
        own = {"Authorization": self._address.authorization} if self._address.authorization else {}
        self._new_transport = partial(
            Transport,
            self._address,
            model,
            api_key=api_key,
            timeout_s=timeout_s,
            connect_timeout_s=connect_timeout_s,
            max_retries=max_retries,
            headers=own | dict(headers or {}),
            network=network,
        )
        self._new_connection = partial(
            Connection,
            address=self._address,
            model=model,
            task=task,
            dialect=dialect,
            handshake=handshake,
            tokenizer=self.tokenizer,
            conventions=self.conventions,
            concurrency=concurrency,
            path=path,
            token_ids=known.token_ids,
        )
        self._client = client
        self._concurrency, self._request_size = concurrency, request_size
        self._fork_guard = ForkGuard(f"{model} on {self._address}")
        info = None if server is None else loaded(server, task, model, self._address.root)
        self._open(client, info, None if tokenizer and model not in CHECKPOINTS else known.dimensions)

    def _open(self, client: Any, info: ServerInfo | None, dimensions: int | None) -> None:
        """Create what belongs to one process: the connections, and the event loop with its thread."""
        transport = self._new_transport(client=client)
        self._connection = self._new_connection(transport, dimensions=dimensions, known=info)
        self._fitter = Fitter(self.tokenizer, self._connection.post, self._connection.learn, self._concurrency)
        self._batcher: Batcher | None = None
        self._loop = BackgroundLoop(f"{self.model} on {self._address}")
        self._finalizer = weakref.finalize(self, self._loop.close, transport.close)

    def _reopen(self) -> None:
        """Open again in a forked process, with what is known about the server."""
        client, refused = (None, None) if self._client is None else without_connections(self._client)
        if refused:
            raise self._fork_guard.refusal(f"its client has a transport of another package, {refused}: make the client in this process")
        leave_to_parent(self._connection, self._batcher, self._loop)
        of_parent = self._finalizer
        self._open(client, self.server, self.dimensions)
        of_parent.detach()

    def close(self) -> None:
        """Close the connections. Calls that are not finished raise `EngineClosed`."""
        self._finalizer()

    def fingerprint(self) -> Fingerprint:
        """The model that the server runs, as far as the server reveals it: always partial; see `Fingerprint`. Sends requests.

        The server's address is not part of it, because a server may move. Of the folder from which the server loaded the model, only
        the last part counts, because the folder may be elsewhere on another machine.

        Raises:
            EngineError: If the server fails.
        """
        self._check_open()
        return waited(self._loop.submit(self._fingerprint()))

    def contact_again(self) -> None:
        """Contact the server anew, as on first use, without retries. It was away, and may have come back with another model.

        Raises:
            HandshakeFailed: If the server does not answer as the model must.
            EngineError: If the server fails.
        """
        self._check_open()
        with retries(0):
            waited(self._loop.submit(self._contact_again()))

    @property
    def dimensions(self) -> int | None:
        """Width of the model's embeddings; None for a reranker, or where it is not known before the first call."""
        return self._connection.dimensions

    @property
    def max_tokens(self) -> int | None:
        """Tokens of the longest prompt that the server accepts; None before the first call, or where the server does not report it."""
        return self._connection.info.context if self._connection.info else None

    @property
    def server(self) -> ServerInfo | None:
        """What the server's answers showed: route, dialect, accepted bodies, limits, proof. None before the first call.

        `engine_options=engine.server.options()` opens an engine that skips the first contact.
        """
        info = self._connection.info
        return info.with_caps(self._batcher.caps) if info and self._batcher else info

    @property
    def where(self) -> str:
        """The server's address, without credentials."""
        return str(self._address)

    def _check_open(self) -> None:
        if not self._finalizer.alive:
            raise self._loop.closed()
        self._fork_guard.reopened(self._reopen)

    def _submit(self, job: Job) -> Future[Reply]:
        check_task(self, job)
        self._check_open()
        if not job.prompts:
            done: Future[Reply] = Future()
            done.set_result(Reply(np.empty((0, self.dimensions or 0) if self.task == "embed" else 0, dtype=np.float32), ()))
            return done
        return self._loop.submit(self._attributed(job, self._deadlines.left(job)))

    # All coroutines run on the engine's event loop.

    async def _attributed(self, job: Job, seconds_left: float | None) -> Reply:
        """The reply to a job within its deadline; an error has the server's address, the model and the rows that were answered."""
        finished: Finished = []
        try:
            async with asyncio.timeout(seconds_left) as deadline:
                return await self._work(job, finished)
        except BaseExceptionGroup as group:  # of the fitter's tasks
            error = group.exceptions[0]
        except Exception as single:  # noqa: BLE001  raised again below
            error = single
        url = self._connection.info.url if self._connection.info else str(self._address)
        if deadline.expired() and not isinstance(error, EngineError):
            reason = f"{url} did not finish the call within deadline_s={self._deadlines.seconds:g}"
            error = ServerTimeout(reason, url=url, advice="Raise deadline_s, or pass fewer texts in a call")
        if isinstance(error, EngineError):
            raise of_server(error, url=url, model=self.model, finished=finished) from error.__cause__
        raise error

    async def _work(self, job: Job, finished: Finished) -> Reply:
        server = await self._connection.server()
        self._connection.check_instruction(job, server)
        budget = min(job.max_tokens, server.context or job.max_tokens)
        prompts, cut = await self._fitter.fit(job, server, budget)
        caps = self._batcher.caps if self._batcher else server.caps
        most = min(self._request_size, caps.items or self._request_size)
        size = most if job.call_size is None else min(most, fair_share(job.call_size, self._concurrency))
        requests = list(grouped(prompts, server, size))
        if self._batcher is None:
            self._batcher = Batcher(partial(self._connection.ask, server), self._concurrency, self._request_size, caps)
        tasks = [asyncio.create_task(_sent(self._batcher, positions, prompts, kind, job, finished)) for positions, kind in requests]
        answers = await all_or_first(tasks)
        rows: Rows | None = None
        tokens, reported = 0, False
        for (positions, _), answer in zip(requests, answers, strict=True):
            self._connection.check_width(answer.rows, server)
            if rows is None:
                rows = np.empty((len(prompts), *answer.rows.shape[1:]), dtype=np.float32)
            rows[positions] = answer.rows
            tokens += _known_tokens([prompts[position] for position in positions]) if answer.tokens is None else answer.tokens
            reported = reported or answer.tokens is not None
        assert rows is not None  # every prompt is in one of the requests
        return Reply(
            rows,
            tuple(prompt.tokens for prompt in prompts),
            cut,
            max_tokens=budget if budget < job.max_tokens else None,
            server_tokens=tokens if reported else None,
        )

    async def _contact_again(self) -> None:
        server = await self._connection.contact_again()
        await self._connection.ask(server, easy_prompts(self.task, self.tokenizer)[:1])  # a server that is trusted is asked too

    async def _fingerprint(self) -> Fingerprint:
        server = await self._connection.server()
        sample: tuple[float, ...] = ()
        if self.task == "embed":
            rows = (await self._connection.ask(server, document_prompts([SAMPLE_TEXT], self.tokenizer, _SAMPLE_TOKENS))).rows
            self._connection.check_width(rows, server)
            sample = sample_of(rows[0])
        identity = {
            "task": self.task,
            "loaded from": None if server.origin is None else server.origin.rstrip("/").rpartition("/")[2],
            **({"tokenizer": self.tokenizer.digest} if self.tokenizer else {}),
            "templates": templates_digest(),
            **({"prompts": facts} if (facts := self.conventions.facts) else {}),
            "width": self.dimensions,
        }
        numerics = {
            "backend": self.backend,
            "dialect": server.dialect.name,
            "client tokenizer": self.tokenizer.digest if self.tokenizer else None,  # it decides how texts are cut and sent
        }
        return Fingerprint(identity, numerics, sample, partial=True)

    def __repr__(self) -> str:
        info = self.server
        dialect = info.dialect.name if info else self._connection.dialect
        shown = f"HttpEngine({self.task!r}, {self.model!r}, base_url={str(self._address)!r}, dialect={dialect!r}"
        return f"{shown}, server='{info.summary}')" if info else f"{shown})"


async def _sent(
    batcher: Batcher, positions: Sequence[int], prompts: Sequence[Prompt], kind: object, job: Job, finished: Finished
) -> Answer:
    """The answer to some prompts of a job, which is kept in `finished` too. The index of an error is the position in the job."""
    try:
        answer = await batcher.send([prompts[position] for position in positions], kind, job.fairness_key)
    except EngineError as error:
        raise in_job(error, positions) from error.__cause__
    finished.append((positions, answer.rows))
    return answer


def _known_tokens(prompts: Sequence[Prompt]) -> int:
    """Tokens of the prompts whose ids are known, for a server that does not report tokens."""
    return sum(prompt.tokens or 0 for prompt in prompts)
