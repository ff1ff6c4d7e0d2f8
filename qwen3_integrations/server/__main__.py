"""`python -m qwen3_integrations.server`: opens the models and serves them with uvicorn."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
import uvicorn
from starlette.types import ASGIApp

from qwen3_integrations.core.embedder import Embedder
from qwen3_integrations.core.reranker import Reranker
from qwen3_integrations.core.types import Task
from qwen3_integrations.engines.registry import open_engine
from qwen3_integrations.errors import ConfigError, Qwen3Error
from qwen3_integrations.server.app import application, guarded
from qwen3_integrations.server.keys import KeyFile
from qwen3_integrations.server.metrics import Metrics
from qwen3_integrations.server.served import Served
from qwen3_integrations.server.service import Service
from qwen3_integrations.server.settings import ServerSettings

log = logging.getLogger("qwen3_integrations")

KEY_VARIABLE = "QWEN3_API_KEY"

command = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@command.command()
def serve(
    embed: Annotated[str | None, typer.Option(help="The embedder: a folder, a name on the hub, or qwen3-tiny-demo.")] = None,
    rerank: Annotated[str | None, typer.Option(help="The reranker.")] = None,
    embed_name: Annotated[list[str] | None, typer.Option(help="A name under which the embedder is served; may be repeated.")] = None,
    rerank_name: Annotated[list[str] | None, typer.Option(help="A name under which the reranker is served; may be repeated.")] = None,
    engine: Annotated[str, typer.Option(help="The engine of both: torch, vllm or fake.")] = "torch",
    device: Annotated[str | None, typer.Option(help="The device of a torch engine.")] = None,
    dtype: Annotated[str | None, typer.Option(help="The number format of an engine.")] = None,
    quantization: Annotated[str | None, typer.Option(help="Quantisation while loading: fp8, on a GPU.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Maximum tokens of a prompt.")] = None,
    max_batch_tokens: Annotated[int | None, typer.Option(help="Most tokens of a forward pass of a torch engine.")] = None,
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen at.")] = 8000,
    uds: Annotated[Path | None, typer.Option(help="A Unix socket to listen at, instead of host and port.")] = None,
    keys: Annotated[Path | None, typer.Option(help="A JSON file of names and keys; it is read again when it changes.")] = None,
    no_key: Annotated[bool, typer.Option("--no-key", help="Serve everybody who can reach the address.")] = False,
    token_ids: Annotated[bool, typer.Option("--token-ids", help="Accept token ids as input of /v1/embeddings.")] = False,
    open_metrics: Annotated[bool, typer.Option("--open-metrics", help="Show /metrics without a key.")] = False,
    access_log: Annotated[bool, typer.Option("--access-log", help="Log each request as a line of JSON, without texts.")] = False,
    drain_s: Annotated[float, typer.Option(help="Seconds in which a server that ends answers 503 before it closes its port.")] = 0.0,
) -> None:
    """Serve an embedder, a reranker, or both, at one address. The key is that of QWEN3_API_KEY, or those of --keys."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # it says that startup is complete while the models are still loading
    try:
        if embed is None and rerank is None:
            raise ConfigError("there is nothing to serve", advice="Name a model with --embed, --rerank, or both")
        settings = ServerSettings(
            embedder_names=tuple(embed_name or ()),
            reranker_names=tuple(rerank_name or ()),
            token_ids=token_ids,
            open_metrics=open_metrics,
            access_log=access_log,
        )
        service = Service(None, settings, Metrics())
        app = guarded(application(service), _keys(keys, no_key=no_key), settings)
    except Qwen3Error as error:
        sys.exit(f"error: {error}")
    given = {"device": device, "dtype": quantization or dtype, "max_batch_tokens": max_batch_tokens}
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}

    def load(opened: ExitStack) -> Served:
        def component(task: Task, model: str | None, kind: Callable[..., Any]) -> Any:
            if model is None:
                return None
            log.info("loading %s", model)
            return kind(opened.enter_context(_closing(open_engine(task, model, backend=engine, **options))), max_tokens=max_tokens)

        return Served(component("embed", embed, Embedder), component("rerank", rerank, Reranker), settings)

    where: dict[str, Any] = {"uds": str(uds)} if uds else {"host": host, "port": port}
    sys.exit(run(app, service, load, where, drain_s))


def _closing(engine: Any) -> Any:
    from contextlib import closing

    return closing(engine)


def _keys(path: Path | None, *, no_key: bool) -> str | KeyFile | None:
    if path is not None:
        return KeyFile(path)
    key = os.environ.pop(KEY_VARIABLE, "")
    if key or no_key:
        return key or None
    raise ConfigError("there is no key", advice=f"Set {KEY_VARIABLE}, or pass --keys FILE, or --no-key to serve everybody")


def run(app: ASGIApp, service: Service, load: Callable[[ExitStack], Served], where: dict[str, Any], drain_s: float = 0.0) -> int:
    """Serve an application at once, and its models as soon as they are loaded. Returns the exit code.

    Args:
        app: The application.
        service: Its state; `served` is set by the loading.
        load: Opens the models; the stack closes them at the end.
        where: Arguments of `uvicorn.Config`: host and port, or uds.
        drain_s: Seconds between SIGTERM and the closing of the port. Requests in them are answered with 503, so that a load balancer
            learns of it.
    """
    server = _Server(uvicorn.Config(app, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=60, **where))
    server.service, server.drain_s = service, drain_s
    failure: list[BaseException] = []
    with ExitStack() as opened:

        def loading() -> None:
            try:
                service.served = load(opened)
                log.info("ready")
            except BaseException as error:  # noqa: BLE001  shown below, as the reason of the end
                failure.append(error)
                server.should_exit = True

        threading.Thread(target=loading, name="loading", daemon=True).start()
        try:
            server.run()
        except SystemExit:  # uvicorn could not listen; its log says why
            return 1
    if failure:
        log.error("%s", failure[0], exc_info=None if isinstance(failure[0], Qwen3Error) else failure[0])
        return 1
    return 0


class _Server(uvicorn.Server):
    """Answers 503 for some seconds before it closes."""

    service: Service
    drain_s: float

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            log.info("listening at %s", self.config.uds or f"{self.config.host}:{self.config.port}")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        first = not self.service.draining
        if first:
            log.info("shutting down: running requests are finished")
        self.service.draining = True
        if first and self.drain_s > 0 and sig == signal.SIGTERM:
            asyncio.get_event_loop().call_later(self.drain_s, super().handle_exit, sig, frame)
        else:
            super().handle_exit(sig, frame)


if __name__ == "__main__":
    command()
