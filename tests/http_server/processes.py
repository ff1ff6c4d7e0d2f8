"""Real servers of this package in processes of their own, which tests kill and start again at the same port."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import httpx

from tests.waiting import until


class ServerProcess:
    """A server at a port that it keeps over its lives. `kill` ends it as the system's memory killer does."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str, ready: bool = True) -> None:
        """Start it; with `ready`, wait until it answers."""
        command = [sys.executable, "-m", "qwen3_integrations.server", *arguments, "--no-key", "--port", str(self.port), "--device", "cpu"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        assert not ready or until(self.is_ready, 60), self._log.read_text()

    def is_ready(self) -> bool:
        with suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/ready", trust_env=False).status_code == 200
        return False

    def kill(self) -> None:
        process, self._process = self._process, None  # first: another thread may start the next one as soon as this one is dead
        if process:
            process.kill()
            process.wait()
