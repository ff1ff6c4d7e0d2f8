"""Real servers for the tests: each on a free loopback port, in a separate process group, which is killed in the end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ONE_PROCESS = ("--distributed-executor-backend", "uni")
"""With `QUICK_START`: the engine's process computes itself, which saves a process that imports vLLM: 44 s instead of 68 s until ready."""

QUICK_START = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "OMP_NUM_THREADS": "1"}
"""Environment of a server; vLLM's CPU build takes `ONE_PROCESS` only with it."""

RERANKER = {"architectures": ["Qwen3ForSequenceClassification"], "classifier_from_token": ["no", "yes"], "is_original_qwen3_reranker": True}
READY_S = 480.0
"""vLLM is ready within 20 to 40 s on an idle machine; CI machines are slower."""


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    url: str
    log: Path

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


def vllm_command(folder: Path, names: Sequence[str], task: str, *more: str) -> list[str]:
    """Arguments for vLLM's CPU build: fp32, little memory, quick to start."""
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder), "--served-model-name", *names]
    command += ["--runner", "pooling", "--dtype", "float32", "--enforce-eager", "--max-model-len", "1024"]
    command += ["--kv-cache-memory-bytes", str(64 << 20), "--max-num-seqs", "64", "--disable-uvicorn-access-log", *ONE_PROCESS]
    return command + (["--hf-overrides", json.dumps(RERANKER)] if task == "rerank" else []) + list(more)


def free_port() -> int:
    """A port on which no process listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: Sequence[str], log: Path) -> Iterator[Running]:
    """Start a server, wait until it answers, and end its whole process group afterwards."""
    port = free_port()
    env = os.environ | {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"} | QUICK_START
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)], stdout=out, stderr=subprocess.STDOUT, start_new_session=True, env=env
        )
    try:
        _wait(process, f"http://127.0.0.1:{port}/health", log)
        yield Running(f"http://127.0.0.1:{port}", log)
    finally:
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # children that outlived their parent
        process.wait()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + READY_S
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}:\n{log.read_text(errors='replace')[-3000:]}")
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.3)
    raise RuntimeError(f"the server was not ready after {READY_S} s:\n{log.read_text(errors='replace')[-3000:]}")
