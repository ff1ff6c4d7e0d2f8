"""`verify`: find out what a server is, and check it."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, get_args

from qwen3_integrations.core.event_loop import BackgroundLoop
from qwen3_integrations.core.types import Task
from qwen3_integrations.core.validation import check_choice, check_options
from qwen3_integrations.engines.http.address import Address
from qwen3_integrations.engines.http.engine import HttpEngine
from qwen3_integrations.engines.http.network import Network
from qwen3_integrations.engines.http.transport import Transport
from qwen3_integrations.engines.secrets import KEY_VARIABLE
from qwen3_integrations.errors import (
    EngineError,
    Qwen3Error,
    ServerTimeout,
    ServerUnreachable,
)
from qwen3_integrations.models.catalog import CHECKPOINTS, checked_model
from qwen3_integrations.verification import adapter as adapters
from qwen3_integrations.verification import answers, embedding, reading, routes
from qwen3_integrations.verification.probe import CheckResult, Probe
from qwen3_integrations.verification.published import published_numbers
from qwen3_integrations.verification.report import Check, Report
from qwen3_integrations.verification.target import described, find, published_as

Checking = Callable[[Probe], Awaitable[CheckResult]]
OnCheck = Callable[[str], None]

CHECKS: Mapping[Task, Mapping[str, Checking]] = {
    "embed": {
        "handshake": reading.handshake,
        "tokens": reading.tokens,
        "adapter": adapters.adapter,
        "relevance": embedding.relevance,
        "published": published_numbers,
        "dimensions": embedding.dimensions,
        "order": answers.order,
        "determinism": answers.determinism,
        "concurrency": answers.concurrency,
        "control tokens": reading.control_tokens,
        "long input": reading.long_input,
    },
    "rerank": {
        "handshake": reading.handshake,
        "tokens": reading.tokens,
        "adapter": adapters.adapter,
        "published": published_numbers,
        "/score": routes.score,
        "/rerank": routes.rerank,
        "/score injection": routes.injection,
        "order": answers.order,
        "determinism": answers.determinism,
        "concurrency": answers.concurrency,
        "control tokens": reading.control_tokens,
        "long input": reading.long_input,
    },
}
"""The checks, in this order; the longest text comes last."""

REACHABLE = "reachable"

OPTIONS = (
    *("ca", "connect_timeout_s", "deadline_s", "dialect", "headers", "max_retries", "path", "proxy", "revision", "source", "timeout_s"),
    *("tokenizer", "verify"),
)
"""The options of `HttpEngine` that `verify` accepts."""

DEFAULTS: Mapping[str, Any] = {"timeout_s": 60.0, "connect_timeout_s": 10.0, "max_retries": 1}

_ENDING = (ServerUnreachable, ServerTimeout)
"""Errors that every later check would have too. A failed handshake also ends the checks."""


def verify(
    base_url: str,
    task: Task | None = None,
    model: str | os.PathLike[str] | None = None,
    api_key: str | None = None,
    *,
    adapter: str | None = None,
    on_check: OnCheck = lambda _: None,
    **engine_options: Any,
) -> Report:
    """Check that an endpoint is right; if it is wrong, report each fault and its fix.

    For any server: vLLM, SGLang, Text Embeddings Inference, Infinity, OpenAI-compatible. About four hundred short texts are sent, and
    two that are longer than the model's context. A reranker's `/score` and `/rerank` are checked for other clients: the client of this
    package sends finished prompts to `/classify`.

    Args:
        base_url: The server's address, with or without `/v1`.
        task: `embed` or `rerank`; None to find it out by requests.
        model: The name under which the server serves the model; None for the first that it lists.
        adapter: The name of an adapter (LoRA) on the server. The checks are then about it, and one fails if its answers are those of its
            model: `model`, or what the server names.
        api_key: The server's key; the default is `QWEN3_API_KEY` from the environment. Never shown.
        on_check: Called with the name of each check before it begins.
        engine_options: Options of `HttpEngine`: `dialect`, `path`, `tokenizer`, `headers`, `source`, `revision`, `timeout_s` (default
            60), `connect_timeout_s`, `deadline_s`, `max_retries` (default 1), `proxy`, `verify`, `ca`.

    Returns:
        A report. Checks that a failure prevents (no such route, no answer in time) are `skipped`.

    Raises:
        ConfigError: For an address, a task, a model or an option that can't be used. Failures of the server are in the report.
    """
    check_options(engine_options, OPTIONS, "verify")
    if task is not None:
        check_choice(task, get_args(Task), "task")
    model = None if model is None else os.fspath(model)
    if model is not None and model in CHECKPOINTS:
        task = task or CHECKPOINTS[model].task
        checked_model(model, task)
    address = Address.parse(base_url)
    options = {**DEFAULTS, **engine_options, "api_key": api_key or os.environ.get(KEY_VARIABLE)}
    own = {"Authorization": address.authorization} if address.authorization else {}
    transport = Transport(
        address,
        model or "the model",
        headers=own | dict(options.get("headers") or {}),
        network=Network(options.get("proxy"), options.get("verify", True), options.get("ca")),
        **{name: options[name] for name in ("api_key", *DEFAULTS)},
    )
    loop = BackgroundLoop(f"verifying {address}")
    try:
        work = _verified(transport, address, task, model, adapter, options | {"base_url": base_url}, on_check)
        return loop.submit(work).result()
    finally:
        loop.close(transport.close)


async def _verified(
    transport: Transport,
    address: Address,
    task: Task | None,
    model: str | None,
    adapter: str | None,
    options: Mapping[str, Any],
    on_check: OnCheck,
) -> Report:
    on_check(REACHABLE)
    try:
        found, connection = await find(transport, address, task, adapter or model, options.get("dialect", "auto"), options.get("path"))
        server = await connection.server()
    except EngineError as error:
        names = (
            [name for name in CHECKS[task] if name != "adapter" or adapter]
            if task
            else [name for name in CHECKS["embed"] if name in CHECKS["rerank"] and (name != "adapter" or adapter)]
        )
        rest = (Check(name, "skipped", "not checked, because the server can't be used") for name in names)
        return Report(str(address), task, model, None, (Check(REACHABLE, "failed", str(error)), *rest))
    base = None if adapter is None else model or server.base or next(iter(server.others), server.model)
    published = published_as(server, found) if adapter is None else None
    name = published.name if published else server.model
    engine = HttpEngine(found, name, handshake="off", **{**options, "dialect": server.dialect.name})
    try:
        checks = await _checked(Probe(found, connection, transport, engine, published, base), on_check)
    finally:
        engine.close()
    learned = (connection.info or server).with_caps(engine.server.caps if engine.server else server.caps)
    return Report(
        str(address), found, learned.model, learned.dialect.name, (Check(REACHABLE, "passed", described(server)), *checks), learned
    )


async def _checked(probe: Probe, on_check: OnCheck) -> list[Check]:
    checks: list[Check] = []
    ended = ""
    for name, check in CHECKS[probe.task].items():
        if name == "adapter" and probe.adapter_of is None:
            continue
        if ended:
            checks.append(Check(name, "skipped", ended))
            continue
        on_check(name)
        try:
            finding = await check(probe)
        except Qwen3Error as error:
            finding = CheckResult("failed", str(error))
            if name == "handshake" or isinstance(error, _ENDING):
                ended = f"not checked, because {name} failed"
        checks.append(Check(name, *finding))
    return checks
