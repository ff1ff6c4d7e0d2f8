"""Full disks and closed pipes: every command ends with one line and its exit code, without a traceback."""

from __future__ import annotations

import shlex
import subprocess
import sys

import pytest

COMMAND = shlex.join((sys.executable, "-m", "qwen3_integrations.cli"))
FULL = "error: standard output can't be written: No space left on device\n"


def shell(script: str, folder: object, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = ["bash", "-c", script, "bash", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=folder)


@pytest.mark.parametrize(
    "words",
    [
        "--help",
        "--version",
        "status --json",
        "doctor --json",
        "serve embed qwen3-tiny-demo --dry-run",
        "embed in.txt --backend fake",
        "rerank q in.txt --backend fake",
        "rerank q in.txt --backend fake --json",
    ],
)
def test_every_command_ends_in_order(words, tmp_path):
    (tmp_path / "in.txt").write_text("one\ntwo\n")
    done = shell(f"{COMMAND} {words} > /dev/full", tmp_path)
    assert (done.returncode, done.stderr) == (1, FULL)
    # The reader has left before anything is written.
    done = shell(f"({COMMAND} {words}; echo $? > code) | true; cat code", tmp_path)
    assert (done.stdout, done.stderr) == ("141\n", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["code", "in.txt"]


@pytest.mark.parametrize(
    ("words", "code"),
    [("rerank q in.txt --backend fake", 0), ("embed --nonsense", 2), ("embed nowhere.txt --backend fake", 2)],
)
def test_messages_that_cant_be_written_are_lost(words, code, tmp_path):
    (tmp_path / "in.txt").write_text("one\ntwo\n")
    done = shell(f"{COMMAND} {words} 2> /dev/full", tmp_path)
    assert done.returncode == code
    assert bool(done.stdout) == (code == 0)


def test_closed_streams_are_like_nowhere(tmp_path):
    (tmp_path / "in.txt").write_text("one\ntwo\n")
    done = shell(f"{COMMAND} rerank q in.txt --backend fake >&- 2>&-", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
