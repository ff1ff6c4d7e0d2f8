"""Records of the servers on this machine: one small file per server, from which other processes list it, attach to it and stop it.

Records contain no secrets. Only their user can access folder and files (modes 700 and 600); a folder or file that another user can
change is not trusted (`trust`). A record is valid only while the supervisor that it names runs and was started with this record, and
the files that it names are in the same folder.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import signal
import time
import unicodedata
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
"""Environment variable: the folder of records and logs, instead of the platform's folder for a user's state."""

MARK = "QWEN3_SERVER_RECORD"
"""Environment variable of a server's processes: the path of its record."""

_warned: set[Path] = set()

_STARTING = ".start.lock"
_UNSUPERVISED_S = 10.0
"""Seconds within which a new record must have its supervisor; normally it takes milliseconds."""

_MOST_BYTES = 100
"""Longest part of a name; file systems allow 255 bytes for the whole name and its ending."""

_CLOCK_S = 2.0
"""Largest difference between two clocks: that of records, and that of processes."""

KEEP_LOGS_S = 7 * 86400
"""Seconds for which the log of a server that has ended is kept."""


@dataclass(frozen=True, slots=True)
class ServerRecord:
    """A started server.

    Attributes:
        name: Its name, from task, model and port.
        task: `embed` or `rerank`.
        model: The model's name for clients.
        engine: `vllm` or `sglang`, and its version.
        url: Its address.
        owner_pid: The process that started it. It ends with that process unless `keep_running`.
        keep_running: Whether it continues without its owner.
        started_at: Seconds since the epoch.
        command: Its command line, without secrets.
        log: Its log file.
        folder: The model's folder.
        options: Its options, without secrets.
        has_key: Whether clients must send a key.
        key_config: The key file, for an engine that reads its key from one; empty for none.
        supervisor_pid, server_pid: Process ids; 0 before the processes run.
        was_ready: Whether it has been ready.
        owner_started: The time of its owner's start, by which another process that got its number is known; 0 if not known.
        reason: Why its program was chosen.
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
    was_ready: bool = False
    owner_started: float = 0.0
    reason: str = ""

    @property
    def path(self) -> Path:
        """The record's file."""
        return _folder() / f"{self.name}.json"

    def write(self) -> None:
        """Write the record, with mode 600.

        Raises:
            ConfigError: If the folder of records can't be made or written.
        """
        with locked(servers_folder()):
            store(str(self.path), asdict(self))

    def fresh(self) -> ServerRecord | None:
        """The record's present content; None once the server has ended."""
        return _read(self.path)

    def remove(self) -> None:
        """Remove the record and the key file; a later record of the same name stays."""
        if not self.path.is_file():
            return
        with locked(self.path.parent):
            now = self.fresh()
            if now is not None and now.started_at == self.started_at:
                for path in (self.path, *([Path(self.key_config)] if self.key_config else [])):
                    path.unlink(missing_ok=True)

    @property
    def supervisor(self) -> Any:
        """Its supervisor as a `psutil.Process`, which is told from later processes with the same id; None if it does not run."""
        import psutil

        try:
            return psutil.Process(self.supervisor_pid) if self.is_alive else None
        except psutil.Error:
            return None

    @property
    def is_alive(self) -> bool:
        """Whether its supervisor runs; another process that got the same id does not count."""
        return self.supervisor_pid > 0 and str(self.path) in _command_of(self.supervisor_pid)


def has_ended(process: Any) -> bool:
    """Whether a `psutil.Process`, or None, has ended so far that its parent can take its exit code.

    While a process ends, it has no command line any more, and its parent does not learn of its end yet.
    """
    import psutil

    try:
        return process is None or not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True


def servers_folder() -> Path:
    """The folder of records and logs; created for this user alone if it does not exist.

    Raises:
        ConfigError: If it can't be created, or another user can change its content.
    """
    folder = _folder()
    try:
        for missing in reversed([each for each in (folder, *folder.parents) if not each.exists()]):
            missing.mkdir(exist_ok=True, mode=0o700)  # `parents=True` would create the parent folders with the mode of the umask
        check_folder(folder)
        (folder / _STARTING).touch(mode=0o600)
    except OSError as error:
        raise ConfigError(
            f"{folder}, the folder of the servers' records, can't be written ({error.strerror})",
            advice=f"Set another folder in {FOLDER_VARIABLE}",
        ) from error
    return folder


def starting() -> AbstractContextManager[None]:
    """The lock between looking for a running server and writing the new record, so that two starts at once see each other."""
    return locked(servers_folder(), _STARTING)


def _folder() -> Path:
    import platformdirs

    named = os.environ.get(FOLDER_VARIABLE)
    return Path(named).expanduser().absolute() if named else platformdirs.user_state_path("qwen3-integrations") / "servers"


def live_records() -> list[ServerRecord]:
    """The running servers, oldest first. Removes records and logs of ended servers; creates no folder.

    Raises:
        ConfigError: If another user can change the folder's content.
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
            _reap(record)
    _drop_old_logs({Path(record.log) for record in live})
    return sorted(live, key=lambda record: record.started_at)


def name_for(task: Task, model: str, place: str) -> str:
    """A readable name that is valid as a file name: `embed-qwen3-embedding-0.6b-8000`; letters of every script stay."""
    name = unicodedata.normalize("NFC", model.rstrip("/").rpartition("/")[2]).lower()
    return "-".join([task, _of_letters(name, _MOST_BYTES) or "model", _of_letters(place.lower(), _MOST_BYTES)])


def _of_letters(text: str, most: int) -> str:
    """A text with hyphens for all that is no letter, digit, point or underscore, and of so many bytes at most."""
    kept = "".join(one if one.isalnum() or one in "._" or unicodedata.category(one)[0] == "M" else "-" for one in text)
    short = re.sub("-+", "-", kept).strip("-.").encode("utf-8", "ignore")[:most]
    return short.decode(errors="ignore").strip("-.")


def _is_old(record: ServerRecord) -> bool:
    """True if the supervisor no longer runs; a new record has a few seconds to get one."""
    return not record.is_alive if record.supervisor_pid else time.time() - record.started_at > _UNSUPERVISED_S


def _reap(record: ServerRecord) -> None:
    """Remove a record whose supervisor was killed, and kill the remaining processes of its server."""
    for pid in _group(record.server_pid) if record.server_pid else ():
        if _is_process_of(record, pid):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
    record.remove()


def _is_process_of(record: ServerRecord, pid: int) -> bool:
    """Whether a process of the group is one of the server's: process ids are reused, also for groups.

    A server's processes have the record's path in their environment. Those that set a title, as vLLM's and SGLang's, overwrite their
    environment with it; they are in the supervisor's session, and younger than the record.
    """
    import psutil

    mark = _environment_of(pid).get(MARK)
    if mark is not None:
        return mark == str(record.path)
    try:
        process = psutil.Process(pid)
        own = process.uids().effective == os.geteuid() and process.create_time() >= record.started_at - _CLOCK_S
        return own and os.getsid(pid) == record.supervisor_pid
    except (psutil.Error, OSError):
        return False


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
        _warn(path, "it is a link, or another user can write it: remove it if it is not yours")
        return None
    try:
        content = json.loads(read)
    except (ValueError, RecursionError):  # damaged
        path.unlink(missing_ok=True)
        return None
    try:
        known = {each.name for each in fields(ServerRecord)}
        record = ServerRecord(**{name: value for name, value in content.items() if name in known} | {"command": tuple(content["command"])})
        if not _is_well_formed(record):
            raise TypeError
        if record.name != path.stem or not _is_beside(record.log, path, ".log"):
            raise ValueError
        if record.key_config and not _is_beside(record.key_config, path, ".key.yaml"):
            raise ValueError
    except (AttributeError, TypeError, KeyError):  # written by another version of this package
        return None
    except ValueError:
        _warn(path, "it names files outside its folder: remove it")
        return None
    return record


def _is_well_formed(record: ServerRecord) -> bool:
    """Whether the values have the types of their fields."""
    texts = (record.name, record.task, record.model, record.engine, record.url, record.log, record.folder, record.key_config)
    numbers = (record.owner_pid, record.supervisor_pid, record.server_pid)
    return (
        all(isinstance(each, str) for each in texts)
        and all(isinstance(each, int) for each in numbers)
        and isinstance(record.started_at, int | float)
        and isinstance(record.options, Mapping)
    )


def _warn(path: Path, why: str) -> None:
    """Warn once about a record that is not trusted; a panel reads the records every few seconds."""
    if path not in _warned:
        _warned.add(path)
        logger.warning("%s is not trusted: %s", path, why)


def _is_beside(named: str, record: Path, ending: str) -> bool:
    """Whether a file named in a record has the record's name with this ending, in the record's folder."""
    path = Path(named)
    return path.name == f"{record.stem}{ending}" and path.parent.resolve() == record.parent.resolve()


def _command_of(pid: int) -> list[str]:
    """The command line of a process; empty if there is no such process or it is another user's."""
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
