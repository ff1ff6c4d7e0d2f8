"""Texts of a server on a terminal, in HTML and in reports: no control character of a server has an effect there."""

from __future__ import annotations

import json
import logging
from io import StringIO
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from qwen3_integrations import Embedder
from qwen3_integrations.cli import app
from qwen3_integrations.cli.output import print_json
from qwen3_integrations.cli.verify import show_report
from qwen3_integrations.diagnosis.finding import Finding
from qwen3_integrations.diagnosis.settings import url_finding
from qwen3_integrations.engines.http.engine import HttpEngine
from qwen3_integrations.errors import ConfigError, InputError, Qwen3Error
from qwen3_integrations.serving.log import LogReader, first_error, tail_of
from qwen3_integrations.serving.start_result import Failed
from qwen3_integrations.verification import verify
from qwen3_integrations.verification.report import Check, Report
from tests.unit.gateways import ABSENT, TEXTS, Gateway, models, vectors

WRONG = "\x1b]0;title\x07\x1b[31m\rred\x08\x00\x9b2J\u202eback\u2066\u2028end"


def harmless(text: str, lines: bool = True) -> bool:
    """Whether a terminal shows the text as it is."""
    return all(one.isprintable() or (lines and one == "\n") for one in text)


def broken(status: int, **more: Any) -> Any:
    """A server whose every text is hostile."""

    def reply(path: str, body: Any) -> tuple[int, Any]:
        if path.endswith("models"):
            return models("q", WRONG, root=WRONG, version=WRONG, parent=WRONG)
        if path == "/v1/embeddings":
            error = {"message": WRONG, "code": WRONG, "type": WRONG}
            return (
                (status, {"error": error, "detail": WRONG, "object": WRONG} | more) if status else vectors(body, model=WRONG, usage=WRONG)
            )
        return 404, {"detail": WRONG, "version": WRONG}

    return reply


@pytest.mark.parametrize("status", [0, 200, 400, 401, 402, 404, 413, 422, 429, 500, 503])
def test_errors_logs_and_reprs(status, caplog):
    caplog.set_level(logging.DEBUG, "qwen3_integrations")
    with Gateway(broken(status)) as gateway:
        engine = HttpEngine("embed", "q", base_url=gateway.url, max_retries=0)
        shown = []
        try:
            Embedder(engine).embed_documents(TEXTS)
        except Qwen3Error as error:
            shown += [str(error), repr(error), error.reason, error.advice or "", str(getattr(error, "words", ""))]
        shown += [repr(engine), str(engine.server), json.dumps(getattr(engine.server, "notes", ()), ensure_ascii=False)]
        engine.close()
    shown += [record.getMessage() for record in caplog.records if record.name.startswith("qwen3")]
    assert [text for text in shown if not harmless(text)] == []


@pytest.mark.parametrize("status", [0, 400, 404, 500])
def test_the_report_of_verify(status):
    with Gateway(broken(status)) as gateway:
        report = verify(gateway.url, "embed", "q", timeout_s=5)
        result = CliRunner().invoke(app, ["verify", gateway.url, "--task", "embed", "--model", "q", "--json"])
    terminal = Console(record=True, force_terminal=True, width=200, file=StringIO())
    show_report(report, terminal)
    for text in (str(report), report._repr_html_(), terminal.export_text(), result.stdout):
        assert harmless(text)
    assert len(str(report).splitlines()) == 2 + len(report.checks) + len(report.fixes) + (report.server is not None)


def test_a_check_and_a_report_with_any_text():
    report = Report(f"http://h/{WRONG}", "embed", WRONG, WRONG, (Check(WRONG, "failed", f"a\nb{WRONG}", f"c\n{WRONG}"),))
    assert harmless(str(report))
    assert harmless(report._repr_html_())
    assert harmless(json.dumps(report.to_dicts(), ensure_ascii=False))
    assert len(str(report).splitlines()) == 4


def test_json_of_the_commands(capsys):
    value = {"text": f"{WRONG} ä 😀 👩‍💻"}
    print_json(value)
    out = capsys.readouterr().out
    assert harmless(out)
    assert "ä 😀" in out
    assert json.loads(out) == value


@pytest.mark.parametrize("error", [ConfigError(WRONG, option=WRONG), InputError(WRONG, argument=WRONG), Qwen3Error(WRONG, advice=WRONG)])
def test_all_errors(error):
    assert harmless(str(error))
    assert harmless(repr(error))


def test_what_was_learned_elsewhere_may_have_any_text():
    with Gateway(lambda path, body: vectors(body) if path == "/v1/embeddings" else ABSENT) as gateway:
        engine = HttpEngine("embed", "q", base_url=gateway.url, dialect="openai", handshake="off")
        Embedder(engine).embed_documents(TEXTS)
        options = engine.server.options()
        engine.close()
        options["server"] |= {"url": f"{gateway.url}/{WRONG}", "model": WRONG, "notes": [WRONG], "others": [WRONG]}
        other = HttpEngine("embed", "q", base_url=gateway.url, **options)
        assert harmless(repr(other))
        assert harmless(str(other.server))
        other.close()


def test_the_names_that_a_server_lists_are_short_and_harmless_in_doctor():
    listed = {"data": [{"id": name} for name in ["good", WRONG, *(f"model-{number}" for number in range(10_000))]]}
    with Gateway(lambda path, body: (200, listed)) as gateway:
        finding = url_finding("QWEN3_EMBEDDING_URL", gateway.url, None)
    assert finding.state == "ok"
    assert "good" in finding.text
    assert len(finding.text) < 1000
    assert harmless(finding.text, lines=False)


@pytest.mark.parametrize(
    "content",
    [b"{", b"[1, 2]", b'{"data": 7}', b'{"data": {"id": "x"}}', b"7", b"[" * 100_000, b'{"data": [' + b'{"id": 1},' * 4_000_000 + b"1]}"],
    ids=["half", "numbers", "number", "object", "no list", "deep", "endless"],
)
def test_doctor_survives_any_list_of_models(content):
    with Gateway(lambda path, body: (200, content)) as gateway:
        finding = url_finding("QWEN3_EMBEDDING_URL", gateway.url, None)
    assert len(finding.text) < 1000


def test_a_fix_of_doctor_runs_no_command_of_a_server():
    def away(call: Any) -> None:
        call.answer(302, b"", {"Location": "http://other.example/$(touch${IFS}x)/v1/models"})

    with Gateway(lambda path, body: ABSENT) as gateway:
        gateway.everywhere = away
        finding = url_finding("QWEN3_EMBEDDING_URL", gateway.url, None)
    assert "$(" not in finding.fix or "'http://other.example/$(" in finding.fix


def test_a_finding_with_any_text():
    finding = Finding("servers", WRONG, "warning", f"a\nb{WRONG}", f"c\n{WRONG}")
    assert all(harmless(text, lines=False) for text in (finding.subject, finding.text, finding.fix))


def test_lines_of_a_log(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(f"\x1b[32mINFO\x1b[0m started\n\tindented\nERROR {WRONG.replace(chr(13), '')}\n".encode())
    for lines in (LogReader(path).lines(), tail_of(path, 10)):
        assert all(harmless(line, lines=False) for line in lines)
        assert lines[0] == "INFO started"
        assert lines[1].strip() == "indented"
        failed = Failed(1, first_error(lines) or "", tuple(lines), path)
        assert harmless(failed._repr_html_())


def test_progress_of_a_start_is_no_markup():
    """Rich reads square brackets as markup, and fails for `[/x]`."""
    from qwen3_integrations.cli.serve import _status_line
    from qwen3_integrations.serving.log import Progress

    console = Console(force_terminal=True, width=80, file=StringIO())
    with console.status("starting") as status:
        status.update(_status_line(Progress("loading", 1.0, "[/x] [red]text"), 80))
    assert _status_line(Progress("loading", 1.0, "[/x]"), 80).plain == "loading, 1 s: [/x]"
