"""What runs on this machine: a small file for each server, by which other processes list, attach to and stop it.

No secrets are in it. Folder and files are their user's alone (modes 700 and 600); a folder or file that somebody else can change is
not believed (`trust`). A record is believed only while the supervisor that it names is alive and is the one that was started with this
very record, and the files that it names lie beside it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import signal
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from qwen3_integrations.core.types import Task
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.serving.supervise import locked, store
from qwen3_integrations.serving.trust import check_folder, read_own

logger = logging.getLogger("qwen3_integrations")

FOLDER_VARIABLE = "QWEN3_SERVERS_DIR"
"""Environment variable: where the records and logs are, instead of the platform's folder for a user's state."""

MARK = "QWEN3_SERVER_RECORD"
"""Environment variable of a server's processes: the record they belong to."""

_told: set[Path] = set()

_STARTING = ".start.lock"
_UNSUPERVISED_S = 10.0
"""Seconds within which a record gets its supervisor: milliseconds, unless the machine is very busy."""

KEEP_LOGS_S = 7 * 86400
"""Seconds for which the log of a server that has ended is kept."""


@dataclass(frozen=True, slots=True)
class ServerRecord:
    """A server that was started.

    Attributes:
        name: By which it is called: task, model and port.
        task: `embed` or `rerank`.
        model: The name clients ask for.
        engine: `vllm` or `sglang`, and its version.
        url: Its address.
        owner_pid: The process that started it, and with which it ends unless `keep_running`.
        keep_running: Whether it goes on without its owner.
        started_at: Seconds since the epoch.
        command: Its command line, without secrets.
        log: The file it writes to.
        folder: The model's folder.
        options: What it was started with, without secrets.
        has_key: Whether it wants a key.
        key_config: The file that holds the key, for a server that takes it from one; empty for none.
        supervisor_pid, server_pid: 0 before they run.
    """

    name: str
    task: Task
    model: str
    engine: str
    url: str
    owner_pid: int
    keep_running: bool
    started_at: float
    command: tuple[str, ...]
    log: str
    folder: str
    options: Mapping[str, Any]
    has_key: bool = True
    key_config: str = ""
    supervisor_pid: int = 0
    server_pid: int = 0

    @property
    def path(self) -> Path:
        """Its file."""
        return _folder() / f"{self.name}.json"

    def write(self) -> None:
        """Write it, mode 600.

        Raises:
            ConfigError: If the folder of records can't be made or written.
        """
        with locked(servers_folder()):
            store(str(self.path), asdict(self))

    def fresh(self) -> ServerRecord | None:
        """The record as it stands now; None once the server has ended."""
        return _read(self.path)

    def remove(self) -> None:
        """Take it off the list, with the file that holds its key; nothing happens to a later one of the same name."""
        if not self.path.is_file():
            return
        with locked(self.path.parent):
            now = self.fresh()
            if now is not None and now.started_at == self.started_at:
                for path in (self.path, *([Path(self.key_config)] if self.key_config else [])):
                    path.unlink(missing_ok=True)

    @property
    def is_alive(self) -> bool:
        """Whether its supervisor runs; a process of another kind that got the same number does not count."""
        return self.supervisor_pid > 0 and str(self.path) in _command_of(self.supervisor_pid)


def servers_folder() -> Path:
    """Where records and logs are; made if it is not there, for this user alone.

    Raises:
        ConfigError: If it can't be made, or somebody else can change what is in it.
    """
    folder = _folder()
    try:
        for missing in reversed([each for each in (folder, *folder.parents) if not each.exists()]):
            missing.mkdir(exist_ok=True, mode=0o700)  # `parents=True` would leave those above to the umask
        check_folder(folder)
        (folder / _STARTING).touch(mode=0o600)
    except OSError as error:
        raise ConfigError(
            f"{folder} can't be written, where servers are noted ({error.strerror}): name another in {FOLDER_VARIABLE}"
        ) from error
    return folder


def starting() -> AbstractContextManager[None]:
    """Held from the look for a running server until a new one is on record: two starts at once must not both miss the other."""
    return locked(servers_folder(), _STARTING)


def _folder() -> Path:
    import platformdirs

    named = os.environ.get(FOLDER_VARIABLE)
    return Path(named).expanduser().absolute() if named else platformdirs.user_state_path("qwen3-integrations") / "servers"


def live_records() -> list[ServerRecord]:
    """The servers that run, oldest first; records and logs that outlived their servers are removed. Makes no folder.

    Raises:
        ConfigError: If somebody else can change what is in the folder.
    """
    live: list[ServerRecord] = []
    folder = _folder()
    if not folder.is_dir():
        return live
    check_folder(folder)
    for path in folder.glob("*.json"):
        record = _read(path)
        if record is None or not _is_old(record):
            live += [record] if record else []
        else:
            _bury(record)
    _drop_old_logs({Path(record.log) for record in live})
    return sorted(live, key=lambda record: record.started_at)


def name_for(task: Task, model: str, place: str) -> str:
    """A name that reads well and fits a file: `embed-qwen3-embedding-0.6b-8000`."""
    words = [task, model.rstrip("/").rpartition("/")[2], place]
    return "-".join(re.sub(r"[^a-z0-9._]+", "-", word.lower()).strip("-.") for word in words)


def _is_old(record: ServerRecord) -> bool:
    """True once there is no supervisor; a record without one yet gets a moment to have one."""
    return not record.is_alive if record.supervisor_pid else time.time() - record.started_at > _UNSUPERVISED_S


def _bury(record: ServerRecord) -> None:
    """Remove a record whose supervisor was killed, and end what is left of its server."""
    for pid in _group(record.server_pid) if record.server_pid else ():
        # A number is given again, also to a group; the record's name in its environment belongs to this server's processes alone.
        if _environment_of(pid).get(MARK) == str(record.path):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
    record.remove()


def _group(group: int) -> list[int]:
    import psutil

    found = []
    for pid in psutil.pids():
        with contextlib.suppress(OSError):
            found += [pid] if os.getpgid(pid) == group else []
    return found


def _drop_old_logs(used: set[Path]) -> None:
    for path in _folder().glob("*.log"):
        with contextlib.suppress(FileNotFoundError):
            if path not in used and time.time() - path.stat().st_mtime > KEEP_LOGS_S:
                path.unlink()


def _read(path: Path) -> ServerRecord | None:
    try:
        read = read_own(path)
    except OSError:
        return None
    if read is None:
        _warn(path, "it is a link, or somebody else can write it: remove it if it is not yours")
        return None
    try:
        content = json.loads(read)
    except (ValueError, RecursionError):  # damaged: it is nobody's
        path.unlink(missing_ok=True)
        return None
    try:
        known = {each.name for each in fields(ServerRecord)}
        record = ServerRecord(**{name: value for name, value in content.items() if name in known} | {"command": tuple(content["command"])})
        if not _is_well_formed(record):
            raise TypeError
        if record.name != path.stem or not _lies_beside(record.log, path, ".log"):
            raise ValueError
        if record.key_config and not _lies_beside(record.key_config, path, ".key.yaml"):
            raise ValueError
    except (AttributeError, TypeError, KeyError):  # of another version of this package, whose it is to use
        return None
    except ValueError:
        _warn(path, "it names files that do not lie beside it: remove it")
        return None
    return record


def _is_well_formed(record: ServerRecord) -> bool:
    """Whether the values are of the kinds that their fields say."""
    texts = (record.name, record.task, record.model, record.engine, record.url, record.log, record.folder, record.key_config)
    numbers = (record.owner_pid, record.supervisor_pid, record.server_pid)
    return (
        all(isinstance(each, str) for each in texts)
        and all(isinstance(each, int) for each in numbers)
        and isinstance(record.started_at, int | float)
        and isinstance(record.options, Mapping)
    )


def _warn(path: Path, why: str) -> None:
    """Tell once of a record that is not believed; records are looked at every second where somebody watches them."""
    if path not in _told:
        _told.add(path)
        logger.warning("%s is not believed: %s", path, why)


def _lies_beside(named: str, record: Path, ending: str) -> bool:
    """Whether a file that a record names is the one with the record's own name and this ending, in the record's folder."""
    path = Path(named)
    return path.name == f"{record.stem}{ending}" and path.parent.resolve() == record.parent.resolve()


def _command_of(pid: int) -> list[str]:
    """The command line of a process; empty where there is none, or it is another user's."""
    import psutil

    try:
        process = psutil.Process(pid)
        words: list[str] = process.cmdline()
        own = not hasattr(os, "getuid") or process.uids().effective == os.geteuid()
    except psutil.Error:
        return []
    return words if own else []


def _environment_of(pid: int) -> Mapping[str, str]:
    import psutil

    try:
        found: Mapping[str, str] = psutil.Process(pid).environ()
    except psutil.Error:
        return {}
    return found
