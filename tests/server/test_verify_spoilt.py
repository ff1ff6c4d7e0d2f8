"""`verify` against real servers with changed answers: it reports the fault, and nothing else."""

from __future__ import annotations

import base64
import itertools
import json
import re

import numpy as np
import pytest
from typer.testing import CliRunner

from qwen3_integrations.cli import app
from qwen3_integrations.verification import verify
from qwen3_integrations.verification.answers import TEXTS
from qwen3_integrations.verification.published import COSINES, DOCUMENTS, PLANETS, PROBABILITIES, QUERIES
from tests.reference import embedding_ids, text_ids
from tests.server.faults import status
from tests.server.fixtures import ALIAS, NAME, PUBLISHED
from tests.server.test_verify import ended, resend, states

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(1200)]


def spoilt(edit):
    """Changes answers in place, but not refusals."""

    def answer(call):
        code, body = call.upstream()
        content = json.loads(body)
        if code == 200:
            edit(content)
        call.answer(code, json.dumps(content).encode())

    return answer


def rotated(answer):
    """The right answers, each given to another prompt of the request."""
    items = answer["data"]
    for item in items:
        item["index"] = (item["index"] + 1) % len(items)


def test_answers_in_another_order(faulty):
    for task in ("embed", "rerank"):
        proxy = faulty(task)
        proxy.always = spoilt(rotated)
        report = verify(proxy.url, model=ALIAS)
        assert report["order"].state == "failed"
        assert "text 0 has the answer of text 31" in report["order"].detail
        assert report["concurrency"].state == report["determinism"].state == "passed", report


def test_answers_with_similar_scores_in_another_order(faulty):
    """The scores of three in four texts differ by less than 0.014. Their answers are exchanged in every request of many texts."""
    proxy = faulty("rerank")

    def partly_rotated(answer):
        items = answer["data"]
        alike = sorted(items, key=lambda item: item["probs"][-1])[: len(items) * 3 // 4]
        if len(items) == len(TEXTS):
            for item, index in zip(alike, [item["index"] for item in (*alike[1:], alike[0])], strict=True):
                item["index"] = index

    right = verify(proxy.url, model=ALIAS)
    assert right["order"].state == right["concurrency"].state == "passed", right
    assert re.search(r"; (2\d|3\d) of the 32 texts have answers that differ from most others", right["order"].detail)
    proxy.always = spoilt(partly_rotated)
    report = verify(proxy.url, model=ALIAS)
    assert report["order"].state == "failed", report
    assert "has the answer of text" in report["order"].detail
    assert report["concurrency"].state == report["determinism"].state == "passed", report


def test_an_answer_that_two_requests_get(faulty):
    """Of several concurrent requests, one gets the answer to the request before it."""
    proxy = faulty("rerank")
    before, in_flight = [], []

    def shared(call):
        in_flight.append(call)
        code, body = call.upstream()
        several = len(in_flight) > 1
        in_flight.remove(call)  # before the answer, so that a next request is alone
        call.answer(code, before[-1] if several else body)
        if len(call.seen.body["input"]) == 1:
            before.append(body)

    proxy.always = shared
    report = verify(proxy.url, model=ALIAS)
    assert report["order"].state == "passed", report
    assert report["concurrency"].state == "failed", report
    assert "has the answer of text" in report["concurrency"].detail


@pytest.mark.parametrize("spoil", ["rough", "noisy"])
def test_an_order_that_can_not_be_checked_is_a_warning(faulty, spoil):
    draw = np.random.default_rng(0)

    def change(answer):
        for item in answer["data"]:
            score = item["probs"][-1]
            item["probs"] = [round(score, 1) if spoil == "rough" else float(np.clip(score + draw.uniform(-0.005, 0.005), 0, 1))]

    proxy = faulty("rerank")
    proxy.always = spoilt(change)
    report = verify(proxy.url, model=ALIAS)
    for name in ("order", "concurrency"):
        assert report[name].state == "warned", report
        assert re.search(r"it can't be checked whether .*: only \d+ of the 32 texts", report[name].detail)


def test_answers_that_differ_each_time(faulty):
    draw = np.random.default_rng(0)

    def shaken(answer):
        for item in answer["data"]:
            vector = np.frombuffer(base64.b64decode(item["embedding"]), "<f4")
            item["embedding"] = (vector + 0.02 * draw.standard_normal(len(vector))).tolist()

    proxy = faulty("embed")
    proxy.always = spoilt(shaken)
    report = verify(proxy.url, model=ALIAS)
    assert report["determinism"].state == "failed"
    assert "rounding can explain at most 0.001" in report["determinism"].detail


def counted(change):
    return spoilt(lambda answer: answer["usage"].update(prompt_tokens=change(answer["usage"]["prompt_tokens"])))


def test_counts_that_are_not_the_model_s(faulty):
    proxy = faulty("embed")
    proxy.always = counted(lambda tokens: tokens - 1)
    report = verify(proxy.url, model=NAME)
    assert ended(report, "failed") == ["handshake", "tokens", "control tokens", "long input"], report
    assert "does not append the end token" in report["handshake"].detail
    assert "reads 13 tokens where this machine's tokenizer counts 14" in report["tokens"].detail


@pytest.mark.parametrize(
    ("change", "state", "says"),
    [
        (lambda texts: [f"passage: {text}" for text in texts], "failed", "4 tokens more than each text has: it adds something to texts"),
        (lambda texts: [text + "\n" for text in texts], "failed", "1 token more than each text has"),
        (lambda texts: [text * 2 for text in texts], "warned", "the server counts differently"),
        (lambda texts: texts, "passed", "the server reads as many tokens"),
    ],
    ids=["prefix", "suffix", "varying", "right"],
)
def test_an_openai_like_server_that_adds_something_to_texts(faulty, change, state, says):
    proxy = faulty("embed")

    def answer(call):
        if call.seen.path == "/v1/embeddings":
            resend(call, call.seen.body | {"input": change(call.seen.body["input"])})
        elif call.seen.path == "/v1/models":
            spoilt(lambda answer: [entry.update(owned_by="someone") for entry in answer["data"]])(call)
        else:
            status(404, {"detail": "Not Found"})(call)

    proxy.everywhere = answer
    report = verify(proxy.url, model=NAME)
    assert report.dialect == "openai"
    assert (report["tokens"].state, says in report["tokens"].detail) == (state, True), report


def test_a_gateway_with_only_the_common_routes(faulty):
    proxy = faulty("embed")
    gone = status(404, {"detail": "Not Found"})
    proxy.everywhere = lambda call: call.answer(*call.upstream()) if call.seen.path.startswith("/v1/") else gone(call)
    report = verify(proxy.url, model=NAME)
    assert report.ok, report
    assert (report["tokens"].state, report["tokens"].detail) == (
        "passed",
        "the server reads as many tokens as this machine's tokenizer counts",
    )
    report = verify(proxy.url, model=ALIAS)
    assert report["tokens"].state == "skipped"
    assert "--tokenizer" in report["tokens"].fix


def test_another_tokenizer(tiny_servers, tiny_embedder, tmp_path):
    spec = json.loads((tiny_embedder / "tokenizer.json").read_text())
    spec["model"]["merges"] = spec["model"]["merges"][:2000]
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    report = verify(tiny_servers["embed"].url, model=ALIAS, tokenizer=tmp_path)
    assert report["tokens"].state == "failed"
    assert "as other tokens than this machine's tokenizer" in report["tokens"].detail


@pytest.mark.parametrize(
    ("cut", "state", "says"),
    [
        (embedding_ids, "passed", "cut by the server in the same way"),
        (lambda folder, text, limit: text_ids(folder, text)[:limit], "warned", "in another way, probably without the end token"),
    ],
    ids=["end token kept", "end token missing"],
)
def test_a_server_that_cuts_texts_that_are_too_long(faulty, tiny_embedder, cut, state, says):
    proxy = faulty("embed")

    def cutting(call):
        first = call.seen.body["input"][0]
        if isinstance(first, str) and len(embedding_ids(tiny_embedder, first)) > 1024:
            resend(call, call.seen.body | {"input": [cut(tiny_embedder, first, 1024)]})
        else:
            call.answer(*call.upstream())

    proxy.always = cutting
    report = verify(proxy.url, model=NAME)
    assert report.ok
    assert report["long input"].state == state
    assert says in report["long input"].detail


@pytest.mark.parametrize(("answers", "says"), [(5, "can't be reached|closed the connection"), (40, "closed the connection")])
def test_a_server_that_dies(faulty, answers, says):
    proxy = faulty("embed")
    left = itertools.count(answers, -1)
    proxy.always = lambda call: call.answer(*call.upstream()) if next(left) > 0 else call.reset()
    report = verify(proxy.url, "embed", ALIAS, max_retries=0)
    (failed,) = ended(report, "failed")
    assert re.search(says, report[failed].detail)
    after = list(states(report).values())[list(states(report)).index(failed) + 1 :]
    assert set(after) == {"skipped"}
    assert report["long input"].detail == f"not checked, because {failed} failed"


def test_a_server_that_hangs(faulty):
    proxy = faulty("embed")
    proxy.always = proxy.hold
    report = verify(proxy.url, "embed", ALIAS, max_retries=0, timeout_s=0.5)
    assert ended(report, "failed") == ["handshake"]
    assert "did not answer in time" in report["handshake"].detail


def published_embedder(off):
    """The tiny embedder as wide as the published one, and for the published texts with the published cosines."""
    rows = np.zeros((4, 1024))
    rows[0, 0] = rows[1, 1] = 1
    for number, cosines in enumerate(np.asarray(COSINES) + off):
        rows[2 + number, :2] = cosines
        rows[2 + number, 2 + number] = np.sqrt(1 - (cosines**2).sum())
    texts = dict(zip((*DOCUMENTS, *QUERIES), rows, strict=True))

    def answer(call):
        def replace(content):
            for item, text in zip(content["data"], call.seen.body["input"], strict=True):
                own = np.frombuffer(base64.b64decode(item["embedding"]), "<f4")
                known = texts.get(str(text).rpartition("Query:")[2])
                item["embedding"] = (np.pad(own, (0, 1024 - len(own))) if known is None else known).tolist()

        spoilt(replace)(call)

    return answer


@pytest.mark.parametrize(("off", "state"), [(0, "passed"), (-0.0026, "passed"), (0.02, "failed")])
def test_the_published_cosines(faulty, off, state):
    """`-0.0026` is the difference of the matrix that was published for vLLM."""
    proxy = faulty("embed")
    proxy.always = published_embedder(off)
    report = verify(proxy.url, model=PUBLISHED["embed"], source="local")
    assert report["handshake"].state == "passed", report
    assert report["published"].state == state
    assert "published are 0.7646, 0.1414, 0.1355, 0.6000" in report["published"].detail


@pytest.mark.parametrize(("off", "state"), [(0, "passed"), (0.025, "passed"), (0.1, "failed")])
def test_the_published_probabilities(faulty, off, state):
    proxy = faulty("rerank")

    def answer(call):
        def replace(content):
            for item, prompt in zip(content["data"], call.seen.body["input"], strict=True):
                for planet, probability in zip(PLANETS, PROBABILITIES, strict=True):
                    if f"<Document>: {planet}<|im_end|>" in str(prompt):
                        item["probs"] = [abs(probability - off)]

        spoilt(replace)(call)

    proxy.always = answer
    report = verify(proxy.url, model=PUBLISHED["rerank"], source="local")
    assert report["published"].state == state
    assert "published are 0.0427, 0.9992, 0.4064, 0.9719" in report["published"].detail


def test_a_published_name_without_published_numbers(faulty):
    proxy = faulty("rerank")
    name = "Qwen/Qwen3-Reranker-4B"
    renamed = spoilt(lambda answer: answer["data"][0].update(id=name))

    def answer(call):
        if call.seen.path == "/v1/models":
            renamed(call)
        elif call.seen.body is None:
            call.answer(*call.upstream())
        else:
            resend(call, call.seen.body | {"model": NAME})

    proxy.everywhere = answer
    report = verify(proxy.url, source="local")
    assert (report.task, report.model) == ("rerank", name)
    assert (report["published"].state, report["published"].detail) == ("skipped", f"no numbers were published for {name}")


def test_neither_task(faulty):
    proxy = faulty("embed")
    gone = status(404, {"detail": "Not Found"})
    proxy.everywhere = lambda call: call.answer(*call.upstream()) if call.seen.path == "/v1/models" else gone(call)
    report = verify(proxy.url)
    assert "neither embeds nor reranks" in report["reachable"].detail
    assert "--runner pooling" in report["reachable"].detail


def test_a_key_is_sent_and_never_shown(faulty, monkeypatch):
    proxy = faulty("embed")
    monkeypatch.setenv("QWEN3_API_KEY", "sk-from-the-environment")
    report = verify(proxy.url, model=NAME)
    assert {seen.headers.get("authorization") for seen in proxy.seen} == {"Bearer sk-from-the-environment"}
    assert "sk-" not in str(report) + json.dumps(report.to_dicts()) + report._repr_html_()
    proxy.everywhere = status(401, {"error": "Unauthorized"})
    result = CliRunner().invoke(app, ["verify", proxy.url, "--api-key", "sk-wrong"])
    assert result.exit_code == 1
    assert "The key is wrong" in result.stdout
    assert "sk-" not in result.output
