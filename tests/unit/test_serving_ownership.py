"""`status`, `stop` and `%qwen3_stop` without a name act on one's own servers; `--all` and names act on all of the user's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest
from typer.testing import CliRunner

from qwen3_integrations.cli import app
from qwen3_integrations.serving import servers, supervise
from qwen3_integrations.serving.records import FOLDER_VARIABLE, ServerRecord, servers_folder
from tests.waiting import until

if sys.platform == "win32":
    pytest.skip("the supervisor is POSIX'", allow_module_level=True)

WAITING = "import time; time.sleep(120)"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """(owner, port) -> a server that a process of that kind started: self, above, program, command or ended."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "servers"))
    folder = servers_folder()
    with ExitStack() as stack:

        def process(words):
            started = stack.enter_context(subprocess.Popen(words))
            stack.callback(started.kill)
            return started

        def begin(owner, port):
            ended = subprocess.Popen([sys.executable, "-c", ""])
            ended.wait()

            pids = {"self": os.getpid(), "above": os.getppid(), "ended": ended.pid}
            if owner == "program":
                pids[owner] = process([sys.executable, "-c", WAITING]).pid
            if owner == "command":
                # Its command line is read, and not what it runs.
                script = tmp_path / "qwen3-integrations"
                script.write_text(WAITING)
                pids[owner] = process([sys.executable, str(script), "serve", "embed"]).pid
            name = f"embed-{owner}-{port}"
            record = ServerRecord(
                *(name, "embed", owner, "vllm", f"http://127.0.0.1:{port}", pids[owner], owner == "ended", time.time(), ("x",)),
                *(f"{folder}/{name}.log", "/", {}),
            )
            record.write()
            words = [sys.executable, supervise.__file__, str(record.path), str(os.getpid()), "1", "--", sys.executable, "-c", WAITING]
            supervisor = stack.enter_context(subprocess.Popen(words, start_new_session=True))
            stack.callback(supervisor.terminate)
            assert until(lambda: record.fresh().server_pid)
            return name

        yield begin


def shown(*words):
    done = CliRunner().invoke(app, list(words))
    return done.exit_code, done.stdout, done.stderr


def names():
    return sorted(server.name for server in servers())


@pytest.mark.parametrize("owner", ["self", "above", "command", "ended"])
def test_ones_own_server_is_listed_and_stopped_without_a_name(machine, owner):
    own, other = machine(owner, 1), machine("program", 2)
    assert [each["name"] for each in json.loads(shown("status", "--json")[1])] == [own]
    code, listed, told = shown("status")
    assert (code, own in listed, other in listed) == (0, True, False)
    assert "1 server runs here that other programs started: `qwen3-integrations status --all` lists it too" in told
    assert [each["name"] for each in json.loads(shown("status", "--all", "--json")[1])] == [own, other]
    assert shown("stop") == (0, f"stopped {own}\n", "")
    assert names() == [other]


def test_a_server_of_another_program_is_stopped_by_its_name_or_with_all(machine):
    first, second = machine("program", 1), machine("program", 2)
    code, _, told = shown("stop")
    assert code == 2
    assert "the running servers were started by another program, so a name is needed" in told
    assert f"Running: {first} (of process " in told
    assert "or use --all" in told
    assert names() == [first, second]
    assert shown("stop", first)[:2] == (0, f"stopped {first}\n")
    assert shown("stop", "--all")[:2] == (0, f"stopped {second}\n")
    assert names() == []
    assert "0 servers are running here" in shown("stop")[2]
    assert "no servers run here" in shown("status")[2]


def test_the_magic_stops_ones_own_server(machine, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", os.environ[FOLDER_VARIABLE] + "-ipython")
    from IPython.core.interactiveshell import InteractiveShell

    from qwen3_integrations.errors import ConfigError
    from qwen3_integrations.notebook.magics import Qwen3Magics

    shell = InteractiveShell()
    shell.register_magics(Qwen3Magics)
    other = machine("program", 1)
    with pytest.raises(ConfigError, match="was started by another program"):
        shell.run_line_magic("qwen3_stop", "")
    own = machine("self", 2)
    assert shell.run_line_magic("qwen3_stop", "") == (own,)
    assert names() == [other]
    assert shell.run_line_magic("qwen3_stop", "--all") == (other,)


def test_several_own_servers_need_a_name(machine):
    own = [machine("self", port) for port in (1, 2)]
    code, _, told = shown("stop")
    assert code == 2
    assert "2 servers of yours are running here, so a name is needed" in told
    assert f"Running: {', '.join(own)}" in told
    assert shown("stop", *own)[0] == 0


def test_a_number_that_another_process_got_is_no_owner(machine):
    name = machine("self", 1)
    (server,) = servers()
    with subprocess.Popen([sys.executable, "-c", WAITING]) as later:
        supervise.amend(str(server.log_path.with_suffix(".json")), owner_pid=later.pid, owner_started=time.time() - 1000)
        assert f"stopped {name}" in shown("stop")[1]
        later.kill()
