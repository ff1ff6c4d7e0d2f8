"""A real server, controlled by the panel's Python side: started, polled, used, restarted, kept, stopped and cancelled.

It is our own, which starts in seconds; `test_jupyterlab.py` has a panel with a real vLLM.
"""

from __future__ import annotations

import gc
import json
import os
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

pytest.importorskip("anywidget")

from qwen3_integrations import Embedder
from qwen3_integrations.notebook import ServerPanel
from qwen3_integrations.serving import attach, servers
from qwen3_integrations.serving.records import FOLDER_VARIABLE
from tests.contract.cases import TOLERANCE
from tests.reference import reference_embeddings
from tests.waiting import until

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(600)]

READY_S = 240.0
TINY = {"engine": "torch", "model": "qwen3-tiny-demo", "max_tokens": 1024}
TEXTS = ["The capital of China is Beijing.", "Pandas eat bamboo."]


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory):
    """A folder of records only for these tests; all their servers are stopped at the end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDER_VARIABLE, str(tmp_path_factory.mktemp("state") / "servers"))
        patch.setenv("OMP_NUM_THREADS", "1")
        yield Path(os.environ[FOLDER_VARIABLE])
        left = list(servers())
        for server in left:
            server.stop()
        assert [server.name for server in left] == []


@pytest.fixture(scope="module")
def panel():
    made = ServerPanel(task="embed", **TINY)
    made.seen = []
    made.observe(lambda change: made.seen.append(change.new), "state")
    tell(made, "show", view="a")
    yield made
    server = made.server
    made.close()
    if server is not None:
        server.stop()


def tell(panel, what, **words):
    panel._handle_custom_msg({"do": what, **words}, [])


def finished(panel):
    """Waits until a start has ended, with any result."""
    assert until(lambda: panel.state in ("ready", "failed", "stopped") and not panel.busy, READY_S)
    return panel.state


@pytest.fixture(scope="module")
def ready(panel):
    began = time.monotonic()
    tell(panel, "start")
    assert time.monotonic() - began < READY_S / 10  # the kernel is free while it starts
    assert until(lambda: panel.server is not None)
    assert panel.state != "ready"
    assert until(lambda: panel.tail or panel.state in ("ready", "failed"), READY_S)  # the log is followed long before that
    assert panel.tail
    assert finished(panel) == "ready", (panel.note, panel.error, panel.first_error)
    return panel


def test_the_states_go_through_the_start(ready):
    assert ready.seen[0] == "starting"
    assert ready.seen[-1] == "ready"
    assert {"loading", "answering"} <= set(ready.seen)
    assert ready.note.startswith("started in ")
    assert (ready.error, ready.first_error) == ("", "")
    assert any(line == "INFO ready" for line in ready.tail["lines"])


def test_the_server_is_the_result_of_start(ready, tiny_embedder):
    server = ready.server
    assert server.owned
    assert server.state == "ready"
    with server.engine() as engine:
        vectors = Embedder(engine).embed_documents(TEXTS)
    assert np.abs(vectors - reference_embeddings(tiny_embedder, TEXTS)).max() < TOLERANCE
    assert ready.info["address"] == f"{server.url}/v1"
    assert ready.info["command"].split()[1:3] == list(server.command[1:3])


def test_its_load_is_polled_only_while_it_is_visible(ready):
    assert until(lambda: ready.load.get("rates"))
    assert ready.load["healthy"]
    before = ready.load["tokens"]
    with ready.server.engine() as engine:
        Embedder(engine).embed_documents(TEXTS * 20)
    assert until(lambda: ready.load["tokens"] > before)
    assert until(lambda: max(ready.load["rates"]) > 0)
    tell(ready, "hide", view="a")
    time.sleep(1.0)  # a poll in progress may end
    hidden = ready.load
    with ready.server.engine() as engine:
        Embedder(engine).embed_documents(TEXTS)
    assert not until(lambda: ready.load != hidden, 5.0)
    tell(ready, "show", view="a")
    assert until(lambda: ready.load["tokens"] > hidden["tokens"])


def test_the_key_is_only_in_the_message(ready, monkeypatch):
    key = ready.server.api_key
    assert len(key) >= 32
    assert key not in json.dumps(ready.get_state(), default=str)
    bundle = ready._repr_mimebundle_()
    assert key not in json.dumps(bundle, default=str)
    assert "ready" in json.dumps(bundle, default=str)
    sent = []
    monkeypatch.setattr(ready, "send", lambda content, buffers=None: sent.append(content))
    tell(ready, "key", view="v")
    assert sent == [{"view": "v", "key": key}]


def test_a_second_panel_finds_it_and_attaches_to_it(ready):
    other = ServerPanel(task="embed", **TINY)
    try:
        tell(other, "show", view="a")
        assert until(lambda: [each["name"] for each in other.others] == [ready.server.name])
        tell(other, "start")
        assert finished(other) == "ready"
        assert other.note == "reused: it was already running with these options"
        assert other.server.url == ready.server.url
        other.detach()
        tell(other, "attach", name=ready.server.name)
        assert until(lambda: other.state == "ready")
        assert until(lambda: other.load)
        assert (other.note, other.info["owned"]) == ("attached", False)
    finally:
        other.close()
    assert ready.server.state == "ready"


def test_keep_running_is_a_switch_on_the_live_server(ready):
    tell(ready, "keep", on=True)
    assert attach(ready.server.name).keep_running
    tell(ready, "keep", on=False)
    assert not attach(ready.server.name).keep_running


def test_a_restart_keeps_address_key_and_options(ready):
    before = ready.server
    tell(ready, "restart")
    assert until(lambda: ready.state != "ready")
    assert finished(ready) == "ready", (ready.note, ready.error, ready.first_error)
    after = ready.server
    assert after.pid != before.pid
    assert (after.url, after.api_key) == (before.url, before.api_key)
    assert after.options.max_tokens == 1024
    assert ready.options.port == 0  # the form is unchanged
    with after.engine() as engine:
        assert len(Embedder(engine).embed_documents(TEXTS)) == 2


def test_a_killed_server_is_a_failure_with_its_log(ready):
    psutil.Process(ready.server.pid).kill()
    assert until(lambda: ready.state == "failed")
    assert "ended with exit code 137" in ready.note
    assert ready.server is None
    assert ready.tail["lines"]


def test_a_start_that_the_program_refuses_names_the_line_of_its_log(ready):
    """A flag of the program with a value that it refuses when it starts."""
    tell(ready, "set", name="extra_args", value="--drain-s long")
    tell(ready, "start")
    assert finished(ready) == "failed"
    assert "Invalid value for '--drain-s'" in ready.first_error
    assert "exit code 2" in ready.note
    tell(ready, "set", name="extra_args", value="")


def test_cancelling_ends_the_server_that_is_starting(ready):
    tell(ready, "start")
    assert until(lambda: ready.server is not None and ready.server.pid)
    pid = ready.server.pid
    tell(ready, "cancel")
    assert finished(ready) == "stopped"
    assert ready.note == "the start was cancelled"
    assert until(lambda: not psutil.pid_exists(pid))
    assert servers() == ()


def test_closing_while_it_starts_ends_it_and_the_thread(ready):
    tell(ready, "start")
    assert until(lambda: ready.server is not None and ready.server.pid)
    ready.close()
    assert servers() == ()
    gc.collect()
    assert not [thread for thread in threading.enumerate() if "ServerPanel" in thread.name]
