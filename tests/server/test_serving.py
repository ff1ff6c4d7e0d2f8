"""Real vLLM servers, started, used, shared, failed and ended by `qwen3_integrations.serving` and its commands.

What does not depend on the program is tested with our own server, which starts in seconds: `test_own_server.py`.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from typer.testing import CliRunner

from qwen3_integrations import Reranker, open_engine
from qwen3_integrations.cli import app
from qwen3_integrations.core.prompts import DEFAULT_INSTRUCTION
from qwen3_integrations.core.tokenizer import neutral
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.serving import Failed, Reused, ServerOptions, TimedOut, attach, servers, start
from tests.contract.cases import TOLERANCE
from tests.models import declare, write_classifier
from tests.reference import reference_scores
from tests.server.any_program import (  # noqa: F401  tests that use this module's server
    started,
    test_another_process_attaches_with_the_key,
    test_status_tells_the_load,
    test_the_key_is_wanted_and_nowhere_to_be_read,
    test_the_numbers_are_right,
)
from tests.server.guarded import check_guarded, transport
from tests.server.launch import ONE_PROCESS, QUICK_START
from tests.server.processes import can_be_bound, group_of, own_records
from tests.texts import HOSTILE, PLAIN
from tests.waiting import until

pytestmark = [pytest.mark.server, pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(1200)]

QUICK = {"engine": "vllm", "dtype": "float32", "max_tokens": 1024, "enforce_eager": True, "max_num_seqs": 64, "extra_args": ONE_PROCESS}
FLAGS = ["--engine", "vllm", "--dtype", "float32", "--max-tokens", "1024", "--enforce-eager", "--max-num-seqs", "64"]
PASSED_ON = ["--", *ONE_PROCESS]
EMBED = ServerOptions(task="embed", model="qwen3-tiny-demo", **QUICK)
GONE_S = 25.0
COMMAND = [sys.executable, "-m", "qwen3_integrations.cli"]


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory):
    with own_records(tmp_path_factory.mktemp("state") / "servers", QUICK_START) as path:
        yield path


@pytest.fixture(scope="module")
def embedder(folder):
    with started(EMBED) as found:
        yield found


def test_progress_goes_from_starting_to_ready(embedder):
    phases = [progress.phase for progress in embedder[1]]
    assert phases[0] == "starting"
    assert {"loading", "answering"} <= set(phases)
    assert phases[-1] == "ready"
    times = [progress.elapsed_s for progress in embedder[1]]
    assert times == sorted(times)


def test_matryoshka_is_served_for_other_clients(embedder):
    server, _ = embedder
    body = {"model": server.model, "input": ["text"], "dimensions": 64}
    answer = httpx.post(f"{server.url}/v1/embeddings", json=body, headers={"Authorization": f"Bearer {server.api_key}"})
    assert len(answer.json()["data"][0]["embedding"]) == 64


def test_another_user_of_the_machine_gets_no_answer_without_the_key(embedder):
    server, _ = embedder
    check_guarded(server)


def test_the_same_options_find_the_running_server(embedder):
    server, _ = embedder
    outcome = start(EMBED)
    assert isinstance(outcome, Reused)
    assert outcome.running().url == server.url
    with outcome.server:
        pass  # it is not this hand's to stop
    assert server.state == "ready"
    other = start(ServerOptions(task="embed", model="qwen3-tiny-demo", **QUICK | {"max_tokens": 512}), timeout_s=0.5)
    assert isinstance(other, TimedOut)
    other.server.stop()


def test_the_snippets_run(embedder, monkeypatch):
    server, _ = embedder
    monkeypatch.setenv("QWEN3_API_KEY", server.api_key)
    code = server.snippets()
    found: dict[str, object] = {}
    for client in ("openai", "langchain", "llama_index"):
        exec(code[client], found)
    found["client"].close()
    vectors = [found["vector"], found["embeddings"].embed_documents(["The capital of China is Beijing."])[0]]
    vectors.append(found["embed_model"].get_text_embedding("The capital of China is Beijing."))
    assert np.abs(np.asarray(vectors) - vectors[0]).max() < TOLERANCE
    answer = subprocess.run(["bash", "-c", f"{code['curl']} --silent"], capture_output=True, text=True, check=True)
    assert np.abs(np.asarray(json.loads(answer.stdout)["data"][0]["embedding"]) - vectors[0]).max() < TOLERANCE


def test_the_commands_see_it(embedder):
    server, _ = embedder
    (shown,) = json.loads(CliRunner().invoke(app, ["status", "--json"]).stdout)
    assert (shown["name"], shown["state"], shown["url"]) == (server.name, "ready", server.url)
    assert "api_key" not in shown
    assert server.api_key in CliRunner().invoke(app, ["status", "--show-keys"]).stdout
    assert server.name in CliRunner().invoke(app, ["status"]).stdout
    lines = CliRunner().invoke(app, ["logs", "-n", "5"]).stdout.splitlines()
    assert lines == server.logs(5)
    taken = CliRunner().invoke(app, ["serve", "embed", "qwen3-tiny-demo", "--port", server.url.rpartition(":")[2]])
    assert taken.exit_code == 2
    assert "runs already, with other options" in taken.stderr


@pytest.fixture(scope="module")
def kept(folder):
    """A reranker on a Unix socket, which a command started and left running."""
    with tempfile.TemporaryDirectory(dir="/tmp") as place:  # a socket's path has at most 107 bytes
        yield from kept_at(Path(place) / "qwen3.sock")


def kept_at(path):
    with socket.socket(socket.AF_UNIX) as left_behind:  # as vLLM itself leaves it
        left_behind.bind(str(path))
    done = subprocess.run(
        [*COMMAND, "serve", "rerank", "qwen3-tiny-demo", *FLAGS, "--uds", str(path), "--keep-running", "--json", *PASSED_ON],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    yield json.loads(done.stdout)
    CliRunner().invoke(app, ["stop", json.loads(done.stdout)["name"]])


def test_a_command_leaves_a_server_running(kept):
    server = attach(kept["name"])
    assert (kept["outcome"], kept["keep_running"], server.state) == ("launched", True, "ready")
    assert not psutil.pid_exists(kept["owner_pid"])
    assert server.url.startswith("unix://")
    assert server.reranker(top_n=1).rerank(["one", "two"], "query")[0]["index"] in (0, 1)


def test_score_and_rerank_are_right_for_other_clients(kept, tiny_reranker):
    """The routes on which vLLM itself puts query and document together."""
    server = attach(kept["name"])
    texts = [text for text in HOSTILE if text.strip()]
    key = {"Authorization": f"Bearer {server.api_key}"}
    body = {"model": server.model, "text_1": "a query", "text_2": texts}
    client = httpx.Client(transport=transport(server), base_url="http://localhost", headers=key, timeout=60)
    answer = client.post("/score", json=body)
    scores = [item["score"] for item in sorted(answer.json()["data"], key=lambda item: item["index"])]
    reference = reference_scores(tiny_reranker, [("a query", neutral(text)) for text in texts])
    assert np.abs(np.asarray(scores) - reference).max() < TOLERANCE
    body = {"model": server.model, "query": "a query", "documents": texts, "instruction": "Find code."}
    answer = client.post("/v1/rerank", json=body)
    client.close()
    ranked = {item["index"]: item["relevance_score"] for item in answer.json()["results"]}
    reference = reference_scores(tiny_reranker, [("a query", neutral(text)) for text in texts], "Find code.")
    assert np.abs(np.asarray([ranked[index] for index in range(len(texts))]) - reference).max() < TOLERANCE


def test_the_engine_is_exact(kept, tiny_reranker):
    pairs = [("a query", text) for text in HOSTILE]
    with attach(kept["name"]).engine() as engine:
        scores = Reranker(engine).score(pairs)
    assert np.abs(scores - reference_scores(tiny_reranker, pairs, DEFAULT_INSTRUCTION)).max() < TOLERANCE


def test_verify_finds_it_right(kept):
    shown = CliRunner().invoke(app, ["verify", kept["name"], "--json"])
    assert shown.exit_code == 0, shown.output
    assert {check["state"] for check in json.loads(shown.stdout)["checks"]} <= {"passed", "skipped"}


def test_logs_are_followed_until_the_server_is_stopped(kept):
    """Last of those that use it."""
    server = attach(kept["name"])
    following = subprocess.Popen([*COMMAND, "logs", kept["name"], "--follow", "-n", "0"], stdout=subprocess.PIPE, text=True)
    time.sleep(2)
    group = group_of(server.pid)
    assert len(group) >= 2
    stopped = CliRunner().invoke(app, ["stop", kept["name"], "--json"])
    assert json.loads(stopped.stdout) == [kept["name"]]
    assert not any(map(psutil.pid_exists, group))
    assert not Path(server.url.removeprefix("unix://")).exists()
    said, _ = following.communicate(timeout=30)
    assert following.returncode == 0
    assert "Shutting down" in said or "shutdown" in said.lower()


OWNER = """
import sys, time
from qwen3_integrations.serving import ServerOptions, start
options = ServerOptions(
    task="embed", model="qwen3-tiny-demo", engine="vllm", dtype="float32", max_tokens=1024, enforce_eager=True, max_num_seqs=64
)
start(options, reuse=False, on_progress=lambda progress: print(progress.phase, flush=True))
time.sleep(600)
"""


def test_after_sigkill_of_the_owner_nothing_is_left():
    known = {server.name for server in servers()}
    with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True) as owner, ExitStack() as stack:
        stack.callback(owner.kill)
        for line in owner.stdout:
            if line.strip() == "ready":
                break
        (server,) = [server for server in servers() if server.name not in known]
        group = group_of(server.pid)
        assert len(group) >= 2
        os.kill(owner.pid, signal.SIGKILL)
        owner.wait()
        begin = time.monotonic()
        assert until(lambda: not group_of(server.pid) and not any(map(psutil.pid_exists, group)))
        print(f"gone {time.monotonic() - begin:.1f} s after the owner")  # noqa: T201
    assert can_be_bound(server.url)
    assert server.name not in {server.name for server in servers()}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kv_cache_memory_bytes": 4096}, "ValueError: "),
        ({"extra_args": ("--seed", "many")}, "argument --seed"),
    ],
)
def test_why_it_failed_is_lifted_out_of_the_log(change, says, tiny_embedder):
    outcome = start(ServerOptions(task="embed", model=str(tiny_embedder), **QUICK | change))
    assert isinstance(outcome, Failed), outcome
    print(outcome.error)  # noqa: T201
    assert outcome.exit_code
    assert says in outcome.error
    assert any(outcome.error[:40] in line for line in outcome.log.read_text().splitlines())


def test_a_stored_head_is_served_as_it_is_read_in_process(tiny_reranker, tmp_path):
    """Its bias counts, and its config may say something else about the answer."""
    folder = write_classifier(tmp_path / "converted", tiny_reranker, ["no", "yes"], ["no", "yes"], [0.4, -0.3])
    declare(folder, sentence_transformers={"activation_fn": "torch.nn.modules.linear.Identity"})
    pairs = [("How do I sort a list?", text) for text in PLAIN]
    expected = Reranker(open_engine("rerank", str(folder), backend="torch", dtype="float32")).score(pairs)
    assert np.abs(expected - reference_scores(tiny_reranker, pairs)).max() > 10 * TOLERANCE
    server = start(ServerOptions(task="rerank", model=str(folder), **QUICK)).running()
    try:
        assert np.abs(Reranker(server.engine()).score(pairs) - expected).max() < TOLERANCE
    finally:
        server.stop()


def test_a_plan_that_does_not_fit_is_refused_before_anything_starts(folder):
    before = sorted(folder.iterdir())
    with pytest.raises(ConfigError, match=r"needs .* GiB: weights .* \+ cache .* \+ forward pass .*, but this machine has .* would fit"):
        start(ServerOptions(task="embed", model="qwen3-tiny-demo", **QUICK | {"concurrency": 100_000_000}))
    assert sorted(folder.iterdir()) == before
