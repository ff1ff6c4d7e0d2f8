"""`verify` against real servers: right servers, three wrong ones, and Infinity."""

from __future__ import annotations

import json
import re
from contextlib import ExitStack

import pytest
from typer.testing import CliRunner

from qwen3_integrations.cli import app
from qwen3_integrations.serving.argv import TEMPLATE
from qwen3_integrations.verification import verify
from tests.server.faults import FaultsProxy, status
from tests.server.fixtures import ALIAS, NAME, PUBLISHED
from tests.server.launch import running, vllm_command
from tests.server.test_http_equality import LOSING_THE_LAST_NEWLINE

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module", params=["right", "vllm's own"])
def templated(request, tiny_reranker, tmp_path_factory):
    """The reranker with a template: (server, template); only one of the two templates is served at a time."""
    folder = tmp_path_factory.mktemp("verified")
    path = TEMPLATE
    if request.param == "vllm's own":
        path = folder / "template.jinja"
        path.write_text(LOSING_THE_LAST_NEWLINE)
    with running(vllm_command(tiny_reranker, (NAME,), "rerank", "--chat-template", str(path)), folder / "log") as server:
        yield server, request.param


@pytest.fixture(scope="module")
def matryoshka(tiny_embedder, tmp_path_factory):
    """The embedder on a server that can shorten vectors."""
    command = vllm_command(tiny_embedder, (NAME,), "embed", "--hf-overrides", json.dumps({"is_matryoshka": True}))
    with running(command, tmp_path_factory.mktemp("verified") / "log") as server:
        yield server


@pytest.fixture
def before():
    """server -> a proxy in front of it."""
    with ExitStack() as stack:
        yield lambda server: stack.enter_context(FaultsProxy(server.port))


def resend(call, body):
    """Send another body to the server."""
    call.handler._sent = json.dumps(body).encode()
    call.answer(*call.upstream())


def states(report):
    return {check.name: check.state for check in report.checks}


def ended(report, state):
    return [check.name for check in report.checks if check.state == state]


def test_a_right_embedder(matryoshka):
    names = []
    report = verify(matryoshka.url, on_check=names.append)
    assert report.ok, report
    assert (report.task, report.model, report.dialect) == ("embed", NAME, "vllm")
    assert ended(report, "skipped") == ["published"]
    assert set(states(report).values()) == {"passed", "skipped"}, report
    assert names == [check.name for check in report.checks]
    assert "1024 tokens" in report["reachable"].detail
    assert "vectors of 80 dimensions are the full vectors, cut and normalised again" in report["dimensions"].detail
    assert "cut to 1024 tokens on this machine and accepted; an uncut text is refused" in report["long input"].detail
    assert "sent as token ids" in report["control tokens"].detail


def test_without_a_tokenizer_the_server_s_counts_are_used(tiny_servers):
    report = verify(tiny_servers["embed"].url, model=ALIAS)
    assert report.ok, report
    assert "its own /tokenize" in report["tokens"].detail
    assert "sent with a blank inside" in report["control tokens"].detail
    assert report["dimensions"].state == "warned"
    assert "is_matryoshka" in report["dimensions"].fix


def test_rerankers_with_a_template(templated):
    server, template = templated
    report = verify(server.url)
    assert (report.task, report.model, report.dialect) == ("rerank", NAME, "vllm")
    wrong = {name: check for name in ("/score", "/rerank") if (check := report[name]).state != "passed"}
    others = {name: state for name, state in states(report).items() if not name.startswith("/")}
    assert {name for name, state in others.items() if state != "passed"} == {"published"}, report
    if template == "right":
        assert report.ok
        assert not wrong
        assert report["/score"].detail.startswith("right template: ")
        assert report["/score"].detail.endswith("with the instruction in the request")
        assert report["/score injection"].state == "passed"
    else:
        assert not report.ok
        for check in wrong.values():
            assert check.state == "failed"
            assert check.detail.startswith("vLLM's own template, which lacks the last newline")
            assert "qwen3-integrations serve rerank" in check.fix
        assert len(wrong) == 2
        assert report["/score injection"].state == "warned"


def test_a_reranker_without_a_template(tiny_servers):
    report = verify(tiny_servers["rerank"].url, model=ALIAS)
    assert ended(report, "failed") == ["/score", "/rerank"], report
    assert report["/score"].detail.startswith("no chat template: /score concatenates query and document")
    assert report["/rerank"].detail.startswith("no chat template: /rerank concatenates query and document")
    assert report["handshake"].state == "passed"  # /classify, which this package's clients use, is right


@pytest.mark.parametrize(
    ("task", "says"),
    [("embed", r"160 dimensions, .* has 1024: it serves another model"), ("rerank", r"reads 94 tokens where .* has 91")],
)
def test_wrong_models_under_published_names(tiny_servers, task, says):
    report = verify(tiny_servers[task].url, model=PUBLISHED[task], source="local")
    assert report.task == task
    assert re.search(says, report["handshake"].detail)
    assert report["handshake"].state == "failed"
    assert report["published"].state == "failed"
    assert "another model" in report["published"].detail
    assert "--hf-overrides" not in report["handshake"].detail  # that is in the fix


def test_the_other_task(tiny_servers):
    report = verify(tiny_servers["embed"].url, "rerank", ALIAS)
    assert ended(report, "failed") == ["handshake"]
    assert "the server runs an embedding model" in report["handshake"].detail
    assert ended(report, "passed") == ["reachable"]


def test_another_name(tiny_servers):
    report = verify(tiny_servers["embed"].url, model="other/model")
    assert f"does not serve 'other/model'; it serves '{NAME}'" in report["reachable"].detail
    assert set(states(report).values()) == {"failed", "skipped"}


def test_an_infinity_server(infinity):
    report = verify(infinity.url)
    assert report.ok, report
    assert (report.task, report.dialect) == ("embed", "openai")
    assert report["order"].state == report["concurrency"].state == report["relevance"].state == "passed"
    assert "not normalised again" in report["dimensions"].detail
    assert ended(report, "skipped") == ["published", "long input"]
    assert report["tokens"].detail.startswith("the server counts differently")


def test_a_template_that_ignores_the_instruction(templated, before):
    server, template = templated
    proxy = before(server)

    def without_instruction(call):
        if isinstance(call.seen.body, dict) and "instruction" in call.seen.body:
            resend(call, {name: value for name, value in call.seen.body.items() if name != "instruction"})
        else:
            call.answer(*call.upstream())

    proxy.everywhere = without_instruction
    report = verify(proxy.url)
    if template == "right":
        assert report.ok
        assert report["/score"].state == report["/rerank"].state == "warned"
        assert "/score ignores the instruction in the request" in report["/score"].detail
    else:
        assert report["/score"].state == "failed"
    proxy.everywhere = lambda call: (
        status(404, {"detail": "Not Found"})(call) if call.seen.path == "/score" else call.answer(*call.upstream())
    )
    report = verify(proxy.url)
    assert (report["/score"].state, report["/score"].detail) == ("skipped", "the server has no /score")
    assert report["/score injection"].state == "skipped"
    assert report["/rerank"].state == ("passed" if template == "right" else "failed")


def test_the_command(tiny_servers):
    right = CliRunner().invoke(app, ["verify", tiny_servers["embed"].url, "--model", NAME, "--json"])
    assert right.exit_code == 0, right.output
    printed = json.loads(right.stdout)
    assert (printed["ok"], printed["task"], printed["dialect"], printed["model"]) == (True, "embed", "vllm", NAME)
    assert {tuple(check) for check in printed["checks"]} == {("name", "state", "detail", "fix")}
    wrong = CliRunner().invoke(app, ["verify", tiny_servers["rerank"].url, "--model", NAME, "--task", "rerank"])
    assert wrong.exit_code == 1
    assert "failed   /score            no chat template" in wrong.stdout
    assert "\x1b" not in wrong.stdout
    assert wrong.stdout.splitlines()[-1].startswith("wrong: 2 failed, 1 warned")
