"""A server that is killed, or not there yet: `--wait` ends the job as if nothing had happened, or says why it can't."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from qwen3_integrations import Embedder, Reranker, open_engine
from qwen3_integrations.bulk.run import embed_records
from qwen3_integrations.bulk.sinks import StandardOutput
from qwen3_integrations.bulk.sources import InputFormat, Lines
from qwen3_integrations.bulk.waiting import WaitingEngine
from qwen3_integrations.engines.fake import FakeEngine
from qwen3_integrations.errors import (
    AuthenticationFailed,
    BadReply,
    ConfigError,
    EngineError,
    ModelNotServed,
    RequestRefused,
    ServerFailed,
    ServerUnreachable,
)
from tests.http_server.conftest import EMBEDDER, KEY, RERANKER
from tests.http_server.processes import ServerProcess
from tests.waiting import until

BOTH = ("--embed", EMBEDDER, "--rerank", EMBEDDER, "--rerank-name", RERANKER)
TEXTS = [f"text number {number} of a list" for number in range(60)]
QUERY = "how to read a csv file"
NEAR = {"rtol": 0, "atol": 1e-5}

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def life(tmp_path_factory):
    """A server at one port, which tests kill and start."""
    server = ServerProcess(tmp_path_factory.mktemp("server"))
    yield server
    server.kill()


@pytest.fixture
def server(life):
    """The same, running with both models."""
    if not life.is_ready():
        life.start(*BOTH)
    return life


class Job:
    """Embeds lines, of which some stop the server; what the engine tells is in `said`."""

    def __init__(self, server: ServerProcess, comes_back=BOTH, wait_s: float = 60.0) -> None:
        self.server, self.comes_back, self.wait_s = server, comes_back, wait_s
        self.said: list[str] = []
        self.vectors: list[np.ndarray] = []

    def tell(self, text: str) -> None:
        self.said.append(text)
        if "waiting for the server" in text and self.comes_back:
            self.server.start(*self.comes_back, ready=False)

    def engine(self, task="embed", **options) -> WaitingEngine:
        name = EMBEDDER if task == "embed" else RERANKER
        opened = open_engine(task, name, base_url=self.server.url, max_retries=0, **options)
        return WaitingEngine(opened, self.wait_s, self.tell)

    def embed(self, stops=(), **options) -> np.ndarray:
        def lines():
            for number, text in enumerate(TEXTS):
                if number in stops:
                    assert until(lambda least=number - 40: sum(map(len, self.vectors)) >= least)
                    self.server.kill()
                yield f"{text}\n".encode()

        source, target = Lines(lines(), "in.txt", InputFormat.TEXT), StandardOutput()
        target.write = lambda records, vectors, mark: self.vectors.append(vectors)
        with self.engine(**options) as engine:
            embed_records(Embedder(engine), source, target.resume(source), target, chunk=4)
        return np.concatenate(self.vectors)


def test_a_server_that_is_killed_twice_answers_every_text_once(server, embedder):
    job = Job(server)
    np.testing.assert_allclose(job.embed(stops=(10, 50)), embedder.embed_documents(TEXTS), **NEAR)
    assert ["waiting" in line for line in job.said] == [True, False, True, False]
    assert job.said[0].endswith("waiting for the server, at most 1 min")
    assert server.url in job.said[0]
    assert job.said[1].startswith("the server answers again, after ")


def test_the_command_waits_from_its_start_and_after_a_kill(server, embedder, tmp_path):
    server.kill()
    out = tmp_path / "out.npy"
    command = [sys.executable, "-m", "qwen3_integrations.cli", "embed", "--output", str(out), "--chunk", "4", "--wait", "2m", "--quiet"]
    command += ["--model", EMBEDDER, "--base-url", server.url, "--option", "max_retries=0"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert "waiting for the server, at most 2 min" in process.stderr.readline()
        server.start(*BOTH)
        assert "answers again" in process.stderr.readline()
        state = out.with_name("out.npy.part.json")
        for text in TEXTS[:40]:
            process.stdin.write(f"{text}\n")
        process.stdin.flush()
        assert until(lambda: json.loads(state.read_bytes())["rows"] > 0)
        server.kill()
        process.stdin.write("".join(f"{text}\n" for text in TEXTS[40:]))
        process.stdin.close()
        assert "waiting" in process.stderr.readline()
        server.start(*BOTH)
        assert "answers again" in process.stderr.readline()
        assert process.stderr.read() == ""
    assert process.returncode == 0
    np.testing.assert_allclose(np.load(out), embedder.embed_documents(TEXTS), **NEAR)


def test_rerank_waits_too(server, reranker):
    job = Job(server)
    expected = reranker.rank(QUERY, TEXTS).to_dicts()
    with job.engine("rerank") as engine:
        remote = Reranker(engine)
        remote.rank(QUERY, TEXTS[:2])
        server.kill()
        ranking = remote.rank(QUERY, TEXTS)
    assert [hit["index"] for hit in ranking.to_dicts()] == [hit["index"] for hit in expected]
    assert len(job.said) == 2


def test_another_model_is_refused(server, random_embedder, random_reranker):
    names = ("--embed-name", EMBEDDER, "--rerank-name", RERANKER)
    job = Job(server, comes_back=("--embed", str(random_embedder), "--rerank", str(random_reranker), *names))
    with job.engine("rerank", handshake="off") as engine:
        remote = Reranker(engine)
        remote.rank(QUERY, TEXTS[:2])
        with pytest.raises(BadReply, match="it serves another model"):
            job.embed(stops=(50,), handshake="off")
        assert 10 <= sum(map(len, job.vectors)) < 60  # rows before the outage
        server.kill()
        with pytest.raises(ModelNotServed, match=r"another model answers at http.* \(loaded from was .*; a score of a fixed pair is 0\."):
            remote.rank(QUERY, TEXTS)
    assert ["waiting" in line for line in job.said] == [True, True]
    server.kill()


def test_a_server_that_never_comes_back_ends_the_job(server):
    job = Job(server, comes_back=None, wait_s=1.0)
    with pytest.raises(ServerUnreachable, match="no answer came for 1 s") as caught:
        job.embed(stops=(20,))
    assert caught.value.url.startswith(server.url)
    assert len(job.said) == 1  # once, whatever the number of jobs in flight


def test_what_is_not_transient_ends_at_once(server, url):
    job = Job(server)
    for address, name, key, kind in ((url, EMBEDDER, "wrong", AuthenticationFailed), (url, "no-such-model", KEY, ModelNotServed)):
        opened = open_engine("embed", name, base_url=address, api_key=key, max_retries=0)
        with WaitingEngine(opened, 60.0, job.tell) as engine, pytest.raises(kind):
            Embedder(engine).embed_documents(["one"])
    assert job.said == []
    with open_engine("embed", EMBEDDER, backend="torch") as engine, pytest.raises(ConfigError, match="runs in this process"):
        WaitingEngine(engine, 60.0)


class Failing(FakeEngine):
    """An engine of another package on a server, which fails with these errors, one after another."""

    backend = "elsewhere"

    def __init__(self, *errors: EngineError) -> None:
        super().__init__("embed")
        self.errors = list(errors)

    def run(self, job):
        if self.errors:
            raise self.errors.pop(0)
        return super().run(job)


def failed(kind=ServerFailed, status=503, **fields):
    return kind("failed", url="http://x", status=status, **fields)


def test_which_errors_wait():
    said: list[str] = []
    waits = [failed(status=status) for status in (502, 503, 504)] + [failed(ServerUnreachable, None)]
    engine = WaitingEngine(Failing(*waits), 60.0, said.append)
    assert len(Embedder(engine).embed_documents(["one"])) == 1
    assert len(said) == 8
    for error in (failed(status=500), failed(RequestRefused, 400), failed(index=0)):
        engine = WaitingEngine(Failing(error), 60.0, said.append)
        with pytest.raises(type(error)):
            Embedder(engine).embed_documents(["one"])
    assert len(said) == 8


def test_tasks_wait_together_and_a_cancelled_one_leaves():
    said: list[str] = []
    engine = WaitingEngine(Failing(*(failed() for _ in range(6))), 60.0, said.append)
    embedder = Embedder(engine)

    async def run():
        engine.fingerprint()
        tasks = [asyncio.create_task(embedder.aembed_documents([str(number)])) for number in range(6)]
        assert await asyncio.to_thread(until, lambda: said)
        tasks[0].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, *others = asyncio.run(run())
    assert isinstance(first, asyncio.CancelledError)
    assert np.array_equal(np.concatenate(others), Embedder(FakeEngine("embed")).embed_documents(list("12345")))


class Changing(Failing):
    """Comes back as another model."""

    def fingerprint(self):
        found = super().fingerprint()
        return found if self.errors else replace(found, identity={**found.identity, "weights": "others"})


def test_another_fingerprint_is_refused_for_all_jobs():
    said: list[str] = []
    engine = WaitingEngine(Changing(failed()), 60.0, said.append)
    with pytest.raises(ModelNotServed, match=r"weights was .* and is 'others'.*Start the server with the earlier model again"):
        Embedder(engine).embed_documents(["one"])
    assert len(said) == 1


def test_a_text_that_ends_the_server_each_time_ends_the_job():
    said: list[str] = []
    engine = WaitingEngine(Failing(*(failed() for _ in range(9))), 60.0, said.append)
    with pytest.raises(ServerFailed, match="the server came back 5 times, and failed at the same texts each time"):
        Embedder(engine).embed_documents(["one"])


@pytest.mark.parametrize("wait", ["soon", "-1", "1d", "", "1e3"])
def test_a_wrong_duration_is_one_line(wait):
    from typer.testing import CliRunner

    from qwen3_integrations.cli import app

    result = CliRunner().invoke(app, ["embed", "--backend", "fake", f"--wait={wait}"], input=b"x\n")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "error: --wait must be seconds, or a number with a unit such as 90s, 10m or 1h" in result.stderr
