"""A model's name becomes a folder: by path, from both caches, from the hub that answers.

The hubs' own clients run, each call in a process of its own (they read their settings when imported), against a stand-in
for the hubs on this machine.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pytest

import qwen3_integrations
from qwen3_integrations.errors import ConfigError, MissingExtra, ModelNotFound
from qwen3_integrations.models.checkpoint import read_model
from qwen3_integrations.models.hub import find_model, resolve_model
from qwen3_integrations.models.tokenizer_files import read_tokenizer
from tests.models import TINY
from tests.unit.hub_stand_in import StandIn, machine_environment, stand_in

MODEL = "Qwen/Demo"
NUMBERS = itertools.count()
ROOT = Path(qwen3_integrations.__file__).parents[1]
NEVER = {
    "pytorch_model.bin": b"\x80\x02pickle",
    "model.pt": b"\x80\x02pickle",
    "modeling_demo.py": b"raise SystemExit",
    "README.md": b"# Demo",
    "onnx/model.onnx": b"onnx",
}
"""What a hub may also have, and nobody may fetch."""

PROGRAM = """
import json, sys
from qwen3_integrations.errors import Qwen3Error
from qwen3_integrations.models.hub import find_model, resolve_model

for line in sys.stdin:
    call, model, options = json.loads(line)
    seen = []
    if call == "watch":
        options["progress"] = lambda at: seen.append([at.done_bytes, at.total_bytes])
    try:
        folder = (find_model if call == "find" else resolve_model)(model, "embed", **options)
        answer = [folder and str(folder), "", ""]
    except Qwen3Error as error:
        answer = [None, type(error).__name__, str(error)]
    print(json.dumps([*answer, seen]), flush=True)
"""


class Answer(NamedTuple):
    folder: Path | None
    error: str
    says: str
    progress: list[list[int]]
    """Of a watched download: bytes done, bytes in all."""
    screen: str

    @property
    def files(self) -> dict[str, bytes]:
        assert self.folder is not None, self.says
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}


class Worker:
    """A process that resolves models, in its own environment: the clients read theirs once, when they are imported."""

    def __init__(self, home: Path, environment: dict[str, str]) -> None:
        self.screen = Path(tempfile.mkstemp(dir=home, suffix=".screen")[1])
        with self.screen.open("w") as screen:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=screen,
                text=True,
                cwd=home,
                env=environment,
            )

    def call(self, *question: object) -> Answer:
        before = self.screen.stat().st_size
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        screen = self.screen.read_bytes()[before:].decode()
        assert line, screen
        folder, *rest = json.loads(line)
        return Answer(folder and Path(folder), *rest, screen)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()


class Machine:
    """A machine with its caches, whose processes see the stand-in as both hubs; `model` is new to it."""

    def __init__(self, home: Path, hub: StandIn, nowhere: str) -> None:
        self.home, self.hub, self.nowhere, self.model = home, hub, nowhere, MODEL
        self.hugging_face, self.modelscope = home / "huggingface", home / "modelscope"
        self.environment = machine_environment(home, hub.url) | {"PYTHONPATH": str(ROOT)}
        self.unplugged = {"HF_ENDPOINT": nowhere, "MODELSCOPE_ENDPOINT": nowhere}
        self._workers: dict[tuple[tuple[str, str], ...], Worker] = {}

    def find(self, model: str | None = None, /, environment: Mapping[str, str] = MappingProxyType({}), **options: str) -> Answer:
        return self._worker(environment).call("find", model or self.model, options)

    def resolve(self, model: str | None = None, /, environment: Mapping[str, str] = MappingProxyType({}), **options: str) -> Answer:
        return self._worker(environment).call("resolve", model or self.model, options)

    def watch(self, **options: str) -> Answer:
        return self._worker({}).call("watch", self.model, options)

    def _worker(self, environment: Mapping[str, str]) -> Worker:
        key = tuple(sorted(environment.items()))
        if key not in self._workers:
            self._workers[key] = Worker(self.home, self.environment | environment)
        return self._workers[key]

    def close(self) -> None:
        for worker in self._workers.values():
            worker.close()


@pytest.fixture(scope="module")
def demo() -> dict[str, bytes]:
    """The tiny embedder's files: a repository of the published layout."""
    folder = TINY / "embedding"
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def machines(tmp_path_factory) -> Iterator[Machine]:
    with stand_in() as hub, socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))  # taken, but nobody listens: a connection is refused
        machine = Machine(tmp_path_factory.mktemp("machine"), hub, f"http://127.0.0.1:{unheard.getsockname()[1]}")
        yield machine
        machine.close()


@pytest.fixture
def machine(machines, demo) -> Machine:
    machines.hub.reset()
    machines.model = f"{MODEL}-0.{next(NUMBERS)}"
    machines.hub.publish(machines.model, demo | NEVER, "main", "master")
    return machines


@pytest.fixture(params=["huggingface", "modelscope"])
def source(request) -> str:
    if request.param == "modelscope":
        pytest.importorskip("modelscope_hub", reason="the modelscope extra is not installed")
    return request.param


# What is on this machine


@pytest.mark.parametrize("task", ["embed", "rerank"])
def test_the_toy_pair_is_in_the_package(task):
    folder = resolve_model("qwen3-tiny-demo", task)
    assert read_model(folder, task).width > 0
    assert folder.is_relative_to(Path(qwen3_integrations.__file__).parent)


@pytest.mark.parametrize("source", ["auto", "local", "huggingface", "modelscope"])
def test_a_path_is_a_folder_whatever_the_source(tmp_path, source):
    assert resolve_model(str(tmp_path), "embed", source=source) == tmp_path


@pytest.mark.parametrize("path", ["./missing", "/missing/model", "~/missing", "one/two/three", "C:\\models\\missing"])
def test_a_missing_folder_is_no_question_to_a_hub(path):
    assert find_model(path, "embed") is None
    with pytest.raises(ModelNotFound, match=r"folder .* does not exist"):
        resolve_model(path, "embed")


def test_a_folder_called_as_a_model_goes_first_unless_a_hub_or_revision_is_meant(machine, demo):
    (machine.home / machine.model).mkdir(parents=True)
    assert machine.resolve().folder == Path(machine.model)
    assert not machine.hub.asked
    assert machine.resolve(revision="main").folder.is_relative_to(machine.hugging_face)
    assert machine.resolve(source="huggingface").folder.is_relative_to(machine.hugging_face)


@pytest.mark.parametrize("model", ["qwen3-tiny-demo", "./folder"])
def test_a_folder_has_no_revision(model):
    with pytest.raises(ConfigError, match="revision 'main' selects a version on a hub"):
        resolve_model(model, "embed", revision="main")


def test_an_unknown_source_is_refused():
    with pytest.raises(ConfigError, match="auto, local, huggingface, modelscope, not 'github'"):
        resolve_model(MODEL, "embed", source="github")  # type: ignore[arg-type]


def test_modelscope_by_name_needs_its_client(monkeypatch):
    monkeypatch.setitem(sys.modules, "modelscope_hub", None)
    with pytest.raises(MissingExtra, match=r"pip install 'qwen3-integrations\[modelscope\]'"):
        resolve_model(MODEL, "embed", source="modelscope")


def test_importing_this_module_imports_no_client():
    code = "import sys, qwen3_integrations.models.hub; print({'huggingface_hub', 'modelscope_hub', 'modelscope'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout == "set()\n"


# Downloading, and the caches


def test_a_download_is_whole_shows_its_progress_and_holds_nothing_else(machine, source, demo):
    answer = machine.resolve(source=source)
    assert answer.files == demo
    assert sorted(machine.hub.paths(source)) == sorted(demo)  # each once, and no pickle or code was even asked for
    assert read_model(answer.folder, "embed").folder == answer.folder
    assert len(read_tokenizer(answer.folder).encode(["two words"])[0]) > 0
    assert {"huggingface": "Fetching", "modelscope": "Downloading"}[source] in answer.screen
    assert "100%" in answer.screen


def test_the_second_time_nobody_is_asked(machine, source):
    assert machine.find().folder is None
    assert not machine.hub.asked
    first = machine.resolve(source=source)
    asked = len(machine.hub.asked)
    assert machine.resolve(source=source).folder == machine.resolve().folder == machine.find().folder == first.folder
    assert len(machine.hub.asked) == asked

    assert machine.resolve(environment=machine.unplugged, source="local").folder == first.folder
    assert machine.resolve(environment=machine.unplugged).folder == first.folder
    other = {"huggingface": "modelscope", "modelscope": "huggingface"}[source]
    assert machine.find(source=other).folder is None


def test_a_revision_is_pinned(machine, source, demo):
    older = demo | {"config.json": demo["config.json"] + b"\n"}
    commit = machine.hub.publish(machine.model, older, "v1")
    branch = machine.resolve(source=source, revision="v1")
    assert branch.files == older
    assert machine.find(source=source).folder is None  # v1 does not stand for the default branch
    assert machine.resolve(source=source, revision=commit).files == older
    assert machine.resolve(source=source).files == demo
    assert machine.find(environment=machine.unplugged, revision="v1").folder == branch.folder
    assert machine.find(environment=machine.unplugged, revision=commit).files == older
    assert machine.find(environment=machine.unplugged, revision="v2").folder is None


def test_an_unknown_revision_is_told_from_an_unknown_model(machine, source):
    revision = machine.resolve(source=source, revision="v9")
    assert revision.error == "ModelNotFound"
    assert machine.model in revision.says
    assert "v9" in revision.says
    model = machine.resolve("Qwen/Nowhere", source=source)
    assert model.error == "ModelNotFound"
    assert f"({machine.hub.url}) has no" in model.says
    assert "revision" not in model.says
    assert not machine.hub.paths()


@pytest.mark.parametrize("revision", [None, "v1"])
def test_a_folder_of_an_old_modelscope_client_serves_unless_a_revision_is_pinned(machine, demo, revision):
    pytest.importorskip("modelscope_hub", reason="the modelscope extra is not installed")
    old = machine.modelscope / "models" / machine.model.replace(".", "___")
    shutil.copytree(TINY / "embedding", old)
    pinned = {"revision": revision} if revision else {}
    found = machine.find(source="modelscope", **pinned)
    assert found.folder == (None if revision else old)
    assert not machine.hub.asked


@pytest.mark.parametrize("lost", ["model.safetensors", "tokenizer.json", "config.json"])
def test_an_incomplete_cache_is_completed(machine, source, demo, lost):
    folder = machine.resolve(source=source).folder
    (folder / lost).unlink()
    machine.hub.asked.clear()
    assert machine.find().folder is None
    assert not machine.hub.asked
    assert machine.resolve(source=source).files == demo


def test_a_missing_shard_is_missed(machine, source, demo):
    weights = demo["model.safetensors"]
    index = {"metadata": {}, "weight_map": {"embed_tokens.weight": "model-1-of-2.safetensors", "norm.weight": "model-2-of-2.safetensors"}}
    shards = {
        "model.safetensors.index.json": json.dumps(index).encode(),
        "model-1-of-2.safetensors": weights,
        "model-2-of-2.safetensors": weights,
    }
    sharded = {path: content for path, content in demo.items() if path != "model.safetensors"} | shards
    machine.hub.publish(machine.model, sharded, "main", "master")
    folder = machine.resolve(source=source).folder
    assert machine.find().folder == folder
    (folder / "model-2-of-2.safetensors").unlink()
    assert machine.find().folder is None
    assert machine.resolve(source=source).files == sharded


def test_a_cache_that_another_program_filled_with_what_it_needs_is_enough(machine, demo):
    needed = ["config.json", "tokenizer.json", "model.safetensors"]
    code = f"import huggingface_hub; huggingface_hub.snapshot_download({machine.model!r}, allow_patterns={needed})"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=machine.environment)
    assert sorted(machine.resolve(environment=machine.unplugged).files) == sorted(needed)


# What goes wrong


@pytest.fixture
def large(machine, demo) -> dict[str, bytes]:
    """A published model whose weights come in several pieces and break off once: 10 MB at a time is what Hugging Face's client keeps."""
    files = demo | {"model.safetensors": bytes(range(256)) * (24 << 12)}
    machine.hub.publish(machine.model, files, "main", "master")
    machine.hub.cut = {"model.safetensors"}
    return files


def test_a_cut_connection_is_resumed_where_it_was_cut(machine, source, large):
    assert machine.resolve(source=source).files == large
    first, again = [asked.start for asked in machine.hub.asked if asked.path == "model.safetensors" and asked.body]
    assert first == 0 < again <= len(large["model.safetensors"]) // 2


def test_the_bytes_of_a_download_are_told_up_to_the_last(machine, source, large):
    answer = machine.watch(source=source)
    assert answer.files == large  # it was cut, and what was taken up again is not counted twice
    size = sum(map(len, large.values()))
    assert answer.progress[-1] == [size, size]
    assert all(0 < done <= total <= size for done, total in answer.progress)
    assert [done for done, _ in answer.progress] == sorted(done for done, _ in answer.progress)
    assert machine.watch(source=source).progress == []  # nothing has to come


def test_a_file_of_the_wrong_size_is_no_model(machine, source, demo):
    machine.hub.short = {"model.safetensors"}
    answer = machine.resolve(source=source)
    assert answer.error == "ModelNotFound"
    assert "The download of" in answer.says
    assert "model.safetensors" in answer.says
    assert f"{len(demo['model.safetensors'])}" in answer.says  # what it should be
    assert f"{len(demo['model.safetensors']) // 2}" in answer.says  # what came
    assert machine.find().folder is None


@pytest.mark.parametrize("path", ["model.safetensors", "tokenizer.json"])
def test_a_file_of_another_size_than_the_hub_lists_is_no_model(machine, source, demo, path):
    machine.hub.stale = {path}
    for _ in range(2):  # nothing of it serves the next time either
        answer = machine.resolve(source=source)
        assert answer.error == "ModelNotFound"
        assert path in answer.says
        assert f"{len(demo[path]) * 3 // 2}" in answer.says.replace(",", "")
        assert f"{len(demo[path])}" in answer.says.replace(",", "")
        assert machine.find().folder is None
    machine.hub.stale.clear()
    assert machine.resolve(source=source).files == demo


def test_a_repository_without_safetensors_is_refused_by_what_it_lacks(machine, source, demo):
    machine.hub.publish(machine.model, NEVER | {"config.json": demo["config.json"]}, "main", "master")
    answer = machine.resolve(source=source)
    assert answer.error == "ModelNotFound"
    assert "without tokenizer.json, model.safetensors" in answer.says


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("kinds", [("model", "list"), ("file",)], ids=["closed", "files-closed"])
def test_a_gated_model_says_how_to_get_in(machine, source, status, kinds):
    machine.hub.refuse(source, status, "GatedRepo", kinds=kinds)
    answer = machine.resolve(source=source)
    assert answer.error == "ModelNotFound"
    assert "restricts access to" in answer.says
    assert {"huggingface": "HF_TOKEN", "modelscope": "MODELSCOPE_API_TOKEN"}[source] in answer.says


def test_auto_asks_modelscope_when_hugging_face_has_no_such_model(machine, demo):
    pytest.importorskip("modelscope_hub", reason="the modelscope extra is not installed")
    machine.hub.refuse("huggingface", 404, "RepoNotFound")
    answer = machine.resolve()
    assert answer.folder.is_relative_to(machine.modelscope)
    assert answer.files == demo


def test_a_hub_out_of_order_is_told_by_its_status(machine, source):
    machine.hub.refuse(source, 503)
    answer = machine.resolve(source=source)
    assert answer.error == "ModelNotFound"
    assert "The download of" in answer.says
    assert "503" in answer.says


def test_auto_asks_modelscope_when_hugging_face_does_not_answer(machine, demo):
    pytest.importorskip("modelscope_hub", reason="the modelscope extra is not installed")
    answer = machine.resolve(environment={"HF_ENDPOINT": machine.nowhere})
    assert answer.folder.is_relative_to(machine.modelscope)
    assert answer.files == demo


def test_auto_goes_no_further_than_the_hub_that_answers(machine):
    assert machine.resolve().folder.is_relative_to(machine.hugging_face)
    assert {asked.hub for asked in machine.hub.asked} == {"huggingface"}


def test_without_a_network_each_hub_and_the_way_out_are_named(machine):
    pytest.importorskip("modelscope_hub", reason="the modelscope extra is not installed")
    answer = machine.resolve(environment=machine.unplugged)
    assert answer.error == "ModelNotFound"
    assert f"from Hugging Face ({machine.nowhere}) failed" in answer.says
    assert f"from ModelScope ({machine.nowhere}) failed" in answer.says
    assert answer.says.count("refused") == 2
    assert "a folder that contains the model" in answer.says
    assert "HF_ENDPOINT" in answer.says
    assert "qwen3-tiny-demo" in answer.says


def test_a_missing_modelscope_client_is_told_when_hugging_face_fails(machine):
    blocked = machine.home / "blocked"
    blocked.mkdir()
    # A module that says it is not there, found before the real one.
    (blocked / "sitecustomize.py").write_text("import sys; sys.modules['modelscope_hub'] = None")
    answer = machine.resolve(environment=machine.unplugged | {"PYTHONPATH": os.pathsep.join([str(blocked), str(ROOT)])})
    assert answer.error == "ModelNotFound"
    assert "ModelScope was not tried" in answer.says
    assert "pip install 'qwen3-integrations[modelscope]'" in answer.says


def test_source_local_asks_no_hub(machine):
    answer = machine.resolve(source="local")
    assert answer.error == "ModelNotFound"
    assert "source='local'" in answer.says
    assert not machine.hub.asked


@pytest.mark.parametrize("source", ["auto", "huggingface"])
def test_offline_no_hub_is_asked_and_the_error_says_why(machine, source):
    answer = machine.resolve(environment={"HF_HUB_OFFLINE": "1"}, source=source)
    assert answer.error == "ModelNotFound"
    assert "HF_HUB_OFFLINE" in answer.says
    assert "Unset it" in answer.says
    assert not machine.hub.asked


def test_offline_the_caches_still_serve(machine, source):
    folder = machine.resolve(source=source).folder
    machine.hub.asked.clear()
    assert machine.resolve(environment={"HF_HUB_OFFLINE": "1"}).folder == folder
    assert not machine.hub.asked


def test_a_name_that_no_hub_can_have_is_a_clear_error(machine, source):
    answer = machine.resolve("Qwen/no such name!", source=source)
    assert answer.error == "ModelNotFound"
    assert "Qwen/no such name!" in answer.says


def test_credentials_in_an_address_are_not_repeated(machine, source):
    address = machine.nowhere.replace("://", "://someone:hush@")
    answer = machine.resolve(environment={"HF_ENDPOINT": address, "MODELSCOPE_ENDPOINT": address}, source=source)
    assert answer.error == "ModelNotFound"
    assert machine.nowhere in answer.says
    assert "hush" not in answer.says
