"""`qwen3-integrations download`: the real command in a process of its own, against a stand-in for both hubs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.models import TINY
from tests.unit.hub_stand_in import machine_environment, stand_in

MODEL = "Qwen/Demo-Embedding"


class Shell:
    """Runs the command on a machine with empty caches, where `hub` is both hubs."""

    def __init__(self, home: Path, hub) -> None:
        self.home, self.hub, self.environment = home, hub, machine_environment(home, hub.url)

    def __call__(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.run("download", *arguments, **environment)

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "qwen3_integrations.cli", *words]
        return subprocess.run(command, capture_output=True, text=True, cwd=self.home, env=self.environment | environment, check=False)


@pytest.fixture
def shell(tmp_path):
    folder = TINY / "embedding"
    with stand_in() as hub:
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        hub.commit = hub.publish(MODEL, files, "main", "master")
        hub.size = sum(map(len, files.values()))
        yield Shell(tmp_path, hub)


@pytest.fixture(params=["huggingface", "modelscope"])
def source(request) -> str:
    if request.param == "modelscope":
        pytest.importorskip("modelscope_hub", reason="the modelscope extra is not installed")
    return request.param


def test_a_model_comes_once_and_its_place_size_and_revision_are_told(shell, source):
    result = shell(MODEL, "--source", source, "--json")
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    revision = {"huggingface": shell.hub.commit, "modelscope": "master"}[source]
    assert told | {"folder": None} == {
        "name": MODEL,
        "task": "embed",
        "folder": None,
        "hub": source,
        "revision": revision,
        "size_bytes": shell.hub.size,
        "missing": [],
        "downloaded": True,
    }
    assert Path(told["folder"], "model.safetensors").is_file()
    assert "100%" in result.stderr  # the client's own bars

    asked = len(shell.hub.asked)
    again = shell(MODEL)
    assert len(shell.hub.asked) == asked
    assert again.returncode == 0, again.stderr
    first, second = again.stdout.splitlines()
    assert first == f"{MODEL}, embed, 2.9 MB, revision {revision}, already here"
    assert second == f"  {told['folder']}"
    assert not again.stderr


def test_what_came_before_a_failure_is_told(shell):
    result = shell(MODEL, "Qwen/Nowhere", "--source", "huggingface", "--json")
    assert result.returncode == 1
    assert [json.loads(line)["name"] for line in result.stdout.splitlines()] == [MODEL]
    assert "error: Qwen/Nowhere could not be found or downloaded" in result.stderr
    assert "hint: `qwen3-integrations doctor`" in result.stderr


def test_a_revision_that_is_nowhere_is_a_failure(shell, source):
    result = shell(MODEL, "--source", source, "--revision", "v9")
    assert (result.returncode, result.stdout) == (1, "")
    assert "v9" in result.stderr


def test_wrong_use(shell):
    result = shell(MODEL, "--source", "github")
    assert (result.returncode, result.stdout) == (2, "")
    assert "huggingface" in result.stderr
    assert shell("./folder", "--revision", "main").returncode == 2
    assert not shell.hub.asked


def test_a_model_of_another_kind_is_told_to_be_none_of_ours(shell):
    config = json.dumps({"model_type": "bert"}).encode()
    shell.hub.publish("someone/else", {"config.json": config, "tokenizer.json": b"{}", "model.safetensors": b""}, "main")
    result = shell("someone/else", "--source", "huggingface")
    assert result.returncode == 2
    assert "'bert'" in result.stderr


def test_the_bundled_pair_needs_no_download(shell):
    result = shell("qwen3-tiny-demo", HF_HUB_OFFLINE="1")
    assert (result.returncode, result.stdout) == (0, "")
    assert "is part of this package: there is nothing to download" in result.stderr


def test_a_folder_of_ones_own_is_described(shell):
    result = shell(str(TINY / "reranker"), "--json")
    told = json.loads(result.stdout)
    assert (told["task"], told["hub"], told["revision"], told["downloaded"]) == ("rerank", None, None, False)


@pytest.mark.vllm
def test_a_server_that_has_to_download_its_model_says_so_and_how_far_it_is(shell):
    """`serve` resolves the model before anything starts; with --dry-run nothing does."""
    result = shell.run("serve", "embed", MODEL, "--engine", "vllm", "--source", "huggingface", "--dry-run", "--json")
    assert result.returncode == 0, result.stderr
    assert "downloading" in result.stderr
    command = json.loads(result.stdout)["command"]
    assert shell.hub.commit in command[command.index("--model") + 1]
    assert command[command.index("--served-model-name") + 1] == MODEL


@pytest.mark.vllm
def test_the_bytes_that_have_come_are_told(shell):
    code = (
        "from qwen3_integrations.serving import ServerOptions, prepare\n"
        f"options = ServerOptions(task='embed', model={MODEL!r}, source='huggingface')\n"
        "prepare(options, lambda step: print(step.phase, step.fraction, step.detail))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=shell.environment, cwd=shell.home, check=True)
    lines = [line.split(maxsplit=2) for line in result.stdout.splitlines()]
    assert {phase for phase, *_ in lines} == {"downloading"}
    assert lines[-1][1] == "1.0"
    assert lines[-1][2].endswith("MB of 2.9 MB")
