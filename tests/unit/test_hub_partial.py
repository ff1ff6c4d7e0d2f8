"""Caches that are not whole, and the variables that say which hub is meant."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import pytest

from qwen3_integrations.models.hub.caches import describe_model
from tests.models import TINY
from tests.unit.hub_stand_in import stand_in
from tests.unit.test_hub import Machine

OFFLINE = {"HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="module")
def demo():
    folder = TINY / "embedding"
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def machine(tmp_path, demo) -> Iterator[Machine]:
    with stand_in() as hub:
        machine = Machine(tmp_path, hub, "http://127.0.0.1:9")
        hub.publish(machine.model, demo, "main", "master")
        yield machine
        machine.close()


@pytest.mark.parametrize("lost", ["config.json", "tokenizer.json", "model.safetensors"])
@pytest.mark.parametrize("what", ["link", "content"])
def test_offline_the_missing_file_of_a_cached_model_is_named(machine, lost, what):
    folder = machine.resolve(source="huggingface").folder
    path = folder / lost
    (path if what == "link" else path.resolve()).unlink()
    for options, environment in (({}, OFFLINE), ({"source": "local"}, {})):
        answer = machine.resolve(environment=environment, **options)
        assert answer.error == "ModelNotFound"
        assert lost in answer.says
        assert str(folder.parent) in answer.says
    assert lost in describe_model(machine.model, folder).missing
    assert machine.resolve().folder == folder  # the download completes it
    assert path.is_file()


def test_a_cache_without_its_reference_says_which_revision_to_pass(machine):
    folder = machine.resolve(source="huggingface").folder
    reference = folder.parents[1] / "refs" / "main"
    reference.unlink()
    machine.hub.asked.clear()
    answer = machine.resolve(environment=OFFLINE)
    assert answer.error == "ModelNotFound"
    assert str(reference) in answer.says
    assert f"revision='{folder.name}'" in answer.says
    assert machine.resolve(environment=OFFLINE, revision=folder.name).folder == folder
    assert not machine.hub.asked
    assert machine.resolve().folder == folder
    assert reference.is_file()


def test_a_reference_to_a_commit_that_is_not_there_is_said(machine):
    folder = machine.resolve(source="huggingface").folder
    folder.rename(folder.with_name("0" * 40))
    answer = machine.resolve(environment=OFFLINE)
    assert str(folder.parents[1] / "refs" / "main") in answer.says
    assert "0" * 40 in answer.says


def test_a_damaged_index_in_a_cache_is_named_and_breaks_no_list(machine):
    folder = machine.resolve(source="huggingface").folder
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text("{")
    assert "model.safetensors.index.json" in machine.find().says
    found = describe_model(machine.model, folder)
    assert str(folder / "model.safetensors.index.json") in found.damage


def test_a_tokenizer_in_its_older_files_is_whole(machine, demo):
    content = json.loads(demo["tokenizer.json"])
    older = {
        "vocab.json": json.dumps(content["model"]["vocab"]).encode(),
        "merges.txt": "\n".join(" ".join(pair) for pair in content["model"]["merges"]).encode(),
    }
    files = {name: text for name, text in demo.items() if name != "tokenizer.json"} | older
    machine.hub.publish("Qwen/Older", files, "main", "master")
    folder = machine.resolve("Qwen/Older").folder
    assert machine.find("Qwen/Older").folder == folder
    (folder / "merges.txt").unlink()
    assert machine.find("Qwen/Older").folder is None


@pytest.mark.parametrize("setting", ["1", "True", " true "])
def test_vllms_variable_lets_modelscope_go_first(machine, setting):
    pytest.importorskip("modelscope_hub", reason="the modelscope extra is not installed")
    environment = {"VLLM_USE_MODELSCOPE": setting}
    answer = machine.resolve(environment=environment)
    assert answer.folder.is_relative_to(machine.modelscope)
    assert {asked.hub for asked in machine.hub.asked if asked.kind == "file"} == {"modelscope"}
    other = machine.resolve(source="huggingface", environment=environment).folder
    assert other.is_relative_to(machine.hugging_face)
    assert machine.find(environment=environment).folder == answer.folder
    assert machine.find().folder == other
    assert machine.find(environment={"VLLM_USE_MODELSCOPE": "0"}).folder == other


def test_with_vllms_variable_hugging_face_is_still_asked(machine):
    pytest.importorskip("modelscope_hub", reason="the modelscope extra is not installed")
    machine.hub.refuse("modelscope", 404)
    answer = machine.resolve(environment={"VLLM_USE_MODELSCOPE": "1"})
    assert answer.folder.is_relative_to(machine.hugging_face)


@pytest.mark.parametrize("kinds", [("model", "list", "file"), ("file",)])
def test_a_failed_download_from_modelscope_leaves_no_empty_folder(machine, kinds):
    pytest.importorskip("modelscope_hub", reason="the modelscope extra is not installed")
    machine.hub.refuse("modelscope", 404 if "list" in kinds else 403, kinds=kinds)
    assert machine.resolve(source="modelscope").error == "ModelNotFound"
    assert machine.resolve("Qwen/Nowhere", source="modelscope").error == "ModelNotFound"
    left = [path for path in (machine.modelscope / "models").rglob("*") if path.is_dir()]
    assert left == []


def test_an_endpoint_that_is_set_after_the_import_of_the_client_is_heeded(machine, monkeypatch):
    """A notebook sets it in a cell of its own."""
    import huggingface_hub

    from qwen3_integrations.models.hub.downloads import from_hugging_face

    monkeypatch.setenv("HF_ENDPOINT", f"{machine.hub.url}/")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(machine.hugging_face))
    assert machine.hub.url != huggingface_hub.constants.ENDPOINT
    folder = from_hugging_face(machine.model, None)
    try:
        assert (folder / "model.safetensors").is_file()
        assert machine.hub.asked
    finally:
        shutil.rmtree(folder.parents[1])
