"""`qwen3-integrations serve embed|rerank MODEL`: a server in the foreground, or left running."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from qwen3_integrations.cli.output import ExitCode, console, messages, print_json
from qwen3_integrations.cli.parameters import ending_in_order
from qwen3_integrations.models.catalog import DEFAULT_MODELS

if TYPE_CHECKING:
    from qwen3_integrations.serving import Failed, Prepared, Progress, Server, ServerOptions, StartResult, TimedOut

Memory = Annotated[int | None, typer.Option(help="Bytes of the key-value cache, instead of a size planned from --concurrency.")]


def serve(
    ctx: typer.Context,
    task: Annotated[Literal["embed", "rerank"], typer.Argument(help="What the model does.")],
    model: Annotated[str | None, typer.Argument(help=f"A name or a folder. [default: {', '.join(DEFAULT_MODELS.values())}]")] = None,
    engine: Annotated[Literal["vllm", "sglang"], typer.Option(help="The program that serves.")] = "vllm",
    host: Annotated[str, typer.Option(help="Where to listen; the default is this machine alone.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 finds a free one.")] = 0,
    uds: Annotated[str | None, typer.Option(help="Listen on this Unix socket instead.")] = None,
    api_key: Annotated[str | None, typer.Option(envvar="QWEN3_API_KEY", help="What clients must send. [default: a random key]")] = None,
    without_key: Annotated[bool, typer.Option("--without-key", help="Serve without a key.")] = False,
    name: Annotated[str | None, typer.Option(help="The name clients ask for. [default: MODEL]")] = None,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest prompt.")] = 8192,
    concurrency: Annotated[int, typer.Option(min=1, help="Prompts of that length that the cache holds at once.")] = 4,
    max_num_seqs: Annotated[int | None, typer.Option(min=1, help="Prompts in one pass. [default: the engine's]")] = None,
    max_num_batched_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens in one pass. [default: 8192]")] = None,
    tensor_parallel_size: Annotated[int, typer.Option(min=1, help="GPUs that share every layer.")] = 1,
    pipeline_parallel_size: Annotated[int, typer.Option(min=1, help="GPUs that share out the layers.")] = 1,
    data_parallel_size: Annotated[int, typer.Option(min=1, help="Copies of the model.")] = 1,
    api_server_count: Annotated[int | None, typer.Option(min=1, help="Processes that take requests; more for short texts.")] = None,
    quantization: Annotated[str | None, typer.Option(help="Quantise while loading, such as fp8.")] = None,
    kv_cache_memory_bytes: Memory = None,
    gpu_memory_utilization: Annotated[float | None, typer.Option(help="Share of each GPU to fill, instead of a memory plan.")] = None,
    prefix_caching: Annotated[bool, typer.Option(help="Compute what prompts begin with alike once.")] = True,
    enforce_eager: Annotated[bool, typer.Option("--enforce-eager", help="Start sooner, run slower.")] = False,
    python: Annotated[str | None, typer.Option(help="The interpreter that has the engine. [default: this one]")] = None,
    source: Annotated[Literal["auto", "local", "huggingface", "modelscope"], typer.Option(help="Where the name may lead.")] = "auto",
    revision: Annotated[str | None, typer.Option(help="A branch, tag or commit of the hub's repository.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait until it is ready.")] = 900.0,
    keep_running: Annotated[bool, typer.Option("--keep-running", help="Return once it is ready, and leave it running.")] = False,
    reuse: Annotated[bool, typer.Option(help="Take a running server with the same options.")] = True,
    handshake: Annotated[Literal["full", "counts", "off"], typer.Option(help="How much its first answer must prove.")] = "full",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show command and memory plan, and start nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="What came of it as one JSON document.")] = False,
) -> None:
    """Start a server with the flags that these models need, and wait until it has given a first right answer.

    It runs in the foreground and ends with Ctrl-C, or with the process that runs this, whatever ends that;
    with --keep-running it stays. Words behind -- go to the engine as they are: serve embed -- --seed 1
    """
    from qwen3_integrations.serving import Failed, Reused, ServerOptions, TimedOut, prepare, start

    options = ServerOptions(
        task=task,
        model=model,
        engine=engine,
        host=host,
        port=port,
        uds=uds,
        api_key=None if without_key else api_key,
        without_key=without_key,
        served_name=name,
        dtype=dtype,
        max_tokens=max_tokens,
        concurrency=concurrency,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
        tensor_parallel_size=tensor_parallel_size,
        pipeline_parallel_size=pipeline_parallel_size,
        data_parallel_size=data_parallel_size,
        api_server_count=api_server_count,
        quantization=quantization,
        kv_cache_memory_bytes=kv_cache_memory_bytes,
        gpu_memory_utilization=gpu_memory_utilization,
        prefix_caching=prefix_caching,
        enforce_eager=enforce_eager,
        python=python,
        source=source,
        revision=revision,
        extra_args=tuple(ctx.args),
    )
    if dry_run:
        with _progress() as tell:
            prepared = prepare(options, tell)
        _show_plan(options, prepared, as_json=as_json)
        return
    with ending_in_order(), _progress() as tell:
        outcome = start(options, timeout_s=timeout, keep_running=keep_running, reuse=reuse, handshake=handshake, on_progress=tell)
    if isinstance(outcome, Failed | TimedOut):
        _show_failure(outcome, as_json=as_json)
        raise typer.Exit(ExitCode.FAILED)
    server = outcome.server
    _show_server(server, outcome, as_json=as_json)
    if keep_running or isinstance(outcome, Reused):
        return
    with server, ending_in_order():
        while server.is_running:
            time.sleep(0.2)
    if server.exit_code:
        messages().print(f"error: the server ended with exit code {server.exit_code}; its log: {server.log_path}", soft_wrap=True)
        raise typer.Exit(ExitCode.FAILED)


def _show_plan(options: ServerOptions, prepared: Prepared, *, as_json: bool) -> None:
    command = prepared.command(options.port or 8000, "secret")
    if as_json:
        plan = None if prepared.plan is None else {"bytes": prepared.plan.total_bytes, "text": str(prepared.plan)}
        print_json({"command": list(command.argv), "program": str(prepared.installed), "memory": plan})
        return
    out = console()
    out.print(str(command), markup=False, highlight=False, soft_wrap=True)
    if prepared.plan is not None:
        out.print(f"\n{prepared.plan}", markup=False, highlight=False, soft_wrap=True)


def _show_server(server: Server, outcome: StartResult, *, as_json: bool) -> None:
    from qwen3_integrations.serving import Launched

    seconds = round(outcome.seconds, 1) if isinstance(outcome, Launched) else None
    if as_json:
        print_json({"outcome": type(outcome).__name__.lower(), "seconds": seconds, "log": str(server.log_path)} | server.status().to_dict())
        return
    how = f"ready after {seconds} s" if seconds is not None else "runs already"
    out = console()
    out.print(f"{server.name}: {server.model} on {server.program}, {how}\n{server.url}", markup=False, highlight=False, soft_wrap=True)
    if server.api_key:
        out.print(f"its key: qwen3-integrations status {server.name} --show-keys", markup=False, highlight=False, soft_wrap=True)
    for client, code in server.snippets().items():
        if client in ("curl", "langchain"):
            out.print(f"\n{code}", markup=False, highlight=False, soft_wrap=True)


def _show_failure(outcome: Failed | TimedOut, *, as_json: bool) -> None:
    from qwen3_integrations.serving import Failed

    if isinstance(outcome, Failed):
        said = {"outcome": "failed", "exit_code": outcome.exit_code, "error": outcome.error, "log": str(outcome.log)}
        text = f"the server did not start: {outcome.error}\nhint: its log has more: {outcome.log}"
    else:
        outcome.server.stop()
        said = {"outcome": "timedout", "phase": outcome.phase, "log": str(outcome.server.log_path)}
        text = f"the server was not ready after {outcome.seconds:.0f} s ({outcome.phase}) and was ended\nhint: --timeout waits longer"
    if as_json:
        print_json(said)
    messages().print(f"error: {text}", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _progress() -> Iterator[Callable[[Progress], None]]:
    """Shows what a starting server does: on a terminal in one line that changes, else a line for each phase."""
    out = messages()
    if not out.is_terminal:
        yield _plain_progress(out)
        return
    with out.status("starting", spinner="dots") as status:
        yield lambda progress: status.update(f"{progress}"[: max(20, out.width - 4)])


def _plain_progress(out: Any) -> Callable[[Progress], None]:
    seen: set[str] = set()

    def tell(progress: Progress) -> None:
        if progress.phase not in seen:
            seen.add(progress.phase)
            out.print(f"{progress.phase}, {progress.elapsed_s:.0f} s", highlight=False)

    return tell
