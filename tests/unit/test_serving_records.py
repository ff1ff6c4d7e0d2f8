"""Records of running servers: who may read them, and how records of ended servers are removed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import psutil
import pytest
from typer.testing import CliRunner

from qwen3_integrations.cli import app
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.serving import attach, servers, supervise
from qwen3_integrations.serving.records import (
    FOLDER_VARIABLE,
    KEEP_LOGS_S,
    MARK,
    ServerRecord,
    has_ended,
    live_records,
    name_for,
    servers_folder,
)
from tests.waiting import until


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "servers"))
    return servers_folder()


@pytest.fixture
def record(folder):
    name = "embed-model-8000"
    return ServerRecord(
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
    """The record of a running server: a script that sleeps."""
    record.write()
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    words = [sys.executable, supervise.__file__, str(record.path), str(os.getpid()), "1", "--", *command]
    process = subprocess.Popen(words, start_new_session=True)
    while not (fresh := record.fresh()).server_pid:
        assert process.poll() is None
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


def test_a_server_has_stopped_once_its_supervisor_has_ended_too(record):
    """The supervisor may end some time after it removed the record; until then its process still runs."""
    script = "import os, signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: (os.unlink(sys.argv[1]), time.sleep(0.7), sys.exit()))"
    script += "; print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script, str(record.path)], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline()
        replace(record, supervisor_pid=process.pid).write()
        attach(record.name).stop()
        assert process.poll() is not None


def test_a_later_server_of_the_same_name_is_another_one(supervised):
    (before,) = servers()
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", str(supervised.path)]) as later:
        replace(supervised, started_at=supervised.started_at + 1, supervisor_pid=later.pid, server_pid=1).write()
        assert (before.state, before.pid, before.status().pid) == ("stopped", supervised.server_pid, supervised.server_pid)
        before.stop()
        assert not psutil.pid_exists(supervised.server_pid)
        assert attach().is_running
        later.kill()


def test_a_record_without_a_running_supervisor_is_removed(record):
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


def test_a_server_without_supervisor_is_ended_and_its_record_removed(record):
    """If the kernel does not end them: all processes with the record's path are killed, and no others of the group."""
    command = [sys.executable, "-c", "import time; time.sleep(61)"]
    orphan = subprocess.Popen(command, process_group=0, env=os.environ | {MARK: str(record.path)})
    stranger = subprocess.Popen(command, process_group=orphan.pid)
    try:
        replace(record, supervisor_pid=2**22 - 1, server_pid=orphan.pid, command=tuple(command)).write()
        assert live_records() == []
        assert orphan.wait(10) == -9
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_processes_that_have_overwritten_their_environment_are_ended_too(record):
    """vLLM's and SGLang's processes write their titles there. They are known by the supervisor's session."""
    script = "import os, sys, subprocess, time; os.setpgid(0, 0); emptied = subprocess.Popen([sys.executable, '-c', 'import time;"
    script += " time.sleep(61)'], env={}); print(os.getpid(), emptied.pid, flush=True); os.execve(sys.executable, [sys.executable, '-c',"
    script += " 'import time; time.sleep(61)'], {})"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {script!r}])"
    with subprocess.Popen([sys.executable, "-c", outer], start_new_session=True, stdout=subprocess.PIPE, text=True) as session:
        group, emptied = map(int, session.stdout.readline().split())
        stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(61)"], env={})
        try:
            for later, dead in ((3600, False), (0, True)):  # a process that is older than the record is not the server's
                replace(record, supervisor_pid=session.pid, server_pid=group, started_at=time.time() + later).write()
                assert live_records() == []
                assert until(lambda: not runs(group) and not runs(emptied)) if dead else runs(group) and runs(emptied)
            assert stranger.poll() is None
        finally:
            stranger.kill()
            stranger.wait()
            session.kill()


def runs(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_reading_creates_no_folder_and_writing_names_a_folder_that_can_not_be_created(tmp_path, monkeypatch, record):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "not" / "there"))
    assert servers() == ()
    assert not (tmp_path / "not").exists()
    (tmp_path / "file").touch()
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "file"))
    assert servers() == ()
    with pytest.raises(
        ConfigError,
        match=rf"{tmp_path}/file, the folder of the servers' records, can't be written.*Set another folder in {FOLDER_VARIABLE}",
    ):
        record.write()


def test_no_change_of_a_record_is_lost(record):
    """Owner and supervisor write at the same time."""
    record.write()
    code = "import sys; from qwen3_integrations.serving.supervise import amend\nfor n in range(200): amend(sys.argv[1], **{sys.argv[2]: n})"
    writers = [subprocess.Popen([sys.executable, "-c", code, str(record.path), f"field{number}"]) for number in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    content = json.loads(record.path.read_text())
    assert [content[f"field{number}"] for number in range(3)] == [199] * 3


def test_a_removed_record_is_not_written_again(record):
    assert supervise.amend(str(record.path), keep_running=True) == {}
    assert not record.path.exists()


@pytest.mark.parametrize("content", ["", "{", "nothing"])
def test_a_damaged_record_is_removed(folder, content):
    path = folder / "x.json"
    path.write_text(content)
    assert live_records() == []
    assert not path.exists()


@pytest.mark.parametrize("content", ["[]", '{"name": "x", "command": []}', '{"of": "another version"}'])
def test_a_record_of_another_version_is_left_to_it(folder, content):
    path = folder / "x.json"
    path.write_text(content)
    assert live_records() == []
    assert path.read_text() == content


def test_a_record_with_fields_of_a_later_version_is_read(supervised):
    supervise.amend(str(supervised.path), invented_later=1)
    assert [server.name for server in servers()] == [supervised.name]


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
    assert name_for("embed", "/data/模型 目录", "8000") == "embed-模型-目录-8000"
    assert name_for("embed", "/data/Mode\u0300le d\u2019été/", "1") == "embed-modèle-d-été-1"
    assert name_for("embed", "/data/मॉडल", "1") == "embed-मॉडल-1"
    assert name_for("rerank", "/data/***", "1") == name_for("rerank", "///", "1") == "rerank-model-1"
    assert name_for("embed", "/data/\udcff\x1b[31m$(x)", "1") == "embed-31m-x-1"
    assert len(name_for("embed", "目" * 200, "s" * 200).encode()) < 255 - len(".key.yaml")
    assert name_for("embed", "目" * 200, "1").endswith("目-1")


def test_a_server_of_a_folder_with_another_script_is_found_and_stopped_by_its_name(record, folder):
    name = name_for("embed", "/data/模型 目录", "8000")
    own = replace(record, name=name, model="/data/模型 目录", folder="/data/模型 目录", log=str(folder / f"{name}.log"))
    own.write()
    words = [
        sys.executable,
        supervise.__file__,
        str(own.path),
        str(os.getpid()),
        "1",
        "--",
        sys.executable,
        "-c",
        "import time; time.sleep(60)",
    ]
    with subprocess.Popen(words, start_new_session=True) as process:
        assert until(lambda: own.fresh().server_pid)
        assert (
            CliRunner().invoke(app, ["status"]).stdout.startswith("embed-模型-目录-8000: starting, embed /data/模型 目录 on vllm 0.32.0\n")
        )
        assert CliRunner().invoke(app, ["stop", name]).stdout == "stopped embed-模型-目录-8000\n"
        assert process.wait(20) == 128 + 15
    assert servers() == ()


def test_attaching_to_an_unknown_server_lists_the_running_ones(supervised):
    with pytest.raises(ConfigError, match=r"no server 'other' is running here. Running: embed-model-8000"):
        attach("other")
    with pytest.raises(ConfigError, match="0 servers are running here"):
        attach(task="rerank")


def test_a_record_contains_the_passed_values(record):
    record.write()
    assert record.fresh() == record
    assert json.loads(record.path.read_text())["has_key"] is False


def test_a_process_has_ended_when_its_parent_can_take_its_exit_code():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        seen = psutil.Process(process.pid)
        assert not has_ended(seen)
        process.stdin.close()
        assert until(lambda: has_ended(seen))
        assert process.poll() == 1  # the parent learns of it at once
    assert has_ended(seen)
    assert has_ended(None)
