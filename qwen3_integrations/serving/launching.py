"""Start a server: first check everything that can be checked, then launch; the result is a value."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from qwen3_integrations.engines.http.handshake import Handshake
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.checkpoint import ModelFiles
from qwen3_integrations.models.hub import DownloadProgress, open_model
from qwen3_integrations.models.memory import MemoryPlan
from qwen3_integrations.serving import supervise
from qwen3_integrations.serving.argv import KEY_FILE, Command
from qwen3_integrations.serving.choice import NAMED, choose
from qwen3_integrations.serving.command import build_command
from qwen3_integrations.serving.folders import check_served_folder
from qwen3_integrations.serving.guard import server_environment
from qwen3_integrations.serving.installed import Installed
from qwen3_integrations.serving.listeners import check_free, clear_socket
from qwen3_integrations.serving.log import Progress
from qwen3_integrations.serving.options import ServerOptions
from qwen3_integrations.serving.readiness import wait_until_ready
from qwen3_integrations.serving.records import MARK, ServerRecord, live_records, name_for, servers_folder, starting
from qwen3_integrations.serving.server import GRACE_S, Server
from qwen3_integrations.serving.sizing import check_fit, devices_for, on_cpu, plan_server
from qwen3_integrations.serving.start_result import Failed, Launched, Reused, StartResult

logger = logging.getLogger("qwen3_integrations")

_PORT_TRIES = 3


@dataclass(frozen=True, slots=True)
class Prepared:
    """A server that is ready to be launched: everything is resolved and checked.

    Attributes:
        options: The options.
        installed: The engine's program.
        reason: Why it was chosen.
        files: The model on disk.
        plan: The memory of one of its processes; None where the options leave the sizes to the program.
        share: The plan as a share of the smallest device; None without a plan.
        cpu: Whether it runs on the CPU.
    """

    options: ServerOptions
    installed: Installed
    files: ModelFiles
    plan: MemoryPlan | None
    share: float | None
    cpu: bool = False
    reason: str = NAMED

    def command(self, port: int, api_key: str | None) -> Command:
        """The command for a port."""
        about = self.options, self.files, self.installed
        return build_command(*about, port=port, api_key=api_key, plan=self.plan, share=self.share, cpu=self.cpu)


def prepare(options: ServerOptions, on_progress: Callable[[Progress], None] | None = None) -> Prepared:
    """Resolve the program and the model (downloads it if necessary), and check options and memory before anything is started.

    Args:
        options: The options.
        on_progress: Called with the progress of a download.

    Raises:
        MissingExtra: If the program is not installed.
        ModelNotFound: If the model could not be found or downloaded.
        ConfigError: For an option that the installed version does not have, or a memory plan larger than the free memory.
    """
    from rich.filesize import decimal

    choose(options, None)  # raises before a download
    begin = time.monotonic()

    def report(download: DownloadProgress) -> None:
        assert on_progress is not None
        done, total = download.done_bytes, download.total_bytes
        detail = f"{decimal(done)} of {decimal(total)}"
        on_progress(Progress("downloading", time.monotonic() - begin, detail, done / total if total else None))

    files = open_model(
        options.model_name, options.task, source=options.source, revision=options.revision, progress=report if on_progress else None
    )
    choice = choose(options, files)
    options, installed = replace(options, engine=choice.installed.engine), choice.installed
    files.check(options.task)  # the programs themselves would fall back to pickled weights
    check_served_folder(options, files, installed.engine)
    plan = plan_server(options, files, installed)
    devices = devices_for(options, installed)
    share = check_fit(plan, devices) if plan is not None else None
    prepared = Prepared(options, installed, files, plan, share, on_cpu(options, installed), choice.reason)
    prepared.command(options.port or 1, options.api_key)  # raises for flags that the version does not have
    return prepared


def start(
    options: ServerOptions,
    *,
    timeout_s: float = 900.0,
    keep_running: bool = False,
    reuse: bool = True,
    handshake: Handshake = "full",
    on_progress: Callable[[Progress], None] | None = None,
    on_server: Callable[[Server], None] | None = None,
    cancel: threading.Event | None = None,
) -> StartResult:
    """Start a server and wait for its first correct answer, or reuse a server that runs already.

    The server ends when this process ends for any reason, unless `keep_running`.

    Args:
        options: The options.
        timeout_s: Seconds to wait after the launch; downloading is not counted.
        keep_running: Once the server is ready, leave it running when this process ends; `Server.keep_running` changes it later. Also
            applies to a server that is reused.
        reuse: Use a running server with the same options, if there is one.
        handshake: How much its first answer must prove; see `HttpEngine`.
        on_progress: Called whenever the progress changes.
        on_server: Called with the server as soon as it is launched, long before it is ready, so that its log can be read. Called again
            with another server if the port was taken in the meantime and the start is tried again.
        cancel: Setting it from another thread cancels the start and ends the server.

    Returns:
        `Launched`, `Reused`, `Failed` or `TimedOut`; `outcome.running()` is the server, or raises.

    Raises:
        MissingExtra, ModelNotFound, ConfigError: As `prepare`; and if the port or the Unix socket is taken.
    """
    check_port(options)
    prepared = prepare(options, on_progress)
    for attempt in range(_PORT_TRIES):
        with starting():
            server = (_running_alike(prepared) if reuse else None) or _spawn(prepared)
        if on_server:
            on_server(server)
        outcome = wait_until_ready(server, prepared.files.folder, timeout_s, handshake, on_progress, cancel)
        taken = isinstance(outcome, Failed) and outcome.port_taken
        if not taken or options.port or options.uds or attempt == _PORT_TRIES - 1:
            break  # otherwise another process took the free port just before the server: try again
    if keep_running and isinstance(outcome, Launched | Reused):  # only after its first answer: the process that starts it may end before
        outcome.server.keep_running = True
    return outcome


def check_port(options: ServerOptions) -> None:
    """Check that no other program holds the port: before a download, and before anything else that takes time.

    Raises:
        ConfigError: If it is taken. A server that was started here may be the one to use, or is refused later, by its name.
    """
    if not options.port or options.uds is not None:
        return
    ours = {urlsplit(record.url).port for record in live_records() if record.url.startswith("http")}
    if options.port not in ours:
        check_free(options.host, options.port)


async def astart(
    options: ServerOptions,
    *,
    timeout_s: float = 900.0,
    keep_running: bool = False,
    reuse: bool = True,
    handshake: Handshake = "full",
    on_progress: Callable[[Progress], None] | None = None,
    on_server: Callable[[Server], None] | None = None,
) -> StartResult:
    """As `start`, without blocking the event loop; cancelling the task ends the server. Callbacks run in another thread."""
    cancel = threading.Event()
    work = asyncio.get_running_loop().run_in_executor(
        None,
        lambda: start(
            options,
            timeout_s=timeout_s,
            keep_running=keep_running,
            reuse=reuse,
            handshake=handshake,
            on_progress=on_progress,
            on_server=on_server,
            cancel=cancel,
        ),
    )
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        cancel.set()
        await asyncio.wait([work])
        raise


def _running_alike(prepared: Prepared) -> Server | None:
    """A running server of the same program, model and options; port and key count only where the options set them."""
    options = prepared.options
    wanted = _plain(prepared)
    if options.port == 0:
        del wanted["port"]
    for record in live_records():
        same = all(record.options.get(name) == value for name, value in wanted.items())
        if same and record.engine == str(prepared.installed) and record.folder == str(prepared.files.folder.resolve()):
            found = Server(record, None)
            if options.api_key not in (None, found.api_key):
                continue
            if found.state != "not answering":
                return found
            logger.warning("the server %s has the same options, but is not answering, so it is not used", found.name)
    return None


def _plain(prepared: Prepared) -> dict[str, object]:
    """The options as a record stores them; a hash stands for the environment, which may hold secrets."""
    environment = json.dumps(sorted((prepared.options.env or {}).items()))
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in prepared.options.to_dict().items()}
    return plain | {"env_hash": hashlib.sha256(environment.encode()).hexdigest()}


def new_key() -> str:
    """A random key of 256 bits. It begins with a letter or a digit: SGLang takes a key that begins with a hyphen for a flag."""
    return secrets.token_hex(32)


def _spawn(prepared: Prepared) -> Server:
    import psutil

    options = prepared.options
    if options.warning:
        logger.warning(options.warning)
    api_key = None if options.without_key else options.api_key or new_key()
    port = options.port or _free_port(options.host)
    command = prepared.command(port, api_key)
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(options.host, f"[{options.host}]" if ":" in options.host else options.host)  # noqa: S104
    place = str(port) if options.socket is None else f"{options.socket.stem}-{hashlib.sha256(bytes(options.socket)).hexdigest()[:4]}"
    name = name_for(options.task, options.name, place)
    for record in live_records():
        if record.name == name:
            how = "but is not answering" if Server(record, None).state == "not answering" else "with other options"
            advice = f"Stop it (`qwen3-integrations stop {shlex.quote(name)}`), or use another port"
            raise ConfigError(f"the server {name} runs already, {how}", advice=advice)
    if options.socket is not None:
        clear_socket(options.socket)
    else:
        check_free(options.host, port)
    folder = servers_folder()
    key_config = folder / f"{name}.key.yaml" if command.key_config else None
    if key_config:
        with os.fdopen(supervise.made(key_config), "w", encoding="utf-8") as file:
            file.write(command.key_config or "")
    record = ServerRecord(
        name=name,
        task=options.task,
        model=options.client_model,
        engine=str(prepared.installed),
        url=f"http://{host}:{port}" if options.socket is None else f"unix://{options.socket}",
        owner_pid=os.getpid(),
        owner_started=psutil.Process().create_time(),
        keep_running=False,
        started_at=time.time(),
        command=tuple(str(key_config) if word == KEY_FILE else word for word in command.argv),
        log=str(folder / f"{name}.log"),
        folder=str(prepared.files.folder.resolve()),
        options=_plain(prepared),
        has_key=api_key is not None,
        key_config=str(key_config or ""),
        reason=prepared.reason,
    )
    record.write()
    log = Path(record.log)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, supervise.SIGNALS)  # the supervisor unblocks them once its handlers are set
    try:
        with os.fdopen(supervise.made(log), "ab") as out:
            process = subprocess.Popen(  # noqa: S603
                [sys.executable, supervise.__file__, str(record.path), str(os.getpid()), str(GRACE_S), "--", *record.command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=server_environment(os.environ, command.env) | {MARK: str(record.path)},
            )
    except BaseException:
        record.remove()
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    supervise.amend(str(record.path), supervisor_pid=process.pid)
    return Server(record, api_key, process)


def _free_port(host: str) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.bind((host, 0))
            return int(probe.getsockname()[1])
    except OSError as error:
        raise ConfigError(f"{host!r} can't be used to listen on: {error}", option="host") from error
