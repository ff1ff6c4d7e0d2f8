"""Full disks and closed pipes: every command ends with one line and its exit code, without a traceback."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from qwen3_integrations import Embedder
from qwen3_integrations.engines.fake import FakeEngine
from qwen3_integrations.serving import servers
from qwen3_integrations.serving.records import FOLDER_VARIABLE
from tests.server.stand_in import StandIn
from tests.unit.hub_stand_in import machine_environment, stand_in
from tests.unit.test_serving_ownership import machine as a_machine

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
        "stop --all --json",
        "demo --texts 5 --retrieve 2",
        "rerank q in.txt --backend fake --on-error skip --report report",
        "embed in.txt --backend fake",
        "rerank q in.txt --backend fake",
        "rerank q in.txt --backend fake --json",
    ],
)
def test_every_command_ends_in_order(words, tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path.with_name("servers")))  # `stop --all` stops nothing else
    (tmp_path / "in.txt").write_text("one\ntwo\n")
    done = shell(f"{COMMAND} {words} > /dev/full", tmp_path)
    assert (done.returncode, done.stderr) == (1, FULL)
    # The reader has left before anything is written.
    done = shell(f"({COMMAND} {words}; echo $? > code) | true; cat code", tmp_path)
    assert (done.stdout, done.stderr) == ("141\n", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["code", "in.txt"]


machine = a_machine  # the fixture


def ends_in_order(words: str, folder: object, again: Callable[[], str] | None = None) -> None:
    """Checks a command at a full disk and at a closed pipe; `again` gives the words for the second run."""
    done = shell(f"{COMMAND} {words} > /dev/full", folder)
    assert (done.returncode, done.stderr) == (1, FULL)
    words = again() if again else words
    done = shell(f"({COMMAND} {words}; echo $? > code) | true; cat code", folder)
    assert (done.stdout, done.stderr) == ("141\n", "")


def test_commands_about_servers_end_in_order(machine, tmp_path):
    one, other = machine("ended", 7001), machine("ended", 7002)
    record = next(server for server in servers() if server.name == one)
    record.log_path.write_text("a line\n")
    for words in ("status", f"status {one}", f"logs {one}"):
        ends_in_order(words, tmp_path)
    ends_in_order(f"stop {one}", tmp_path, lambda: f"stop {other}")
    assert servers() == ()  # they are stopped nevertheless


def test_commands_about_models_end_in_order(tmp_path, tiny_embedder, monkeypatch):
    with StandIn(tiny_embedder) as server:
        for more in ("", " --json"):
            ends_in_order(f"verify {server.url} --task embed --tokenizer {tiny_embedder}{more}", tmp_path)
    with stand_in() as hub:
        files = {path.relative_to(tiny_embedder).as_posix(): path.read_bytes() for path in tiny_embedder.rglob("*") if path.is_file()}
        hub.publish("Qwen/Demo", files, "main")
        monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
            monkeypatch.delenv(name, raising=False)
        for name, value in machine_environment(tmp_path, hub.url).items():
            monkeypatch.setenv(name, value)
        ends_in_order("download Qwen/Demo --source huggingface", tmp_path)


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


CAN_MOUNT = (
    subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0 if shutil.which("unshare") else False
)
FULL_DISKS = {"a limit": "ulimit -f 300"} | ({"a disk": "mount -t tmpfs -o size=300k none disk"} if CAN_MOUNT else {})


@pytest.mark.parametrize("how", FULL_DISKS)
@pytest.mark.parametrize("suffix", ["npy", "jsonl", "parquet"])
def test_a_full_disk_keeps_rows_and_leaves_no_other_files(how, suffix, tmp_path):
    """The second run, in the same place with enough room, continues."""
    (tmp_path / "disk").mkdir()
    texts = [f"text number {number}" for number in range(3000)]
    (tmp_path / "in.txt").write_text("\n".join(texts))
    embed = f"{COMMAND} embed in.txt -o disk/out.{suffix} --backend fake --option dimensions=64 --chunk 16 --quiet"
    more = "mount -o remount,size=30m disk" if how == "a disk" else "true"
    script = (
        f"""
        ({FULL_DISKS[how]}; {embed}; echo $? > code; ls disk > names) 2> said
    """
        if how == "a limit"
        else f"""
        {FULL_DISKS[how]} && {embed} 2> said; echo $? > code; ls disk > names; {more}
    """
    )
    script += f"{embed} --json; cp disk/out.{suffix} whole"
    words = ["unshare", "--mount", "bash", "-c", script] if how == "a disk" else ["bash", "-c", script]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False)
    assert (tmp_path / "code").read_text() == "1\n"
    first, *rest = (tmp_path / "said").read_text().splitlines()
    assert "rows are kept in disk/out" in first
    assert rest in ([f"error: disk/out.{suffix}.part can't be written: {words}"] for words in ("File too large", "No space left on device"))
    assert (tmp_path / "names").read_text().split() == [f"out.{suffix}.part", f"out.{suffix}.part.json"]
    summary = json.loads(done.stdout)
    assert summary["rows"] == 3000
    assert summary["resumed"] > 0
    if suffix == "npy":
        assert np.array_equal(np.load(tmp_path / "whole"), Embedder(FakeEngine("embed")).embed_documents(texts))
