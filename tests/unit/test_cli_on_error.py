"""`--on-error skip`: lines that can't be processed are left out and reported, and nothing else is computed twice."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from typer.testing import CliRunner

from qwen3_integrations import Embedder, Reranker
from qwen3_integrations.bulk.error_report import ErrorReport
from qwen3_integrations.bulk.formats import OutputFormat, make_format
from qwen3_integrations.bulk.part_file import PartFile
from qwen3_integrations.bulk.ranking import rank_records
from qwen3_integrations.bulk.run import embed_records
from qwen3_integrations.bulk.sources import open_lines
from qwen3_integrations.cli import app
from qwen3_integrations.engines.fake import FakeEngine
from qwen3_integrations.errors import EngineError, InputError, RequestRefused, ServerUnreachable

TEXTS = [f"text number {number} of a list" for number in range(40)]


class Refusing(FakeEngine):
    """A server that answers 400 for some texts, and stops at one."""

    def __init__(self, bad=(), task="embed", stop=None) -> None:
        super().__init__(task)
        self.bad, self.stop = set(bad), stop
        self.computed: Counter[str] = Counter()

    def run(self, job):
        texts = [prompt.body.text.rpartition(": ")[2].strip() for prompt in job.prompts]  # a reranker's body begins with <Document>
        if self.stop in texts:
            raise ServerUnreachable("the server is away", url="http://x")
        for index, text in enumerate(texts):
            if text in self.bad:
                raise RequestRefused("http://x answered 400", url="http://x", status=400, index=index)
        self.computed.update(texts)
        return super().run(job)


class Case:
    """A file of lines, and its output and report."""

    def __init__(self, folder, lines) -> None:
        self.path, self.out = folder / "in.jsonl", folder / "out.npy"
        self.report = folder / "out.npy.errors.jsonl"
        self.path.write_text("".join(f"{line}\n" for line in lines))

    def run(self, engine, *, skips=True, chunk=4, **options):
        report = ErrorReport(self.report, skips=skips)
        form = make_format(OutputFormat.NPY)
        with open_lines(str(self.path), report=report) as lines, PartFile(self.out, form, {}, report=report, **options) as target:
            return embed_records(Embedder(engine), lines, target.resume(lines), target, chunk=chunk, report=report)

    def entries(self) -> list[dict]:
        return [json.loads(line) for line in self.report.read_text().splitlines()] if self.report.exists() else []

    def check(self, bad) -> None:
        """The report has these lines, and the output the vectors of the others."""
        assert [entry["line"] for entry in self.entries()] == [at + 1 for at in sorted(bad)]
        good = [text for at, text in enumerate(TEXTS) if at not in bad]
        assert np.array_equal(np.load(self.out), Embedder(FakeEngine("embed")).embed_documents(good))
        assert not list(self.out.parent.glob("*.part*"))


@pytest.fixture
def case(tmp_path):
    return Case(tmp_path, [json.dumps({"id": f"doc-{number}", "text": text}) for number, text in enumerate(TEXTS)])


@pytest.mark.parametrize("bad", [{5}, {0}, {39}, {4, 5, 6, 7}, {1, 2, 17, 38}, set()])
@pytest.mark.parametrize("chunk", [4, 100])
def test_refused_texts_are_left_out_and_only_their_slice_runs_again(case, bad, chunk):
    engine = Refusing(TEXTS[at] for at in bad)
    summary = case.run(engine, chunk=chunk)
    assert (summary.rows, summary.skipped) == (len(TEXTS) - len(bad), len(bad))
    case.check(bad)
    assert set(engine.computed.values()) == {1}
    if bad:
        at = min(bad)
        expected = {"line": at + 1, "id": f"doc-{at}", "error": "RequestRefused", "cause": "http://x answered 400", "status": 400}
        assert case.entries()[0] == expected


def test_all_lines_bad(case):
    summary = case.run(Refusing(TEXTS))
    assert (summary.rows, summary.skipped, np.load(case.out).shape) == (0, 40, (0, 64))
    assert len(case.entries()) == 40


def test_bad_lines_and_refused_texts_are_one_report_in_order(case):
    lines = case.path.read_text().splitlines()
    lines[3], lines[9], lines[30] = "{broken", '{"_id": 10, "text": 4}', '{"text": "\\ud800"}'
    case.path.write_text("\n".join(lines))
    case.run(Refusing([TEXTS[7], TEXTS[10]]))
    assert [(entry["line"], entry.get("id"), entry["error"]) for entry in case.entries()] == [
        (4, None, "InputError"),
        (8, "doc-7", "RequestRefused"),
        (10, 10, "InputError"),
        (11, "doc-10", "RequestRefused"),
        (31, None, "InputError"),
    ]


@pytest.mark.parametrize("stop", [8, 9, 20, 39])
def test_a_dead_server_is_no_text_s_error_and_the_next_run_reports_no_line_twice(case, stop):
    bad = {1, 6, 7, 11, 12, 13, 14, 15, 21, 39} - {stop}
    with pytest.raises(ServerUnreachable):
        case.run(Refusing([TEXTS[at] for at in bad], stop=TEXTS[stop]))
    assert all(entry["line"] <= stop for entry in case.entries())
    summary = case.run(Refusing(TEXTS[at] for at in bad))
    assert summary.resumed > 0
    case.check(bad)


def test_stop_then_skip_then_stop(case):
    with pytest.raises(RequestRefused, match=r"in\.jsonl, line 7: http://x answered 400"):
        case.run(Refusing([TEXTS[6]]), skips=False)
    assert not case.report.exists()
    with pytest.raises(ServerUnreachable):
        case.run(Refusing([TEXTS[6]], stop=TEXTS[30]))
    assert case.run(Refusing(), skips=False).skipped == 1
    case.check({6})


def test_a_lost_report_is_refused(case):
    with pytest.raises(ServerUnreachable):
        case.run(Refusing([TEXTS[6]], stop=TEXTS[30]))
    case.report.unlink()
    for skips in (True, False):
        with pytest.raises(InputError, match="does not have the 1 lines that the earlier run left out"):
            case.run(Refusing(), skips=skips)
    assert case.run(Refusing(), restart=True).skipped == 0
    case.check(set())


def test_a_crash_between_report_and_rows_reports_no_line_twice(case):
    with pytest.raises(ServerUnreachable):
        case.run(Refusing([TEXTS[6], TEXTS[10]], stop=TEXTS[30]))
    with case.report.open("a") as file:
        file.write('{"line": 33, "error": "RequestRefused", "cause": "x"}\n{"line": 3')
    case.run(Refusing([TEXTS[6], TEXTS[10]]))
    case.check({6, 10})


def test_an_engine_error_without_a_text_stops(case):
    class Failing(FakeEngine):
        def run(self, job):
            raise EngineError("out of memory")

    with pytest.raises(EngineError, match="out of memory"):
        case.run(Failing("embed"))
    assert [path.name for path in case.out.parent.iterdir()] == ["in.jsonl"]


@pytest.mark.parametrize("count", [5, 300])
def test_rerank_leaves_out_the_same_way(tmp_path, count):
    path = tmp_path / "in.txt"
    texts = [f"document {number}" for number in range(count)]
    path.write_text("\n".join(texts))
    bad = {0, 3, count - 1}
    good = [text for at, text in enumerate(texts) if at not in bad]
    engine, report = Refusing([texts[at] for at in bad], "rerank"), ErrorReport(tmp_path / "report", skips=True)
    with report, open_lines(str(path), report=report) as lines:
        ranking, records = rank_records(Reranker(engine), "q", list(lines), lines, report)
    expected = Reranker(FakeEngine("rerank")).rank("q", good)
    assert [(hit.document, hit.score, hit.index) for hit in ranking] == [(hit.document, hit.score, hit.index) for hit in expected]
    assert [record.text for record in records] == good
    assert [json.loads(line)["line"] for line in report.path.read_text().splitlines()] == [1, 4, count]
    assert set(engine.computed.values()) == {1}
    with open_lines(str(path)) as lines, pytest.raises(RequestRefused, match=r"in\.txt, line 1: http://x answered 400"):
        rank_records(Reranker(engine), "q", list(lines), lines, ErrorReport(None, skips=False))


# The commands.

FAKE = ("--backend", "fake")
LINES = b'{"id": 1, "text": "one"}\nbad\n{"text": "three"}\n'


def invoke(*arguments: object, code: int = 0, **settings):
    result = CliRunner().invoke(app, list(map(str, arguments)), **settings)
    assert result.exit_code == code, result.output
    return result


def test_queries_that_are_too_long_are_left_out(tmp_path):
    path, out = tmp_path / "in.txt", tmp_path / "out.npy"
    path.write_text("one\n" + "long " * 100 + "\nthree\n")
    arguments = ("embed", path, "-o", out, *FAKE, "--queries", "--max-tokens", "60")
    assert "line 2: template, instruction and query take" in invoke(*arguments, code=2).stderr
    said = invoke(*arguments, "--on-error", "skip", "--json", code=3).stdout
    summary = json.loads(said)
    assert (summary["rows"], summary["skipped"], summary["report"]) == (2, 1, f"{out}.errors.jsonl")
    assert "line 2: template, instruction and query take" in summary["first_error"]


@pytest.mark.parametrize("command", [("embed",), ("rerank", "q")])
def test_the_report_is_named_and_the_exit_code_says_it(command, tmp_path):
    report = tmp_path / "report.jsonl"
    options = ("-", "--input-format", "jsonl", *FAKE, "--on-error", "skip", "--report", report)
    said = invoke(*command, *options, input=LINES, code=3).stderr
    assert f"; 1 lines skipped, see {report}; the first of this run: standard input, line 2: is not JSON" in said
    assert [json.loads(line)["line"] for line in report.read_text().splitlines()] == [2]
    assert f"error: {report} exists already. Name another file with --report" in invoke(*command, *options, input=LINES, code=2).stderr
    report.unlink()
    invoke(*command, *options, input=LINES.replace(b"bad\n", b""))
    assert not report.exists()  # there is nothing to report


@pytest.mark.parametrize("command", [("embed",), ("rerank", "q")])
@pytest.mark.parametrize("where", ["nowhere/report", ".", "in.jsonl", "link", "-"])
def test_a_report_that_can_not_be_written_is_refused_before_the_work(command, where, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_bytes(LINES)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    more = ("-o", "out.npy") if command == ("embed",) else ()
    result = invoke(*command, "in.jsonl", *more, *FAKE, "--on-error", "skip", "--report", where, code=2)
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "link"]
    assert (tmp_path / "in.jsonl").read_bytes() == LINES
