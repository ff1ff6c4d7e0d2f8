"""The processes, ports and records of servers that tests start; and the fixture of a folder of records."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

from qwen3_integrations.serving import servers
from qwen3_integrations.serving.records import FOLDER_VARIABLE


def group_of(pid: int) -> list[int]:
    """The processes of a process group."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == pid and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def can_be_bound(url: str) -> bool:
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # else connections that were just closed hold it
        try:
            probe.bind((host, int(port)))
        except OSError:
            return False
    return True


@contextmanager
def own_records(path: Path, more: Mapping[str, str] | None = None) -> Iterator[Path]:
    """A folder of records for some tests alone, and environment variables of theirs; at the end nothing of them runs."""
    variables = {FOLDER_VARIABLE: str(path), **(more or {})}
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    yield path
    left = [server.name for server in servers()]
    for server in servers():
        server.stop()
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})
    assert left == []
