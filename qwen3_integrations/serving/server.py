"""A handle for a running server: status, engine, logs, stop."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwen3_integrations.core.prompts import MODEL_CARD
from qwen3_integrations.core.types import Task
from qwen3_integrations.core.validation import whole_number
from qwen3_integrations.engines.registry import open_engine
from qwen3_integrations.engines.secrets import KEY_VARIABLE
from qwen3_integrations.engines.sharing import SharedEngine
from qwen3_integrations.errors import ConfigError, EngineError
from qwen3_integrations.models.conventions import declared_prompts
from qwen3_integrations.serving.guard import KEY
from qwen3_integrations.serving.health import Load, is_healthy, load_of
from qwen3_integrations.serving.hidden import Masked
from qwen3_integrations.serving.listeners import Listening, is_frozen, who_listens
from qwen3_integrations.serving.log import tail_of
from qwen3_integrations.serving.options import ServerOptions
from qwen3_integrations.serving.programs import PROGRAMS
from qwen3_integrations.serving.programs.program import Program
from qwen3_integrations.serving.records import ServerRecord, has_ended, live_records
from qwen3_integrations.serving.snippets import snippets
from qwen3_integrations.serving.status import ServerState, ServerStatus, status_table
from qwen3_integrations.serving.supervise import amend
from qwen3_integrations.serving.trust import read_own

if TYPE_CHECKING:
    import psutil

GRACE_S = 5.0
"""Seconds between SIGTERM and SIGKILL; vLLM ends within 2."""

_STOP_S = GRACE_S + 15.0
_SAME_S = 2.0
"""Largest difference between two readings of one process's time of start: it is counted from the machine's, which is in whole seconds."""


class Server:
    """A server on this machine, started here or attached to.

    As a context manager, sync or async, it stops the server at the end if this process started it.

    A pickle contains no key and no ownership: in another process of the same user on this machine it is attached to the same server,
    and reads the key as `attach` does.
    """

    def __init__(self, record: ServerRecord, api_key: str | None, process: subprocess.Popen[bytes] | None = None) -> None:
        self._record = record
        self._key = Masked(api_key)
        self._process = process

    @property
    def name(self) -> str:
        """Its name, for the command line and other processes."""
        return self._record.name

    @property
    def task(self) -> Task:
        """`embed` or `rerank`."""
        return self._record.task

    @property
    def model(self) -> str:
        """The model's name for clients."""
        return self._record.model

    @property
    def program(self) -> str:
        """The program that serves, such as `vllm 0.32.0`."""
        return self._record.engine

    @property
    def reason(self) -> str:
        """Why this program was chosen."""
        return self._record.reason

    @property
    def url(self) -> str:
        """Its address, without `/v1`; for a Unix socket `unix:///path`."""
        return self._record.url

    @property
    def api_key(self) -> str | None:
        """The key that clients must send; None for none."""
        if self._key.value is None and self._record.has_key:  # the process from which it is read may just be starting
            self._key.value = key_of(self._now())
        return self._key.value

    @property
    def has_key(self) -> bool:
        """Whether clients must send a key."""
        return self._record.has_key

    @property
    def pid(self) -> int:
        """The server's process, the leader of its process group."""
        return self._now().server_pid

    @property
    def owner_pid(self) -> int:
        """The process that started it."""
        return self._record.owner_pid

    @property
    def owner(self) -> psutil.Process | None:
        """The process that started it; None once that process has ended."""
        import psutil

        try:
            process = psutil.Process(self.owner_pid)
            began = self._record.owner_started
            is_another = bool(began) and abs(process.create_time() - began) > _SAME_S
            return None if is_another or process.status() == psutil.STATUS_ZOMBIE else process
        except psutil.Error:
            return None

    @property
    def owned(self) -> bool:
        """Whether this process started it."""
        return self._process is not None

    @property
    def log_path(self) -> Path:
        """Its log file; kept for a week after its end."""
        return Path(self._record.log)

    @property
    def model_folder(self) -> Path | None:
        """The model's folder, with its tokenizer; None if it no longer exists."""
        folder = Path(self._record.folder)
        return folder if folder.is_dir() else None

    @property
    def command(self) -> tuple[str, ...]:
        """The command line that runs it, without secrets."""
        return self._record.command

    @property
    def options(self) -> ServerOptions:
        """The options of its start, with its key; the environment variables are not known.

        Raises:
            ConfigError: If another version of this package started it, with options that this one refuses.
        """
        known = {each.name for each in fields(ServerOptions)}
        return ServerOptions(**{name: value for name, value in self._record.options.items() if name in known}, api_key=self.api_key)

    @property
    def keep_running(self) -> bool:
        """Whether it continues after the process that started it has ended. May be assigned."""
        return self._now().keep_running

    @keep_running.setter
    def keep_running(self, keep: bool) -> None:
        if self.is_running and bool(keep) != self.keep_running:
            amend(str(self._record.path), keep_running=bool(keep))

    @property
    def is_running(self) -> bool:
        """False once it has ended for any reason."""
        if self._process is not None:
            return self._process.poll() is None
        record = self._record.fresh()
        return record is not None and self._is_of(record) and (record.is_alive or not record.supervisor_pid)

    @property
    def exit_code(self) -> int | None:
        """Exit code of a server that this process started and that has ended; 128 + signal if a signal ended it; otherwise None."""
        code = self._process.poll() if self._process is not None else None
        return code if code is None or code >= 0 else 128 - code

    @property
    def is_healthy(self) -> bool:
        """Whether a process at its address says that the model can be used."""
        return is_healthy(self.url, self._program.ready_route)

    @property
    def closed_route(self) -> str:
        """A route that answers 401 without the key."""
        return self._program.closed_route

    @property
    def _program(self) -> Program:
        engine = self._record.options.get("engine")
        return next((program for name, program in PROGRAMS.items() if name == engine), PROGRAMS["vllm"])

    @property
    def state(self) -> ServerState:
        """`starting`, `ready`, `not answering` or `stopped`; sends a request to the server.

        It is not `ready` if another process listens at its address. It is `not answering` if it has been ready before, or if one of its
        processes is frozen (by SIGSTOP, a debugger or the freezer): vLLM itself answers /health also while its engine is.
        """
        if not self.is_running:
            return "stopped"
        record = self._now()
        if is_frozen(record.supervisor_pid, record.server_pid):
            return "not answering"
        if self.is_healthy and self.listening().owner == "own":
            self.note_ready()
            return "ready"
        return "not answering" if record.was_ready else "starting"

    def note_ready(self) -> None:
        """Note in its record that it has been ready: when it does not answer later, it is no longer starting."""
        if not self._now().was_ready:
            amend(str(self._record.path), was_ready=True)

    def listening(self) -> Listening:
        """Who listens at its address: its own processes, or others."""
        record = self._now()
        supervisor = self._process.pid if self._process is not None else record.supervisor_pid
        return who_listens(record.url, supervisor, record.server_pid)

    def status(self) -> ServerStatus:
        """Its present status; sends requests to the server."""
        record = self._now()
        state = self.state
        return ServerStatus(
            name=record.name,
            task=record.task,
            model=record.model,
            engine=record.engine,
            url=record.url,
            state=state,
            pid=record.server_pid,
            owner_pid=record.owner_pid,
            keep_running=record.keep_running,
            uptime_s=time.time() - record.started_at,
            load=load_of(record.url, self.api_key) if state == "ready" else Load(),
            reason=record.reason,
        )

    def logs(self, lines: int = 100) -> list[str]:
        """The last lines of its log."""
        return tail_of(self.log_path, whole_number(lines, "lines", 0, of_call=True))

    def stop(self) -> None:
        """End it with all its processes, and wait until they have ended and the port is free. May be called twice.

        Raises:
            EngineError: If it does not end within 25 seconds; names the processes.
        """
        record = self._now()
        supervisor = record.supervisor
        if self._process is not None:
            if self._process.poll() is None:
                self._process.terminate()
        elif record.is_alive:
            os.kill(record.supervisor_pid, signal.SIGTERM)
        end = time.monotonic() + _STOP_S
        while self.is_running or record.is_alive or not has_ended(supervisor):  # the supervisor removes its record, and then ends
            if time.monotonic() > end:
                raise EngineError(
                    f"the server {self.name} did not stop within {_STOP_S:.0f} s",
                    advice=f"Its supervisor is process {record.supervisor_pid}, its process group is {record.server_pid}",
                )
            time.sleep(0.05)
        self.forget()

    def forget(self) -> None:
        """Remove the record of a server that has ended, if its supervisor could not do so."""
        if not self.is_running:
            self._record.remove()

    def engine(self, **engine_options: Any) -> SharedEngine:
        """An engine for this server; `engine_options` are those of `HttpEngine`."""
        options = ({"tokenizer": self.model_folder} if self.model_folder else {}) | engine_options
        return open_engine(self.task, self.model, base_url=self.url, api_key=self.api_key, backend="http", **options)

    def embeddings(self, **settings: Any) -> Any:
        """LangChain embeddings for this server; `settings` are those of `Qwen3Embeddings`.

        Raises:
            ConfigError: If the server is a reranker.
            MissingExtra: If LangChain is not installed.
        """
        self._check_task("embed", "reranker()")
        return import_module("qwen3_integrations.langchain").Qwen3Embeddings(model=self.model, engine=self.engine(), **settings)

    def reranker(self, **settings: Any) -> Any:
        """A LangChain reranker for this server; `settings` are those of `Qwen3Rerank`. Errors as in `embeddings`."""
        self._check_task("rerank", "embeddings()")
        return import_module("qwen3_integrations.langchain").Qwen3Rerank(model=self.model, engine=self.engine(), **settings)

    def snippets(self) -> dict[str, str]:
        """Code for its clients by name: `curl`, `openai`, `langchain`, `llama_index`; the key is read from QWEN3_API_KEY."""
        folder, known = self.model_folder, MODEL_CARD
        if folder is not None and self.task == "embed":
            known = declared_prompts(folder)
        named = folder if known.facts else None
        return snippets(self.task, self.model, self.url, has_key=self._record.has_key, conventions=known, folder=named)

    def _now(self) -> ServerRecord:
        """Its present record, or the last one; the record of a later server with the same name is ignored."""
        record = self._record.fresh()
        return record if record is not None and self._is_of(record) else self._record

    def _is_of(self, record: ServerRecord) -> bool:
        return record.started_at == self._record.started_at

    def _check_task(self, task: Task, other: str) -> None:
        if self.task != task:
            raise ConfigError(f"the server {self.name} serves {self.model} for {self.task}", advice=f"Use {other}")

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.owned and not self.keep_running:
            self.stop()

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await asyncio.to_thread(self.__exit__)

    def __copy__(self) -> Server:
        return Server(self._record, self._key.value, self._process)

    def __deepcopy__(self, memo: dict[int, Any]) -> Server:
        return self.__copy__()

    def __reduce__(self) -> tuple[Any, ...]:
        return Server, (self._now(), None)

    def __repr__(self) -> str:
        return f"Server({self.name!r}, task={self.task!r}, model={self.model!r}, url={self.url!r}, state={self.state!r})"

    def _repr_html_(self) -> str:
        return status_table(self.status())


def servers() -> tuple[Server, ...]:
    """This user's running servers on this machine, oldest first, whichever process started them."""
    return tuple(Server(record, key_of(record)) for record in live_records())


def attach(name: str | None = None, *, task: Task | None = None, api_key: str | None = None) -> Server:
    """Attach to a running server, started by another notebook, the command line or this process.

    Unless `api_key` is given, the key is read from the environment of the server's process, which only its user can read.

    Args:
        name: Its name or address; None if only one runs.
        task: Only servers for this task.
        api_key: Its key.

    Raises:
        ConfigError: If no server has that name, or several run and none is named; lists them.
    """
    running = [server for server in servers() if task in (None, server.task)]
    found = [server for server in running if name is None or name in (server.name, server.url, f"{server.url}/v1")]
    if len(found) != 1:
        names = ", ".join(server.name for server in running) or "none"
        which = f"no server {name!r} is running here" if name else f"{len(running)} servers are running here, so a name is needed"
        raise ConfigError(which, advice=f"Running: {names}")
    (server,) = found
    return Server(server._record, api_key or server.api_key) if api_key else server


def key_of(record: ServerRecord) -> str | None:
    """The key of a running server, read where only its user can read; None if it has none or it can't be read."""
    import psutil

    if not record.has_key:
        return None
    try:
        if record.key_config:
            content: str = json.loads((read_own(Path(record.key_config)) or b"").decode().partition(": ")[2])
            return content
        key: str | None = psutil.Process(record.supervisor_pid).environ().get(KEY)
    except (OSError, ValueError, psutil.Error):
        key = None
    return key or os.environ.get(KEY_VARIABLE)
