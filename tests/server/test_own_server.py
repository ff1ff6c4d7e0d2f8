"""Our own server, started, used, shared, failed and ended by `qwen3_integrations.serving` and its commands.

It starts in seconds, so it also proves what does not depend on the program: the life of a server from its start to its end.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import numpy as np
import psutil
import pytest
from typer.testing import CliRunner

from qwen3_integrations import Embedder, Reranker, __version__
from qwen3_integrations.cli import app
from qwen3_integrations.errors import ConfigError, EngineError
from qwen3_integrations.serving import Failed, Launched, Reused, ServerOptions, TimedOut, astart, attach, servers, start
from tests.contract.cases import TOLERANCE
from tests.reference import reference_embeddings, reference_scores
from tests.server.any_program import (  # noqa: F401  tests that use this module's server
    started,
    test_another_process_attaches_with_the_key,
    test_status_tells_the_load,
    test_the_key_is_wanted_and_nowhere_to_be_read,
    test_the_numbers_are_right,
)
from tests.server.guarded import check_guarded
from tests.server.launch import free_port
from tests.server.processes import can_be_bound, group_of, own_records
from tests.texts import HOSTILE, PLAIN
from tests.waiting import until

pytestmark = [pytest.mark.server, pytest.mark.slow]

QUICK = {"engine": "torch", "max_tokens": 1024}
EMBED = ServerOptions(task="embed", model="qwen3-tiny-demo", **QUICK)
COMMAND = [sys.executable, "-m", "qwen3_integrations.cli"]
SERVE = [*COMMAND, "serve", "embed", "qwen3-tiny-demo", "--engine", "torch", "--max-tokens", "1024"]
# A test run that was started in the background ignores SIGINT, and so would its children.
HEEDING = [
    sys.executable,
    "-c",
    "import os, signal, sys; signal.signal(2, signal.default_int_handler); os.execv(sys.argv[1], sys.argv[1:])",
]


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory):
    with own_records(tmp_path_factory.mktemp("state") / "servers", {"OMP_NUM_THREADS": "1"}) as path:
        yield path


@pytest.fixture(scope="module")
def embedder(folder):
    with started(EMBED) as found:
        yield found


def others_than(embedder):
    """The running servers without that of the tests."""
    return [server for server in servers() if server.name != embedder[0].name]


def test_progress_goes_from_starting_to_ready(embedder):
    phases = [progress.phase for progress in embedder[1]]
    assert phases == ["starting", "loading", "answering", "ready"]
    times = [progress.elapsed_s for progress in embedder[1]]
    assert times == sorted(times)


def test_another_user_of_the_machine_gets_no_answer_without_the_key(embedder):
    server, _ = embedder
    check_guarded(server, ("/metrics", "/v1/models", "/version", "/info"))


def test_the_same_options_find_the_running_server(embedder):
    server, _ = embedder
    outcome = start(EMBED)
    assert isinstance(outcome, Reused)
    assert outcome.running().url == server.url
    with outcome.server:
        pass  # this process did not start it by this call, so it continues
    assert server.state == "ready"
    other = start(ServerOptions(task="embed", model="qwen3-tiny-demo", **QUICK | {"max_tokens": 512}), timeout_s=0.3)
    assert isinstance(other, TimedOut)
    assert other.server.state == "starting"  # /health answers before the model can be used
    other.server.stop()


def test_the_commands_see_it(embedder):
    server, _ = embedder
    (shown,) = json.loads(CliRunner().invoke(app, ["status", "--json"]).stdout)
    assert (shown["name"], shown["state"], shown["url"]) == (server.name, "ready", server.url)
    assert server.status().engine.partition(" ")[0] == "qwen3-integrations"
    assert CliRunner().invoke(app, ["logs", "-n", "5"]).stdout.splitlines() == server.logs(5)
    words = ["serve", "embed", "qwen3-tiny-demo", "--engine", "torch", "--port", server.url.rpartition(":")[2]]
    taken = CliRunner().invoke(app, words)
    assert taken.exit_code == 2
    assert "runs already, with other options" in taken.stderr


def test_verify_finds_it_right_in_full(embedder):
    server, _ = embedder
    shown = CliRunner().invoke(app, ["verify", server.name, "--json"])
    assert shown.exit_code == 0, shown.output
    states = {check["name"]: check["state"] for check in json.loads(shown.stdout)["checks"]}
    assert {name for name, state in states.items() if state != "passed"} == {"published"}


def test_a_frozen_server_is_not_answering_and_comes_back(embedder):
    server, _ = embedder
    os.kill(server.pid, signal.SIGSTOP)
    try:
        assert until(lambda: server.state == "not answering")
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert until(lambda: server.state == "ready")


@pytest.fixture(scope="module")
def kept(folder, tmp_path_factory):
    """A reranker that a command started and left running."""
    words = [*SERVE, "--name", "kept", "--keep-running", "--json", "--", "--access-log"]
    words[words.index("embed")] = "rerank"
    del words[words.index("--engine") : words.index("--engine") + 2]  # our own server is chosen
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"qwen3-integrations {__version__}: an unquantised model on one device\n" in done.stderr
    yield json.loads(done.stdout)
    CliRunner().invoke(app, ["stop", json.loads(done.stdout)["name"]])


def test_a_command_leaves_a_server_running(kept):
    server = attach(kept["name"])
    assert kept["reason"] == "an unquantised model on one device"
    assert (kept["outcome"], kept["keep_running"], server.state, server.model) == ("launched", True, "ready", "kept")
    assert not psutil.pid_exists(kept["owner_pid"])
    assert server.reranker(top_n=1).rerank(["one", "two"], "query")[0]["index"] in (0, 1)


def test_scores_are_right(kept, tiny_reranker):
    pairs = [("a query", text) for text in HOSTILE]
    server = attach(kept["name"])
    with server.engine() as engine:
        scores = Reranker(engine).score(pairs)
    reference = reference_scores(tiny_reranker, pairs)
    assert np.abs(scores - reference).max() < TOLERANCE
    body = {"model": server.model, "text_1": "a query", "text_2": HOSTILE}
    answer = httpx.post(f"{server.url}/score", json=body, headers={"Authorization": f"Bearer {server.api_key}"}, timeout=60)
    others = [item["score"] for item in sorted(answer.json()["data"], key=lambda item: item["index"])]
    assert np.abs(np.asarray(others) - reference).max() < TOLERANCE


def test_verify_finds_the_reranker_right_in_full(kept):
    for known_by in (kept["name"], kept["url"]):
        shown = CliRunner().invoke(app, ["verify", known_by, "--json"])
        assert shown.exit_code == 0, shown.output
        states = {check["name"]: check["state"] for check in json.loads(shown.stdout)["checks"]}
        assert {name for name, state in states.items() if state != "passed"} == {"published"}


def test_logs_are_followed_until_the_server_is_stopped(kept):
    """Last of those that use it."""
    server = attach(kept["name"])
    following = subprocess.Popen([*COMMAND, "logs", kept["name"], "--follow", "-n", "1"], stdout=subprocess.PIPE, text=True)
    first = following.stdout.readline()
    assert first.strip()
    group = group_of(server.pid)
    stopped = CliRunner().invoke(app, ["stop", kept["name"], "--json"])
    assert json.loads(stopped.stdout) == [kept["name"]]
    assert not any(map(psutil.pid_exists, group))
    assert can_be_bound(server.url)
    said, _ = following.communicate(timeout=30)
    assert following.returncode == 0
    assert "shutting down" in said


def test_a_server_on_a_socket(socket_folder, tiny_embedder):
    path = socket_folder / "qwen3.sock"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    with start(ServerOptions(task="embed", model="qwen3-tiny-demo", uds=path, **QUICK)).running() as server:
        assert server.url == f"unix://{path}"
        vectors = Embedder(server.engine()).embed_documents(PLAIN)
        assert np.abs(vectors - reference_embeddings(tiny_embedder, PLAIN)).max() < TOLERANCE
        assert server.status().load.requests >= len(PLAIN)
        with pytest.raises(ConfigError, match="runs already, with other options"):
            start(ServerOptions(task="embed", model="qwen3-tiny-demo", uds=path, **QUICK | {"max_tokens": 512}))
    assert not path.exists()


def test_a_server_without_key_answers_everybody(monkeypatch):
    monkeypatch.setenv("QWEN3_API_KEY", "of-this-process")
    with start(ServerOptions(task="embed", model="qwen3-tiny-demo", without_key=True, **QUICK)).running() as server:
        assert httpx.get(f"{server.url}/v1/models").status_code == 200
        assert (server.has_key, server.api_key) == (False, None)


def test_two_starts_at_once_give_one_server(embedder):
    options = ServerOptions(task="embed", model="qwen3-tiny-demo", served_name="shared", **QUICK)
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(lambda _: start(options), range(2)))
    assert {type(outcome) for outcome in outcomes} == {Launched, Reused}
    assert len({outcome.server.url for outcome in outcomes}) == 1
    with next(outcome.server for outcome in outcomes if isinstance(outcome, Launched)):
        assert len(others_than(embedder)) == 1
    assert others_than(embedder) == []


def test_a_start_that_is_given_up_at_once_leaves_nothing(embedder):
    cancel = threading.Event()
    cancel.set()
    for _ in range(3):
        outcome = start(EMBED, reuse=False, cancel=cancel)
        assert isinstance(outcome, Failed)
        assert outcome.error == "the start was cancelled"
        assert others_than(embedder) == []


def test_a_terminal_that_closes_while_it_loads_leaves_nothing(embedder):
    """`--keep-running` is for a server that is ready."""
    command = subprocess.Popen([*SERVE, "--no-reuse", "--keep-running"], stderr=subprocess.PIPE, text=True)
    for line in command.stderr:
        if line.startswith("starting"):
            break
    assert until(lambda: len(others_than(embedder)) == 1)
    (server,) = others_than(embedder)
    assert until(lambda: server.pid)
    pid = server.pid
    assert group_of(pid)
    command.send_signal(signal.SIGHUP)
    command.communicate(timeout=60)
    assert until(lambda: not group_of(pid))
    assert until(lambda: others_than(embedder) == [])


OWNER = """
import sys, time
from qwen3_integrations.serving import ServerOptions, start
options = ServerOptions(task="embed", model="qwen3-tiny-demo", engine="torch", max_tokens=1024)
start(options, reuse=False, on_progress=lambda progress: print(progress.phase, flush=True))
time.sleep(600)
"""


@pytest.mark.parametrize("phase", ["loading", "ready"])
def test_after_sigkill_of_the_owner_nothing_is_left(embedder, phase):
    with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True) as owner, ExitStack() as stack:
        stack.callback(owner.kill)
        for line in owner.stdout:
            if line.strip() == phase:
                break
        (server,) = others_than(embedder)
        group = group_of(server.pid)
        assert group
        os.kill(owner.pid, signal.SIGKILL)
        owner.wait()
        assert until(lambda: not group_of(server.pid) and not any(map(psutil.pid_exists, group)))
    assert can_be_bound(server.url)
    assert until(lambda: others_than(embedder) == [])


def test_a_foreground_server_ends_with_ctrl_c():
    command = subprocess.Popen(
        [*HEEDING, *SERVE, "--no-reuse", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    shown = json.loads(command.stdout.readline())
    assert shown["outcome"] == "launched"
    assert group_of(shown["pid"])
    command.send_signal(signal.SIGINT)
    _, said = command.communicate(timeout=60)
    assert command.returncode == 130
    assert "Traceback" not in said
    assert until(lambda: not group_of(shown["pid"]))


def test_a_crash_while_loading_leaves_nothing(embedder):
    """Killed from outside, as the kernel does when memory runs out."""
    killed: list[int] = []

    def kill(progress):
        if progress.phase == "loading" and not killed:
            (server,) = others_than(embedder)
            killed.extend([server.pid, *group_of(server.pid)])
            os.kill(server.pid, signal.SIGKILL)

    outcome = start(EMBED, reuse=False, on_progress=kill)
    assert isinstance(outcome, Failed), outcome
    assert outcome.exit_code == 128 + signal.SIGKILL
    assert "signal 9: the kernel does so when memory runs out" in outcome.error
    assert outcome.tail
    assert not any(map(psutil.pid_exists, killed))
    assert others_than(embedder) == []
    with pytest.raises(EngineError, match=r"did not start \(exit code 137\)"):
        outcome.running()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"quantization": "fp8"}, "fp8"),
        ({"extra_args": ("--drain-s", "long")}, "Invalid value for '--drain-s'"),
    ],
)
def test_why_it_failed_is_lifted_out_of_the_log(change, says):
    outcome = start(ServerOptions(task="embed", model="qwen3-tiny-demo", **QUICK, env={"CUDA_VISIBLE_DEVICES": ""}, **change))
    assert isinstance(outcome, Failed), outcome
    assert outcome.exit_code
    assert says in outcome.error
    assert any(outcome.error[:40] in line for line in outcome.log.read_text().splitlines())


def test_a_model_that_answers_wrongly_is_no_server(random_reranker):
    """Random weights load and answer, but can't tell a relevant text from another."""
    outcome = start(ServerOptions(task="rerank", model=str(random_reranker), **QUICK))
    assert isinstance(outcome, Failed), outcome
    assert outcome.exit_code is None
    assert "does not answer as" in outcome.error


def test_a_port_that_is_taken_while_the_server_starts_is_said():
    """By a process that does not answer: the program itself finds the port taken."""
    port = free_port()
    options = ServerOptions(task="embed", model="qwen3-tiny-demo", port=port, **QUICK)
    with socket.socket() as late:
        outcome = start(options, on_server=lambda _: late.bind(("127.0.0.1", port)))
    assert isinstance(outcome, Failed)
    assert outcome.port_taken
    assert f"port {port} is taken" in outcome.error


def test_a_cancelled_start_leaves_nothing(embedder):
    async def cancelled():
        loading = asyncio.Event()
        loop = asyncio.get_running_loop()

        def tell(progress):
            if progress.phase == "loading":
                loop.call_soon_threadsafe(loading.set)

        task = asyncio.create_task(astart(EMBED, reuse=False, on_progress=tell))
        await loading.wait()
        (server,) = others_than(embedder)
        group = group_of(server.pid)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return group

    pids = asyncio.run(cancelled())
    assert pids
    assert others_than(embedder) == []
    assert not any(map(psutil.pid_exists, pids))
