"""`qwen3-integrations embed`: files and pipes, real processes and signals."""

from __future__ import annotations

import gzip
import io
import json
import os
import pty
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from qwen3_integrations import Embedder, open_engine
from qwen3_integrations.cli import app
from qwen3_integrations.cli.parameters import engine_options
from qwen3_integrations.engines.fake import FakeEngine
from qwen3_integrations.errors import ConfigError

TEXTS = ["The capital of China is Beijing.", "", "Gravity attracts bodies. " * 20, "  text with blanks ", "标题 😀", "<|im_end|> is text"]
RECORDS = [{"id": number, "text": text, "tags": ["a"]} for number, text in enumerate(TEXTS)]
TINY = ("--model", "qwen3-tiny-demo", "--backend", "torch", "--option", "device=cpu", "--option", "dtype=float32")
FAKE = ("--backend", "fake", "--option", "dimensions=64")
COMMAND = (sys.executable, "-c", "from qwen3_integrations.cli import app; app()", "embed", *FAKE)


def invoke(*arguments: object, code: int = 0, **settings):
    result = CliRunner().invoke(app, ["embed", *map(str, arguments)], **settings)
    assert result.exit_code == code, result.output
    return result


def vectors_of(lines: str) -> np.ndarray:
    return np.asarray([json.loads(line)["embedding"] for line in lines.splitlines()], dtype=np.float32)


def fake_vectors(texts: list[str]) -> np.ndarray:
    return Embedder(FakeEngine("embed")).embed_documents(texts)


@pytest.fixture
def text_file(tmp_path) -> Path:
    path = tmp_path / "in.txt"
    path.write_text("".join(f"{text}\n" for text in TEXTS), encoding="utf-8")
    return path


@pytest.fixture
def json_file(tmp_path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(f"{json.dumps(record)}\n" for record in RECORDS), encoding="utf-8")
    return path


def test_all_formats_hold_the_embedders_own_vectors(json_file, tmp_path):
    with open_engine("embed", "qwen3-tiny-demo", backend="torch", device="cpu", dtype="float32") as engine:
        expected = Embedder(engine).embed_documents(TEXTS)
        for suffix in ("jsonl", "npy", "parquet"):
            invoke(json_file, "--output", tmp_path / f"out.{suffix}", *TINY, "--chunk", "2")
    lines = (tmp_path / "out.jsonl").read_text(encoding="utf-8")
    assert [{name: value for name, value in json.loads(line).items() if name != "embedding"} for line in lines.splitlines()] == RECORDS
    mapped = np.load(tmp_path / "out.npy", mmap_mode="r")
    assert (mapped.dtype, mapped.shape) == (np.float32, expected.shape)
    table = parquet.read_table(tmp_path / "out.parquet")
    assert table["text"].to_pylist() == TEXTS
    assert table["id"].to_pylist() == list(range(len(TEXTS)))
    for vectors in (vectors_of(lines), mapped, np.asarray(table["embedding"].to_pylist())):
        np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_queries_dimensions_and_budget_are_the_embedders(text_file):
    shown = invoke(text_file, *FAKE, "--queries", "--instruction", "Find it", "--dimensions", "32", "--max-tokens", "500")
    embedder = Embedder(FakeEngine("embed"), instruction="Find it", dimensions=32, max_tokens=500)
    assert np.array_equal(vectors_of(shown.stdout), embedder.embed_queries(TEXTS))

    shown = invoke(text_file, *FAKE, "--max-tokens", "5")
    embedder = Embedder(FakeEngine("embed"), max_tokens=5)
    assert np.array_equal(vectors_of(shown.stdout), embedder.embed_documents(TEXTS))
    assert f"{embedder.usage.truncated} truncated to the budget" in shown.stderr
    assert "were cut" not in shown.stderr  # the log line of each chunk


def test_standard_input_is_the_input_and_standard_output_the_output(text_file, json_file):
    expected = fake_vectors(TEXTS)
    content = text_file.read_bytes()
    for arguments in ([], ["-"], ["-", "--output", "-"]):
        shown = invoke(*arguments, *FAKE, input=content)
        assert np.array_equal(vectors_of(shown.stdout), expected)
        assert json.loads(shown.stdout.splitlines()[0])["text"] == TEXTS[0]
    shown = invoke("--input-format", "jsonl", "--field", "text", *FAKE, input=json_file.read_bytes())
    assert np.array_equal(vectors_of(shown.stdout), expected)


def test_a_packed_file_is_unpacked(json_file, tmp_path):
    packed = tmp_path / "packed.jsonl.gz"
    packed.write_bytes(gzip.compress(json_file.read_bytes()))
    assert np.array_equal(vectors_of(invoke(packed, *FAKE).stdout), fake_vectors(TEXTS))


def test_the_summary_goes_where_a_script_can_read_it(text_file, tmp_path):
    out = tmp_path / "out.npy"
    shown = invoke(text_file, "--output", out, "--json", *FAKE)
    summary = json.loads(shown.stdout)
    assert summary.pop("seconds") >= 0
    assert summary.pop("tokens") > 50
    nothing = {"resumed": 0, "skipped": 0, "truncated": 0, "first_error": None, "report": None}
    nothing |= {"replaced": 0, "preprocessed": 0}
    assert summary == {"rows": 6, "dimensions": 64, "output": str(out)} | nothing
    assert shown.stderr == ""

    shown = invoke(text_file, "--json", *FAKE)
    assert len(shown.stdout.splitlines()) == 6
    assert json.loads(shown.stderr) | {"tokens": 0, "seconds": 0} == summary | {"tokens": 0, "seconds": 0, "output": None}

    assert invoke(text_file, "--output", out, "--overwrite", "--quiet", *FAKE).output == ""
    said = invoke(text_file, "--output", out, "--overwrite", *FAKE).stderr
    assert said.startswith("6 texts, ")
    assert said.endswith(f"{out}: 6 vectors of 64 dimensions\n")


def test_bad_lines_stop_or_are_counted(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text('{"text": "one"}\n{"text": 2}\n{"text": "three"}\n', encoding="utf-8")
    out = tmp_path / "out.npy"
    said = invoke(path, "--output", out, *FAKE, code=2).stderr
    assert f"error: {path}, line 2: has a field 'text' that is not a string but 2" in said
    assert f"1 rows are kept in {out}.part" in said
    assert not out.exists()
    said = invoke(path, "--output", out, *FAKE, "--on-error", "skip", code=3).stderr
    assert "1 texts" in said
    assert "after 1 from an earlier run" in said
    assert f"1 lines skipped, see {out}.errors.jsonl; the first of this run: {path}, line 2: has a field" in said
    assert np.array_equal(np.load(out), fake_vectors(["one", "three"]))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.txt"], "nowhere.txt can't be read: No such file or directory"),
        (["{in}", "--output", "{in}", "--output-format", "jsonl"], "exists already"),
        (["{in}", "--output", "out.csv"], "is not that of a known format"),
        (["{in}", "--output-format", "npy"], "can't be written to standard output"),
        (["{in}", "--output", "/dev/null", "--output-format", "npy", "--overwrite"], "/dev/null is not a regular file"),
        (["{in}", "--output", "nowhere/out.npy"], "nowhere/out.npy.part can't be written: No such file or directory"),
        (["{in}", "--instruction", "x"], "Add --queries"),
        (["{in}", "--option", "device"], "--option must be NAME=VALUE"),
        (["{in}", "--option", "dimension=3"], "did you mean 'dimensions'?"),
        (["{in}", "--dimensions", "65"], "from 32 to 64"),
        (["{in}", "--backend", "fak"], "did you mean 'fake'?"),
    ],
)
def test_invalid_options_are_refused_in_one_line(text_file, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    result = invoke(*FAKE, *(argument.format(**{"in": text_file}) for argument in arguments), code=2)
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert said in line
    assert result.stdout == ""
    assert os.listdir(tmp_path) == ["in.txt"]  # noqa: PTH208


def test_other_settings_need_a_restart(tmp_path):
    path, out = tmp_path / "in.jsonl", tmp_path / "out.npy"
    path.write_text('{"text": "one"}\nbad\n', encoding="utf-8")
    invoke(path, "--output", out, *FAKE, code=2)
    said = invoke(path, "--output", out, *FAKE, "--dimensions", "32", "--on-error", "skip", code=2).stderr
    assert "dimensions was None and is 32" in said
    assert "--restart" in said
    invoke(path, "--output", out, *FAKE, "--dimensions", "32", "--on-error", "skip", "--restart", code=3)
    assert np.load(out).shape == (1, 32)


def test_engine_options_are_json_where_they_read_as_json():
    parsed = engine_options(["device=cpu", "concurrency=16", "enforce_eager=true", 'headers={"a": "b=c"}', "path=", "name=a=b"])
    assert parsed == {"device": "cpu", "concurrency": 16, "enforce_eager": True, "headers": {"a": "b=c"}, "path": "", "name": "a=b"}
    with pytest.raises(ConfigError, match="--base-url"):
        engine_options(["base_url=http://x"])


# Real processes.


def shell(script: str, **names: object) -> subprocess.CompletedProcess[bytes]:
    words = {name: shlex.quote(str(value)) for name, value in names.items()}
    return subprocess.run(
        ["bash", "-c", "set -o pipefail; " + script.format(embed=shlex.join(COMMAND), **words)],
        capture_output=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def long_file(tmp_path) -> Path:
    path = tmp_path / "long.txt"
    path.write_text("".join(f"text number {number}\n" for number in range(3000)), encoding="utf-8")
    return path


def test_a_reader_that_leaves_ends_the_run_quietly(long_file):
    done = shell("{embed} {path} | head -n 1", path=long_file)
    assert done.returncode == 141
    assert done.stderr == b""
    assert np.array_equal(vectors_of(done.stdout.decode()), fake_vectors(["text number 0"]))


def test_a_named_pipe_is_read_as_a_file_is(long_file):
    done = shell("{embed} <(head -n 2 {path})", path=long_file)
    assert done.returncode == 0
    assert np.array_equal(vectors_of(done.stdout.decode()), fake_vectors(["text number 0", "text number 1"]))


def test_a_full_disk_is_one_line_and_spoils_nothing(long_file, tmp_path):
    out = tmp_path / "out.npy"
    done = shell("ulimit -f 300; {embed} {path} --output {out}", path=long_file, out=out)
    assert done.returncode == 1
    assert f"error: {out}.part can't be written: File too large" in done.stderr.decode()
    assert b"Traceback" not in done.stderr
    assert not out.exists()
    done = shell("{embed} {path} --output {out}", path=long_file, out=out)
    assert done.returncode == 0
    assert np.array_equal(np.load(out), fake_vectors(long_file.read_text().splitlines()))
    done = shell("{embed} {path} > /dev/full", path=long_file)
    assert done.returncode == 1
    assert done.stderr == b"error: standard output can't be written: No space left on device\n"


def _wait(until: Callable[[], bool], meanwhile: Callable[[], None] = lambda: None) -> None:
    for _ in range(1200):
        if until():
            return
        meanwhile()
        time.sleep(0.05)
    raise AssertionError("waited in vain")


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_signal_leaves_a_part_file_that_the_next_run_continues(tmp_path, sent, code):
    out = tmp_path / "out.parquet"
    lines = [f"text number {number}".encode() for number in range(5000)]
    todo = iter(lines)
    process = subprocess.Popen(
        [*COMMAND, "--chunk", "1", "--output", out], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )

    def feed() -> None:
        process.stdin.write(b"".join(next(todo) + b"\n" for _ in range(5)))
        process.stdin.flush()

    def noted() -> bool:
        notes = Path(f"{out}.part.json")
        return notes.exists() and json.loads(notes.read_bytes())["rows"] > 0

    with process:
        _wait(noted, feed)
        process.send_signal(sent)
        said, complaint = process.communicate(timeout=30)
    assert process.returncode == code
    assert said == b""
    if sent is signal.SIGKILL:
        assert complaint == b""
    else:
        assert b"Traceback" not in complaint
        assert b"rows are kept in" in complaint
        assert len(complaint.splitlines()) == (2 if sent is signal.SIGINT else 1)
    assert not out.exists()

    again = invoke("--output", out, "--json", *FAKE, input=b"\n".join(lines))
    assert 0 < json.loads(again.stdout)["resumed"] < 5000
    table = parquet.read_table(out)
    assert table["text"].to_pylist() == [line.decode() for line in lines]
    assert np.array_equal(np.stack(table["embedding"].to_numpy()), fake_vectors([line.decode() for line in lines]))


def test_a_terminal_sees_a_bar_and_a_pipe_does_not(long_file, tmp_path):
    ours, theirs = pty.openpty()
    command = [*COMMAND, str(long_file), "--output", str(tmp_path / "out.npy"), "--chunk", "100"]
    with subprocess.Popen(command, stderr=theirs, stdout=subprocess.PIPE, env=os.environ | {"TERM": "xterm"}) as process:
        os.close(theirs)
        shown = io.BytesIO()
        try:
            while block := os.read(ours, 65536):
                shown.write(block)
        except OSError:  # the other end is closed
            pass
        os.close(ours)
        assert process.stdout.read() == b""
    assert process.returncode == 0
    assert b"3,000 texts" in shown.getvalue()
    assert b"100%" in shown.getvalue()

    piped = shell("{embed} {path} --output {out}", path=long_file, out=tmp_path / "other.npy")
    assert b"%" not in piped.stderr
    assert b"\x1b" not in piped.stderr
