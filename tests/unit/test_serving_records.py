"""What is written of running servers: who may read it, and what becomes of records that outlived their servers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import psutil
import pytest

from qwen3_integrations.errors import ConfigError
from qwen3_integrations.serving import attach, servers, supervise
from qwen3_integrations.serving.records import FOLDER_VARIABLE, KEEP_LOGS_S, Record, live_records, name_for, servers_folder


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "servers"))
    return servers_folder()


@pytest.fixture
def record(folder):
    name = "embed-model-8000"
    return Record(
        name=name,
        task="embed",
        model="model",
        engine="vllm 0.32.0",
        url="http://127.0.0.1:8000",
        owner_pid=os.getpid(),
        keep_running=False,
        started_at=time.time(),
        command=("server",),
        log=str(folder / f"{name}.log"),
        folder="/nowhere",
        options={},
        has_key=False,
    )


@pytest.fixture
def supervised(record):
    """The record of a server that really runs: a script that sleeps."""
    record.write()
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    words = [sys.executable, supervise.__file__, str(record.path), str(os.getpid()), "1", "--", *command]
    process = subprocess.Popen(words, start_new_session=True)
    while not (fresh := record.fresh()).server_pid:
        time.sleep(0.02)
    yield fresh
    process.terminate()
    process.wait()


def test_the_folder_and_the_files_are_their_users_alone(folder, record):
    record.write()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert record.path.stat().st_mode & 0o777 == 0o600


def test_a_running_server_is_listed_and_can_be_stopped_by_another_process(supervised):
    (server,) = servers()
    assert (server.name, server.state, server.owned) == ("embed-model-8000", "starting", False)
    assert server.pid == supervised.server_pid
    assert attach("embed-model-8000").url == attach("http://127.0.0.1:8000/v1").url == attach().url
    assert "embed-model-8000" in server._repr_html_()
    server.keep_running = True
    assert attach().keep_running
    server.stop()
    assert not psutil.pid_exists(supervised.server_pid)
    assert servers() == ()
    server.stop()


def test_a_record_whose_supervisor_is_gone_is_removed(record):
    replace(record, supervisor_pid=2**22 - 1, server_pid=2**22 - 2).write()
    assert live_records() == []
    assert not record.path.exists()


def test_a_process_that_got_the_same_number_is_not_the_supervisor(record):
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        replace(record, supervisor_pid=other.pid, server_pid=other.pid).write()
        assert live_records() == []
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_server_that_lost_its_supervisor_is_ended_with_its_record(record):
    """Where the kernel does not do so by itself."""
    command = [sys.executable, "-c", "import time; time.sleep(61)"]
    orphan = subprocess.Popen(command, process_group=0)
    replace(record, supervisor_pid=2**22 - 1, server_pid=orphan.pid, command=tuple(command)).write()
    assert live_records() == []
    assert orphan.wait(10) == -9


@pytest.mark.parametrize("content", ["", "{", "[]", '{"name": "x", "command": []}', '{"of": "another version", "command": []}'])
def test_a_damaged_record_is_removed(folder, content):
    path = folder / "x.json"
    path.write_text(content)
    assert live_records() == []
    assert not path.exists()


def test_a_server_that_is_just_starting_is_no_stale_one(record):
    record.write()
    assert [found.name for found in live_records()] == [record.name]


def test_old_logs_are_dropped_and_young_ones_kept(folder):
    old, young = folder / "old.log", folder / "young.log"
    for path in (old, young):
        path.touch()
    os.utime(old, (0, time.time() - KEEP_LOGS_S - 60))
    live_records()
    assert sorted(path.name for path in folder.glob("*.log")) == ["young.log"]


def test_names_fit_a_file():
    assert name_for("embed", "Qwen/Qwen3-Embedding-0.6B", "8000") == "embed-qwen3-embedding-0.6b-8000"
    assert name_for("rerank", "/models/My Model (v2)/", "8001") == "rerank-my-model-v2-8001"
    assert "/" not in name_for("embed", "../../x", "..")


def test_attaching_to_nothing_names_what_there_is(supervised):
    with pytest.raises(ConfigError, match="no server 'other' runs here; running: embed-model-8000"):
        attach("other")
    with pytest.raises(ConfigError, match="0 servers run here"):
        attach(task="rerank")


def test_a_record_holds_what_it_was_given(record):
    record.write()
    assert record.fresh() == record
    assert json.loads(record.path.read_text())["has_key"] is False
