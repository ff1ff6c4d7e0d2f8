"""Components that are made when an app is imported, under gunicorn and Celery, which fork their workers after that."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.unit.gateways import Gateway, answers
from tests.waiting import until

pytestmark = [
    pytest.mark.server,
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

ROOT = Path(__file__).parents[2]


@contextmanager
def workers(folder: Path, *command: str) -> Iterator[tuple[Gateway, subprocess.Popen[bytes]]]:
    """A process that forks workers, and a gateway for their components; the process group ends with the block."""
    (folder / "messages").mkdir()
    (folder / "results").mkdir()
    with Gateway(answers) as gateway, (folder / "log").open("wb") as log:
        own = {"QWEN3_TEST_SERVER": gateway.url, "QWEN3_TEST_FOLDER": str(folder), "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default"}
        process = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=ROOT, env=os.environ | own, stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield gateway, process
        finally:
            process.terminate()
            try:
                process.wait(20)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()


def check(answer: dict[str, Any]) -> int:
    """The worker's process, after the check that it computed what the parent computed before the fork."""
    found, expected = answer["found"], answer["expected"]
    assert found["pid"] != answer["made_in"]
    assert found["sync"] == found["async"] == expected["sync"]
    assert found["best"] == expected["best"] == "To read a file, open it."
    assert np.allclose(found["local"], expected["local"], atol=1e-5)
    return int(found["pid"])


def test_gunicorn_with_preload(tmp_path):
    command = ("gunicorn", "--preload", "--workers", "2", "--bind", f"unix:{tmp_path}/socket", "tests.server.forked_app:app")

    def ask(number: int) -> int:
        with httpx.Client(transport=httpx.HTTPTransport(uds=f"{tmp_path}/socket"), timeout=60) as client:
            return check(client.get(f"http://app/?used={number % 2}").json())

    with workers(tmp_path, *command) as (gateway, process):
        log = tmp_path / "log"
        until(lambda: b"Booting worker" in log.read_bytes() or process.poll() is not None, 120)
        assert process.poll() is None, log.read_text()
        with ThreadPoolExecutor(4) as pool:
            pids = set(pool.map(ask, range(12)))
        lists = sum(path.endswith("models") for path in gateway.paths)
    assert len(pids) == 2, log.read_text()
    # The parent has contacted the server for two components, and each worker for the two that the parent did not use.
    assert lists == 2 + 2 * 2
    assert "Traceback" not in log.read_text()


def test_celery_with_prefork(tmp_path, monkeypatch):
    command = ("celery", "-A", "tests.server.forked_app:celery", "worker", "--pool", "prefork", "--concurrency", "2")
    quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "INFO")
    with workers(tmp_path, *command, *quiet) as (_, process):
        log = tmp_path / "log"
        until(lambda: b" ready." in log.read_bytes() or process.poll() is not None, 120)
        assert process.poll() is None, log.read_text()
        from celery import Celery

        sender = Celery("sender", broker="filesystem://", backend=f"file://{tmp_path}/results")
        messages = dict.fromkeys(("data_folder_in", "data_folder_out"), f"{tmp_path}/messages")
        sender.conf.broker_transport_options = messages | {"control_folder": f"{tmp_path}/control"}
        sent = [sender.send_task("tests.server.forked_app.ask", [bool(number % 2)]) for number in range(8)]
        pids = {check(each.get(timeout=60)) for each in sent}
        sender.close()
    assert 1 <= len(pids) <= 2, log.read_text()
    assert "Traceback" not in log.read_text()


def _in_worker(work: Callable[[], Any], queue: Any) -> None:
    queue.put(work())


def test_multiprocessing_with_fork():
    from qwen3_integrations.langchain import Qwen3Embeddings

    with Gateway(answers) as gateway, Qwen3Embeddings(model="q", base_url=gateway.url) as embeddings:
        expected = embeddings.embed_documents(["a text"])
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        processes = [context.Process(target=_in_worker, args=(lambda: embeddings.embed_documents(["a text"]), queue)) for _ in range(2)]
        for process in processes:
            process.start()
        assert [queue.get(timeout=60) for _ in processes] == [expected] * 2
        for process in processes:
            process.join(60)
        assert [process.exitcode for process in processes] == [0, 0]
        queue.close()
