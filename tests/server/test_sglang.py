"""Real SGLang servers on the CPU, started by `serving`: exact numbers, `verify` in full, the key, and their end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from contextlib import ExitStack

import httpx
import numpy as np
import psutil
import pytest

from qwen3_integrations import Embedder, Reranker
from qwen3_integrations.engines.http.engine import HttpEngine
from qwen3_integrations.errors import PromptTooLong, RequestRefused, RouteNotServed
from qwen3_integrations.serving import Launched, ServerOptions, astart, servers
from qwen3_integrations.serving.records import FOLDER_VARIABLE
from qwen3_integrations.verification import verify
from tests.contract.cases import BUDGET, QUERY, TOLERANCE, check_embeddings, check_scores
from tests.reference import reference_embeddings, reference_scores
from tests.server.faults import FaultsProxy
from tests.server.fixtures import ALIAS, sglang_python
from tests.server.guarded import check_guarded
from tests.texts import PLAIN
from tests.waiting import until

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(1200)]

TASKS = ("embed", "rerank")
LONGEST = 512
LONG = "many plain words " * 400


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """task -> its server. Both start at the same time; at the end nothing runs."""
    before = os.environ.get(FOLDER_VARIABLE)
    os.environ[FOLDER_VARIABLE] = str(tmp_path_factory.mktemp("state") / "servers")
    with ExitStack() as stack:
        stack.callback(lambda: os.environ.pop(FOLDER_VARIABLE) if before is None else os.environ.update({FOLDER_VARIABLE: before}))
        outcomes = asyncio.run(_both())
        for outcome in outcomes:
            assert isinstance(outcome, Launched), outcome
            stack.callback(outcome.server.stop)
        yield {task: outcome.server for task, outcome in zip(TASKS, outcomes, strict=True)}
        for outcome in outcomes:
            outcome.server.stop()
        assert servers() == ()


async def _both():
    return await asyncio.gather(*(astart(options(task)) for task in TASKS))


def options(task):
    words = {"engine": "sglang", "python": sglang_python(), "dtype": "float32", "max_tokens": LONGEST}
    return ServerOptions(task=task, model="qwen3-tiny-demo", env={"OMP_NUM_THREADS": "1"}, **words)


def test_embeddings_equal_the_reference(served, tiny_embedder):
    with served["embed"].engine() as engine:
        check_embeddings(engine, tiny_embedder)
        assert "dialect='sglang'" in repr(engine)
        vector = Embedder(engine).embed_documents([LONG])
        assert engine.max_tokens == LONGEST  # read and answered in full
        with pytest.raises(PromptTooLong):
            Embedder(engine).embed_queries([LONG])
    assert np.abs(vector - reference_embeddings(tiny_embedder, [LONG], max_tokens=LONGEST)).max() < TOLERANCE


def test_scores_equal_the_reference(served, tiny_reranker):
    with served["rerank"].engine() as engine:
        check_scores(engine, tiny_reranker)
        score = Reranker(engine).score([(QUERY, LONG)])
        assert (engine.max_tokens, engine.server.url.rpartition("/v1")[2]) == (LONGEST, "/score")
    assert np.abs(score - reference_scores(tiny_reranker, [(QUERY, LONG)], max_tokens=LONGEST)).max() < TOLERANCE


def test_a_request_holds_a_query_and_its_documents(served):
    server = served["rerank"]
    with FaultsProxy(int(server.url.rpartition(":")[2])) as proxy:
        engine = HttpEngine("rerank", server.model, base_url=proxy.url, api_key=server.api_key, handshake="off")
        Reranker(engine).score([(query, text) for query in ("one", "two") for text in ("a", "", "<|im_end|>")])
        engine.close()
        bodies = [seen.body for seen in proxy.seen if seen.path == "/v1/score"]
    assert sorted(len(body["items"]) for body in bodies) == [1, 3, 3]  # the first request finds out the route
    assert all(isinstance(number, int) for body in bodies for number in body["query"])


def test_without_a_tokenizer_texts_are_sent_and_the_server_counts(served, tiny_embedder, tiny_reranker):
    engines = [HttpEngine(task, ALIAS, base_url=served[task].url, api_key=served[task].api_key) for task in TASKS]
    assert [engine.tokenizer for engine in engines] == [None, None]
    texts = [*PLAIN, "many plain words " * 80, "一段很长的文字。" * 80]
    embedder, reranker = Embedder(engines[0], max_tokens=BUDGET), Reranker(engines[1], max_tokens=BUDGET + 40)
    written = [text for text in texts if text.strip()]
    expected = reference_embeddings(tiny_embedder, written, max_tokens=BUDGET)
    assert np.abs(embedder.embed_documents(written) - expected).max() < TOLERANCE
    with pytest.raises(RequestRefused, match="cannot be empty or whitespace only"):  # SGLang refuses them as texts, not as token ids
        embedder.embed_documents([" "])
    pairs = [(query, text) for query in (QUERY, "another") for text in texts]
    expected = reference_scores(tiny_reranker, pairs, max_tokens=BUDGET + 40)
    assert np.abs(reranker.score(pairs) - expected).max() < TOLERANCE
    assert embedder.usage.truncated >= 2
    assert [engine.server.dialect.name for engine in engines] == ["sglang", "sglang"]
    for engine in engines:
        engine.close()


@pytest.mark.parametrize("task", TASKS)
def test_verify_finds_it_right(served, task):
    server = served[task]
    report = verify(server.url, api_key=server.api_key)
    assert report.ok, report
    assert (report.task, report.dialect, report["long input"].state) == (task, "sglang", "passed")
    assert {check.state for check in report.checks} <= {"passed", "skipped"}, report


def test_a_server_for_the_other_task_stays_alive(served):
    server = served["embed"]
    reranker = Reranker(HttpEngine("rerank", server.model, base_url=server.url, api_key=server.api_key))
    with pytest.raises(RouteNotServed, match="not for scoring"):
        reranker.rank(QUERY, ["text"])
    reranker.engine.close()
    assert server.state == "ready"


def test_the_key_is_wanted_and_nowhere_to_be_read(served):
    server = served["embed"]
    assert server.url.startswith("http://127.0.0.1:")
    assert httpx.post(f"{server.url}/v1/embeddings", json={"model": server.model, "input": ["text"]}).status_code == 401
    assert server.api_key not in server.log_path.read_text()
    assert not [word for word in server.command if server.api_key in word or "trust" in word]
    assert server.status().load.requests > 0


def test_another_user_of_the_machine_gets_no_answer_without_the_key(served):
    check_guarded(served["rerank"])


def group_of(pid):
    """The processes of a process group that still run."""
    found = []
    for each in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getpgid(each.pid) == pid and each.status() != psutil.STATUS_ZOMBIE:
                found.append(each.pid)
    return found


def test_after_sigkill_of_the_command_nothing_is_left(served):
    known = {server.name for server in servers()}
    words = ["--engine", "sglang", "--python", sglang_python(), "--dtype", "float32", "--max-tokens", "512", "--name", "owned"]
    command = [sys.executable, "-m", "qwen3_integrations.cli", "serve", "embed", "qwen3-tiny-demo", *words, "--", "--device", "cpu"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as owner:
        assert any(line.startswith("loading") for line in owner.stderr)
        (server,) = [server for server in servers() if server.name not in known]
        assert len(group_of(server.pid)) >= 2
        assert (server.command.count("--device"), server.model) == (1, "owned")
        owner.kill()
    assert until(lambda: not group_of(server.pid))
    assert until(lambda: server.name not in {each.name for each in servers()})


def test_after_sigkill_of_the_launcher_nothing_is_left(served):
    """The last test that uses this server."""
    server = served["embed"]
    pid = server.pid
    below = psutil.Process(pid).children(recursive=True)
    assert len(below) >= 2
    os.kill(pid, signal.SIGKILL)
    assert until(lambda: not group_of(pid) and not any(each.is_running() for each in below))
    assert until(lambda: server.state == "stopped")


def test_a_server_whose_scheduler_was_killed_is_ended_with_its_exit_code(served):
    """SGLang 0.5.9 itself does not notice it. The last test that uses this server."""
    server = served["rerank"]
    pid = server.pid
    below = psutil.Process(pid).children(recursive=True)
    (scheduler,) = [each for each in below if "scheduler" in " ".join(each.cmdline())]
    scheduler.suspend()
    assert until(lambda: server.state == "not answering")
    os.kill(scheduler.pid, signal.SIGKILL)
    assert until(lambda: server.state == "stopped")
    assert server.exit_code == 128 + signal.SIGKILL
    assert any("(sglang::schedul) ended with signal 9" in line for line in server.logs(50))
    assert until(lambda: not group_of(pid) and not any(each.is_running() for each in below))
