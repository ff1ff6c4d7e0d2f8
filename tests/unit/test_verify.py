"""What `verify` says where no server is needed: prompts' forms and their matching, reports, the command's errors and exit codes."""

from __future__ import annotations

import io
import json
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from qwen3_integrations import serving
from qwen3_integrations.cli import app
from qwen3_integrations.cli.verify import show_report
from qwen3_integrations.core.planning import rerank_prompts
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.tokenizer_files import read_tokenizer
from qwen3_integrations.verification import Check, Report, verify
from qwen3_integrations.verification.published import COSINES, PROBABILITIES
from qwen3_integrations.verification.reading import ENCLOSED, counts_finding
from qwen3_integrations.verification.templates import FORMS, nearest
from tests.models import TINY
from tests.server.faults import FaultsProxy, status
from tests.server.launch import free_port

REPORT = Report(
    "http://gpu:8000",
    "rerank",
    "Qwen/Qwen3-Reranker-0.6B",
    "vllm",
    (
        Check("reachable", "passed", "serves <it>"),
        Check("/score", "failed", "no chat template: /score concatenates query and document", "serve it with a template"),
        Check("/rerank", "failed", "no template", "serve it with a template"),
        Check("published", "skipped", "no numbers"),
    ),
)


def test_a_report_is_right_unless_a_check_failed():
    warned = Report(
        "http://gpu:8000", "embed", "model", "vllm", (Check("dimensions", "warned", "refused"), Check("order", "passed", "fine"))
    )
    assert warned.ok
    assert warned.summary == "right: 1 warned, 1 passed"
    assert not REPORT.ok
    assert REPORT.summary == "wrong: 2 failed, 1 passed, 1 skipped"


def test_a_report_as_data_and_as_text():
    assert REPORT.to_dicts()[1] == {
        "name": "/score",
        "state": "failed",
        "detail": "no chat template: /score concatenates query and document",
        "fix": "serve it with a template",
    }
    assert REPORT["published"].detail == "no numbers"
    with pytest.raises(KeyError, match="the checks are: reachable, /score"):
        REPORT["order"]
    assert str(REPORT).splitlines() == [
        "http://gpu:8000: Qwen/Qwen3-Reranker-0.6B for rerank, dialect vllm",
        "passed   reachable  serves <it>",
        "failed   /score     no chat template: /score concatenates query and document",
        "failed   /rerank    no template",
        "skipped  published  no numbers",
        "fix for /score, /rerank: serve it with a template",
        "wrong: 2 failed, 1 passed, 1 skipped",
    ]
    shown = REPORT._repr_html_()
    assert "serves &lt;it&gt;" in shown
    assert shown.count("<tr>") == 5


def test_a_terminal_gets_a_table_and_fixes_that_can_be_copied():
    out = Console(width=60, force_terminal=True, no_color=True, record=True, file=io.StringIO())
    show_report(REPORT, out)
    lines = out.export_text().splitlines()
    assert [line.split()[0] for line in lines[2:6]] == ["passed", "failed", "query", "failed"]
    assert "fix for /score, /rerank: serve it with a template" in lines


def test_the_right_form_is_the_prompt_that_clients_send():
    pairs = [("a query", "a document"), ("", "\n"), ("询问", "文件")]
    for (query, document), prompt in zip(pairs, rerank_prompts(pairs, "Find code.", "\n", None, 100), strict=True):
        assert FORMS["right"](query, document, "Find code.") == prompt.text
        assert FORMS["newline lost"](query, document, "Find code.") == prompt.text[:-1]
        assert FORMS["no thinking block"](query, document, "Find code.") + "<think>\n\n</think>\n\n" == prompt.text
        assert FORMS["two newlines"](query, document, "Find code.").count("\n\n") == prompt.text.count("\n\n") + 2
        assert FORMS["bare"](query, document, "Find code.") == query + document


KNOWN = {
    "right": np.asarray([0.9, 0.1, 0.5], dtype=np.float32),
    "newline lost": np.asarray([0.91, 0.1, 0.48], dtype=np.float32),
    "bare": np.asarray([0.5, 0.9, 0.4], dtype=np.float32),
}


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize(("off", "noise"), [(0.0, 0.0), (0.0005, 0.0), (0.003, 0.002)])
def test_scores_are_matched_with_the_form_they_come_from(name, off, noise):
    observed = KNOWN[name] + np.asarray([off, -off, off], dtype=np.float32)
    match = nearest(observed, KNOWN, noise)
    assert (match.name, match.clear) == (name, True)
    assert match.distance == pytest.approx(off, abs=1e-6)


def test_scores_of_no_known_form_match_none():
    observed = KNOWN["right"] + np.float32(0.005)
    assert nearest(observed, KNOWN, noise=0.0).name is None
    assert nearest(observed, KNOWN, noise=0.002).name == "right"  # a server that is itself as far off


def test_forms_that_score_alike_are_not_told_apart():
    alike = {"right": KNOWN["right"], "newline lost": KNOWN["right"] + np.float32(1e-5)}
    assert not nearest(alike["right"], alike, noise=0.0).clear
    assert not nearest(alike["newline lost"], alike, noise=0.0).clear
    noisy = {name: KNOWN[name] for name in ("right", "newline lost")}
    assert not nearest(KNOWN["newline lost"], noisy, noise=0.01).clear


def test_the_published_numbers_are_those_of_their_sources():
    differences = np.asarray([-3.1093, 7.1204, -0.3788, 3.5416])
    assert np.abs(1 / (1 + np.exp(-differences)) - PROBABILITIES).max() < 1e-4
    through_vllm = np.asarray([[0.7620, 0.1408], [0.1358, 0.6014]])
    assert np.abs(through_vllm - COSINES).max() < 0.003


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"base_url": "gpu:8000"}, "base_url must be an http or https address"),
        ({"task": "score"}, "task must be one of embed, rerank, not 'score'"),
        ({"task": "embed", "model": "Qwen/Qwen3-Reranker-0.6B"}, "is a reranker, but an embedding model is needed"),
        ({"time_out_s": 3}, "time_out_s is not an option of verify, did you mean 'timeout_s'"),
        ({"client": object()}, "client is not an option of verify"),
    ],
)
def test_what_can_not_be_asked_is_an_error(words, says):
    with pytest.raises(ConfigError, match=says):
        verify(**{"base_url": f"http://127.0.0.1:{free_port()}", **words})


@pytest.mark.parametrize(
    ("task", "off", "state", "says"),
    [
        ("embed", (0, 0, 0, 0), "passed", "the server reads as many tokens as this machine's tokenizer counts"),
        ("embed", (3, 3, 3, 3), "failed", "3 tokens more than each text has: it adds something to texts"),
        ("rerank", (1, 1, 1, 1), "failed", "1 token more than each prompt has: it adds something to prompts"),
        ("embed", (-1, -1, -1, -1), "failed", "1 token less than each text has: the end token <|endoftext|> is missing"),
        ("rerank", (-1, -1, -1, -1), "failed", "1 token less than each prompt has: it omits something"),
        (
            "embed",
            (3, 0, 2, 3),
            "warned",
            "counts differently, so it is not known what it reads: 23, 10, 42, 43 where the model has 20, 10, 40",
        ),
    ],
)
def test_servers_of_which_only_counts_are_known(task, off, state, says):
    expected = [20, 10, 40, 40]
    finding = counts_finding(task, [own + more for own, more in zip(expected, off, strict=True)], expected)
    assert finding.state == state
    assert says in finding.detail
    assert bool(finding.fix) == (state == "failed")


@pytest.mark.parametrize(("before", "after"), [("passage: ", ""), ("", "\n"), ("query:", " ."), ("Instruct: sort\nQuery: ", "\n\n")])
def test_what_is_put_around_texts_adds_the_same_to_each(before, after):
    tokenizer = read_tokenizer(TINY / "embedding")
    plain, around = tokenizer.encode(ENCLOSED), tokenizer.encode([before + text + after for text in ENCLOSED])
    assert len({len(ids) for ids in plain}) > 1
    (added,) = {len(more) - len(ids) for ids, more in zip(plain, around, strict=True)}
    assert added > 0


def run(*words, **settings):
    return CliRunner().invoke(app, ["verify", *words], **settings)


def test_a_server_that_is_not_there():
    url = f"http://user:secret@127.0.0.1:{free_port()}"
    result = run(url, "--json", "--task", "rerank")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert (told["ok"], told["task"], told["model"]) == (False, "rerank", None)
    assert told["checks"][0]["state"] == "failed"
    assert "can't be reached" in told["checks"][0]["detail"]
    assert {check["state"] for check in told["checks"][1:]} == {"skipped"}
    assert "/score" in {check["name"] for check in told["checks"]}
    shown = run(url, env={"QWEN3_API_KEY": ""})
    assert shown.exit_code == 1
    assert "failed   reachable" in shown.stdout
    assert "/score" not in shown.stdout  # which task it has is not known
    assert "secret" not in result.output + shown.output


def test_wrong_use_is_told_from_a_wrong_server():
    result = run("gpu:8000")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "error: base_url must be" in result.stderr
    assert run("http://127.0.0.1:1", "--task", "sort").exit_code == 2
    both = run("http://user:secret@127.0.0.1:1", "--api-key", "sk-secret")
    assert "secret" not in both.output


def test_the_command_explains_itself():
    result = run("--help")
    assert result.exit_code == 0
    for word in ("--task", "--model", "--api-key", "QWEN3_API_KEY", "--tokenizer", "--json", "warnings do not count"):
        assert word in result.stdout


@contextmanager
def keyed(key):
    """A server that runs here and wants a key: (its record in the list of servers, the keys it was asked with)."""
    with FaultsProxy() as proxy:
        proxy.everywhere = status(401, {"error": "Unauthorized"})
        yield SimpleNamespace(name="embed-here", url=proxy.url, api_key=key, model_folder=None), proxy


@pytest.mark.parametrize("named", ["name", "address", "versioned", "slash"])
def test_the_known_key_of_a_server_of_this_machine_goes_before_the_environment_s(monkeypatch, named):
    with keyed("sk-known") as (server, proxy):
        monkeypatch.setattr(serving, "servers", lambda: (server,))
        monkeypatch.setenv("QWEN3_API_KEY", "sk-of-another")
        url = {"name": server.name, "address": server.url, "versioned": f"{server.url}/v1", "slash": f"{server.url}/"}[named]
        run(url)
        assert {seen.headers.get("authorization") for seen in proxy.seen} == {"Bearer sk-known"}
        proxy.seen.clear()
        run(url, "--api-key", "sk-given")
        assert {seen.headers.get("authorization") for seen in proxy.seen} == {"Bearer sk-given"}


def test_a_server_elsewhere_gets_the_environment_s_key_whatever_is_wrong_with_the_servers_here(monkeypatch):
    def broken():
        raise ConfigError("/state can't be written: name another in QWEN3_SERVERS_DIR")

    with keyed(None) as (server, proxy):
        monkeypatch.setattr(serving, "servers", broken)
        monkeypatch.setenv("QWEN3_API_KEY", "sk-of-the-environment")
        assert run(server.url).exit_code == 1
        assert {seen.headers.get("authorization") for seen in proxy.seen} == {"Bearer sk-of-the-environment"}
        by_name = run("embed-here")
        assert by_name.exit_code == 2
        assert "QWEN3_SERVERS_DIR" in by_name.stderr
