"""Supervise a server: end all its processes when the server ends, on a signal, or when its owner has ended.

Run as a script, `python supervise.py RECORD OWNER_PID GRACE_S -- COMMAND...`. It uses the standard library alone, so that it
starts at once in any environment. It leads a session of its own, so that a terminal's Ctrl-C does not reach it, and the server
leads a process group of its own, which is ended as a whole: SIGTERM, and after GRACE_S seconds SIGKILL.

The owner is the parent process: when it ends for any reason, the kernel gives this process another parent. RECORD is a JSON
file. Its field `keep_running` says whether the server then continues; the process ids are added to it, and it is removed at
the end. The exit code is the server's, or 128 + the signal that ended it. A server never ends by itself for a good reason, so one that
does so with 0, as vLLM when its engine's process was killed, becomes 1. A server that does not notice that a process of its own was
killed, as SGLang, is ended; the exit code is then that process's.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # pragma: no cover  a system without POSIX' locks
    fcntl = None  # type: ignore[assignment]

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name))
NO_LINK = getattr(os, "O_NOFOLLOW", 0)
POLL_S = 0.2
KILLED_S = 10.0  # until the kernel has removed killed processes; those that hold a GPU take seconds
LOOK_S = 2.0
NOTICED_S = 4.0  # for a program to notice itself that a process of its own has ended; vLLM needs less than one second
TITLES = ("vllm::", "sglang::")  # of the processes without which a server can't answer
# Source: Linux' <sys/prctl.h>
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def main(record: str, owner: int, grace_s: float, command: list[str]) -> int:
    """Run the command and supervise it; returns its exit code."""
    stopped: list[int] = []
    for number in SIGNALS:
        signal.signal(number, lambda got, _: stopped.append(got))
    # The owner starts this process with the signals blocked, so that none arrives before the handlers are set.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0, preexec_fn=_die_with_parent)  # noqa: S603, PLW1509
    keep = bool(amend(record, supervisor_pid=os.getpid(), server_pid=server.pid).get("keep_running"))
    has_owner = True
    dead = _DeadProcesses(server.pid)
    while server.poll() is None and not stopped and not dead.found():
        if has_owner and os.getppid() != owner:
            has_owner = False
            if not _read(record).get("keep_running", keep):
                break
        # Not wait(POLL_S), which polls much more often.
        time.sleep(POLL_S)
    by_itself = server.poll() is not None and not stopped
    end_group(server, grace_s)
    _clear(record)
    code = server.poll()
    if dead.code:
        return dead.code
    if code == 0 and by_itself:
        _note("the server ended by itself, and its exit code says no error")
    return 1 if code is None or (code == 0 and by_itself) else code if code >= 0 else 128 - code


def _note(text: str) -> None:
    """Write a line into the server's log."""
    sys.stderr.write(f"ERROR [supervise.py:0] {text}\n")
    sys.stderr.flush()


class _DeadProcesses:
    """Finds processes of a server that have ended without the server noticing it: zombies that carry a title of vLLM or SGLang.

    Args:
        group: The server's process group.
    """

    def __init__(self, group: int) -> None:
        self._group = group
        self._since: dict[int, float] = {}
        self._next = 0.0
        self.code = 0

    def found(self) -> bool:
        """Whether there is one; looks at most every two seconds. Its exit code is then in `code`. Linux only."""
        now = time.monotonic()
        if now < self._next or sys.platform != "linux":
            return False
        self._next = now + LOOK_S
        zombies = dict(_zombies(self._group))
        self._since = {pid: self._since.get(pid, now) for pid in zombies}
        for pid, since in self._since.items():
            if now - since >= NOTICED_S:
                name, status = zombies[pid]
                self.code = 128 + (status & 127) if status & 127 else status >> 8 or 1
                how = f"signal {status & 127}" if status & 127 else f"exit code {status >> 8}"
                _note(f"the server's process {pid} ({name}) ended with {how}, and the server did not notice it, so it is ended")
                return True
        return False


def _zombies(group: int) -> Iterator[tuple[int, tuple[str, int]]]:
    """The ended processes of a group with a title of vLLM or SGLang: number, then title and wait status. Source: proc_pid_stat(5)."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            before, _, after = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")
        except OSError:  # it has gone
            continue
        fields, name = after.split(), before.partition("(")[2]
        if fields[0] == "Z" and int(fields[2]) == group and name.lower().startswith(TITLES):
            yield int(folder.name), (name, int(fields[-1]))


def _clear(record: str) -> None:
    """Remove the record, if it still is this server's, and its other files: the key file and the Unix socket."""
    with locked(Path(record).parent):
        content = _read(record)
        if content.get("supervisor_pid") != os.getpid():
            return
        Path(record).unlink(missing_ok=True)
        key = Path(str(content.get("key_config") or ""))
        if key.parent == Path(record).parent:
            key.unlink(missing_ok=True)
        socket = Path(str(content.get("url", "")).partition("unix://")[2])
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISSOCK(socket.lstat().st_mode):
                socket.unlink()


def end_group(server: subprocess.Popen[bytes], grace_s: float) -> None:
    """End the server's whole process group: children may outlive the server, and more than one SIGTERM."""
    _signal_group(server.pid, signal.SIGTERM)
    if not _has_gone(server, grace_s):
        _signal_group(server.pid, signal.SIGKILL)
        _has_gone(server, KILLED_S)


def _has_gone(server: subprocess.Popen[bytes], within_s: float) -> bool:
    end = time.monotonic() + within_s
    while True:
        if server.poll() is not None:
            _reap_orphans()
            if not _signal_group(server.pid, 0):
                return True
        if time.monotonic() > end:
            return False
        time.sleep(0.05)


def _reap_orphans() -> None:
    """Reap the server's children that have ended; they become children of this process when the server ends.

    Otherwise they would stay zombies, and count as running, in containers whose first process reaps none.
    """
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


@contextlib.contextmanager
def locked(folder: Path, name: str = ".records.lock") -> Iterator[None]:
    """Lock a folder's records for this process while they are read and written; no lock where the system has none."""
    path = folder / name
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | NO_LINK, 0o600), "a") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def store(record: str, content: dict[str, object]) -> None:
    """Write a record atomically, with mode 600. Call it under `locked`."""
    fresh = Path(f"{record}.{os.getpid()}")
    with os.fdopen(made(fresh), "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
    fresh.replace(record)


def made(path: Path) -> int:
    """Create a file with mode 600, open for appending. An older file or link of that name is replaced, never followed or written."""
    path.unlink(missing_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | NO_LINK, 0o600)


def amend(record: str, **fields: object) -> dict[str, object]:
    """Change fields of a record, if it still exists; concurrent changes are not lost.

    Returns:
        The new content; empty if there is no record.
    """
    with locked(Path(record).parent):
        content = _read(record)
        if content:
            content |= fields
            store(record, content)
        return content


def _read(record: str) -> dict[str, object]:
    try:
        content: dict[str, object] = json.loads(Path(record).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content


def _signal_group(group: int, number: int) -> bool:
    """Send a signal to every process of a group; False if there is none. Signal 0 only checks."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _die_with_parent() -> None:
    """Let the kernel end the server if this process is killed. Linux only."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value)


if __name__ == "__main__":
    words = sys.argv[1:]
    at = words.index("--")
    sys.exit(main(words[0], int(words[1]), float(words[2]), words[at + 1 :]))
