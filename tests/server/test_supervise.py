"""The supervisor ends what it started, whatever ends it or its owner. Its servers here are small scripts that do what vLLM should not."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from qwen3_integrations.serving import supervise
from qwen3_integrations.serving.log import first_error
from tests.waiting import until

if sys.platform == "win32":
    pytest.skip("process groups are POSIX'", allow_module_level=True)

# A server with a child of its own; both write their pids. Neither may be waited for politely if `stubborn`.
SERVER = """
import os, signal, subprocess, sys, time
stubborn, pids = sys.argv[1] == "stubborn", sys.argv[2]
if stubborn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if len(sys.argv) == 3:
    subprocess.Popen([sys.executable, sys.argv[0], sys.argv[1], pids, "child"])
with open(pids, "a") as file:
    file.write(f"{os.getpid()}\\n")
time.sleep(120)
"""

# An owner that starts a supervisor and then does nothing.
OWNER = """
import os, subprocess, sys, time
subprocess.Popen([sys.executable, sys.argv[1], sys.argv[2], str(os.getpid()), "1", "--", *sys.argv[3:]], start_new_session=True)
time.sleep(120)
"""


def alive(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.fixture
def owner(tmp_path):
    """Starts owner, supervisor and server; gives the owner and the pids, and leaves nothing behind."""
    server, started, owners = tmp_path / "server.py", [], []
    server.write_text(SERVER)

    def begin(kind="plain", *, keep_running=False):
        record, pids = tmp_path / "record.json", tmp_path / "pids"
        record.write_text(json.dumps({"keep_running": keep_running}))
        command = [sys.executable, str(server), kind, str(pids)]
        process = subprocess.Popen([sys.executable, "-c", OWNER, supervise.__file__, str(record), *command])
        owners.append(process)
        assert until(lambda: pids.exists() and len(pids.read_text().splitlines()) == 2)
        assert until(lambda: "server_pid" in json.loads(record.read_text()))
        content = json.loads(record.read_text())
        found = {"supervisor": content["supervisor_pid"], "server": content["server_pid"]}
        found["child"] = next(pid for pid in map(int, pids.read_text().split()) if pid != found["server"])
        started.extend(found.values())
        return process, found, record

    yield begin
    for pid in started:
        if alive(pid):
            os.kill(pid, signal.SIGKILL)
    for process in owners:
        process.kill()
        process.wait()


def nothing_lives(found, record):
    return until(lambda: not any(map(alive, found.values()))) and not record.exists()


@pytest.mark.parametrize("kind", ["plain", "stubborn"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_server_ends_with_its_owner(owner, kind, number):
    process, found, record = owner(kind)
    process.send_signal(number)
    process.wait()
    assert nothing_lives(found, record)


def test_a_server_that_is_kept_outlives_its_owner_and_ends_when_told(owner):
    process, found, record = owner(keep_running=True)
    process.kill()
    process.wait()
    time.sleep(1.5)
    assert all(map(alive, found.values()))
    os.kill(found["supervisor"], signal.SIGTERM)
    assert nothing_lives(found, record)


def test_it_may_be_decided_later_to_keep_it(owner):
    process, found, record = owner()
    supervise.amend(str(record), keep_running=True)
    process.kill()
    process.wait()
    time.sleep(1.5)
    assert all(map(alive, found.values()))
    os.kill(found["supervisor"], signal.SIGTERM)
    assert nothing_lives(found, record)


@pytest.mark.parametrize("kind", ["plain", "stubborn"])
def test_children_do_not_outlive_a_killed_server(owner, kind):
    _, found, record = owner(kind)
    os.kill(found["server"], signal.SIGKILL)
    assert nothing_lives(found, record)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux' own")
def test_a_killed_supervisor_takes_the_server_along(owner):
    _, found, _ = owner()
    os.kill(found["supervisor"], signal.SIGKILL)
    assert until(lambda: not alive(found["server"]))
    os.kill(found["child"], signal.SIGKILL)


def test_the_exit_code_is_the_servers(tmp_path):
    def code(*program):
        words = [
            sys.executable,
            supervise.__file__,
            str(tmp_path / "record.json"),
            str(os.getpid()),
            "1",
            "--",
            sys.executable,
            "-c",
            *program,
        ]
        return subprocess.run(words, check=False).returncode

    assert code("raise SystemExit(3)") == 3
    assert code("import os; os.kill(os.getpid(), 9)") == 128 + 9
    assert code("") == 1  # a server that ends by itself has failed, as vLLM's does with 0 when its engine's process was killed
    assert not (tmp_path / "record.json").exists()


FORGETFUL = """
import ctypes, os, sys, time
child = os.fork()
if child == 0:
    ctypes.CDLL(None).prctl(15, sys.argv[1].encode())  # PR_SET_NAME
    if sys.argv[2] == "sleep":
        time.sleep(60)
    os.kill(os.getpid(), int(sys.argv[2])) if sys.argv[2] != "exit" else os._exit(3)
print(child, flush=True)
time.sleep(60)
"""
"""A server that does not notice that its child has ended."""


@pytest.mark.skipif(sys.platform != "linux", reason="process titles are read from /proc")
def test_a_server_that_does_not_notice_a_dead_process_of_its_own_is_ended(tmp_path):
    """Other ended processes, and running ones, do not end it."""
    cases = [("sglang::scheduler", "9", 137), ("VLLM::EngineCore", "11", 139), ("sglang::x", "exit", 3)]
    cases += [("gzip", "9", None), ("sglang::scheduler", "sleep", None)]
    started = []
    for at, (title, end, _) in enumerate(cases):
        record = tmp_path / f"{at}.json"
        record.write_text("{}")
        server = [sys.executable, "-c", FORGETFUL, title, end]
        words = [sys.executable, supervise.__file__, str(record), str(os.getpid()), "1", "--", *server]
        started.append(subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    try:
        for process, (title, end, code) in zip(started, cases, strict=True):
            if code is None:
                assert process.poll() is None
                continue
            pid, error = process.stdout.readline().strip(), process.stderr.read()
            assert process.wait() == code
            how = f"signal {end}" if end != "exit" else "exit code 3"
            said = f"the server's process {pid} ({title[:15]}) ended with {how}, and the server did not notice it, so it is ended"
            assert first_error(error.splitlines()) == said
        time.sleep(supervise.LOOK_S)
        assert [process.poll() for process in started] == [code for _, _, code in cases]
    finally:
        for process in started:
            process.terminate()
            process.communicate()


def test_a_record_is_its_users_alone(tmp_path):
    path = tmp_path / "record.json"
    supervise.store(str(path), {"one": 1})
    assert supervise.amend(str(path), two=2) == {"one": 1, "two": 2}
    assert json.loads(path.read_text()) == {"one": 1, "two": 2}
    assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(each.name for each in tmp_path.iterdir()) == [".records.lock", "record.json"]


def test_a_signal_in_the_first_moment_is_not_lost(tmp_path):
    """It comes before the supervisor has anybody to take it; the owner starts it with signals blocked."""
    for number in range(20):
        record = tmp_path / f"{number}.json"
        record.write_text('{"keep_running": false}')
        before = signal.pthread_sigmask(signal.SIG_BLOCK, supervise.SIGNALS)
        try:
            words = [
                sys.executable,
                supervise.__file__,
                str(record),
                str(os.getpid()),
                "1",
                "--",
                sys.executable,
                "-c",
                "import time; time.sleep(60)",
            ]
            process = subprocess.Popen(words, start_new_session=True)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        time.sleep(0.01 * (number % 8))
        process.terminate()
        assert process.wait(20) == 128 + signal.SIGTERM
        assert not record.exists()


def test_what_stands_beside_the_record_goes_with_it(tmp_path, socket_folder):
    record, key, path = tmp_path / "record.json", tmp_path / "key.yaml", socket_folder / "socket"
    key.touch()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    record.write_text(json.dumps({"key_config": str(key), "url": f"unix://{path}"}))
    words = [sys.executable, supervise.__file__, str(record), str(os.getpid()), "1", "--", sys.executable, "-c", ""]
    subprocess.run(words, check=False)
    assert sorted(each.name for each in tmp_path.iterdir()) == [".records.lock"]
    assert not path.exists()


def test_nothing_goes_with_a_record_that_is_no_socket_or_lies_elsewhere(tmp_path):
    record, key, path = tmp_path / "state" / "record.json", tmp_path / "key.yaml", tmp_path / "file"
    for each in (key, path):
        each.touch()
    record.parent.mkdir()
    record.write_text(json.dumps({"key_config": str(key), "url": f"unix://{path}"}))
    words = [sys.executable, supervise.__file__, str(record), str(os.getpid()), "1", "--", sys.executable, "-c", ""]
    subprocess.run(words, check=False)
    assert key.exists()
    assert path.exists()
    assert not record.exists()
