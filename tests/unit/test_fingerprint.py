"""Fingerprints: equal for equal models in every process, different for different ones, with the difference named."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from qwen3_integrations import FakeEngine
from qwen3_integrations.core.fingerprint import Fingerprint
from qwen3_integrations.core.types import Task
from qwen3_integrations.engines.torch.engine import TorchEngine
from qwen3_integrations.errors import ConfigError, ModelNotFound
from qwen3_integrations.models.identity import _blocks, _tensors, revision_of, weights_digest
from tests.models import TINY

ENGINE = {"device": "cpu"}


@pytest.fixture
def folder(tmp_path) -> Path:
    return Path(shutil.copytree(TINY / "embedding", tmp_path / "model"))


def fingerprint(folder: Path | str, task: Task = "embed", **options) -> Fingerprint:
    engine = TorchEngine(task, str(folder), **ENGINE | options)
    found = engine.fingerprint()
    engine.close()
    return found


def names(before: Fingerprint, now: Fingerprint) -> list[tuple[str, str]]:
    return [(difference.part, difference.name) for difference in before.differences(now)]


def changed(folder: Path, tensor: str, change) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors[tensor] = change(tensors[tensor].clone())
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def edited(folder: Path, name: str, change) -> None:
    content = json.loads((folder / name).read_text())
    change(content)
    (folder / name).write_text(json.dumps(content))


def test_it_is_the_same_in_another_process_and_another_folder(folder):
    code = (
        "import json, sys\nfrom qwen3_integrations.engines.torch.engine import TorchEngine\n"
        "found = TorchEngine('embed', sys.argv[1], device='cpu').fingerprint()\n"
        "print(json.dumps([found.digest, found.identity_digest, found.to_dict()]))"
    )
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    ran = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True, env=environment)
    digest, identity_digest, plain = json.loads(ran.stdout)
    here = fingerprint("qwen3-tiny-demo")
    assert (digest, identity_digest) == (here.digest, here.identity_digest)
    assert Fingerprint.from_dict(plain) == here
    assert hash(Fingerprint.from_dict(plain)) == hash(here)
    assert len(digest) == 16
    assert not here.partial
    assert str(TINY) not in json.dumps(here.to_dict())


def test_it_states_every_fact():
    found = fingerprint("qwen3-tiny-demo", dtype="bfloat16")
    assert {"task", "weights", "config", "tokenizer", "templates", "pooling", "prompts", "adapter", "width"} == set(found.identity)
    assert found.numerics == {"backend": "torch", "dtype": "bfloat16", "quantisation": None}


def test_another_number_format_changes_numerics_but_not_identity():
    one, other = fingerprint("qwen3-tiny-demo"), fingerprint("qwen3-tiny-demo", dtype="bfloat16")
    (difference,) = one.differences(other)
    assert (difference.part, difference.name, difference.before, difference.now) == ("numerics", "dtype", "float32", "bfloat16")
    assert str(difference) == "dtype was 'float32' and is 'bfloat16'"
    assert one.identity_digest == other.identity_digest
    assert one.digest != other.digest


def test_a_few_rows_of_one_tensor_are_another_identity(folder):
    before = fingerprint(folder)

    def three_rows(tensor):
        tensor[4000:4003] += 0.5
        return tensor

    changed(folder, "embed_tokens.weight", three_rows)
    assert names(before, fingerprint(folder)) == [("identity", "weights")]


@pytest.mark.parametrize(
    ("name", "change", "fact"),
    [
        ("config.json", lambda config: config.update(rms_norm_eps=1e-3), "config"),
        ("tokenizer.json", lambda spec: spec["model"]["merges"].pop(), "tokenizer"),
    ],
)
def test_another_config_or_tokenizer_is_another_identity(folder, name, change, fact):
    before = fingerprint(folder)
    edited(folder, name, change)
    assert names(before, fingerprint(folder)) == [("identity", fact)]


def test_changes_without_effect_on_numbers_keep_the_identity(folder):
    before = fingerprint(folder)
    edited(folder, "config.json", lambda config: config.update(transformers_version="9.9", torch_dtype="float32"))
    tensors = load_file(folder / "model.safetensors")
    ordered = sorted(tensors)
    parts = {"a.safetensors": ordered[::2], "b.safetensors": ordered[1::2]}
    for name, own in parts.items():
        save_file({each: tensors[each] for each in own}, folder / name, metadata={"format": "pt"})
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {each: name for name, own in parts.items() for each in own}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "README.md").write_text("words")
    assert fingerprint(folder) == before


def test_a_folder_that_changes_behind_an_open_engine_does_not_change_its_fingerprint(folder):
    engine = TorchEngine("embed", str(folder), **ENGINE)
    before = engine.fingerprint()
    changed(folder, "norm.weight", lambda tensor: tensor * 2)
    assert engine.fingerprint() == before != fingerprint(folder)
    engine.close()


def test_the_tasks_have_different_identities():
    one, other = FakeEngine("embed").fingerprint(), FakeEngine("rerank").fingerprint()
    assert ("identity", "task") in names(one, other)
    assert names(FakeEngine("embed", dimensions=48).fingerprint(), one) == [("identity", "width")]
    assert FakeEngine("rerank", score=lambda query, document: 0.5).fingerprint().partial


def test_a_hub_s_commit_is_a_fact_and_a_branch_is_none(tmp_path):
    commit = "0123456789abcdef0123456789abcdef01234567"
    paths = {name: tmp_path / "models--a--b" / "snapshots" / name for name in (commit, "f" * 40, "master")}
    for path in paths.values():
        shutil.copytree(TINY / "embedding", path)
    found = {name: fingerprint(path) for name, path in paths.items()}
    assert found[commit].identity["revision"] == commit
    assert "revision" not in found["master"].identity
    assert names(found[commit], found["f" * 40]) == [("identity", "revision")]
    assert names(found[commit], found["master"]) == []  # of a branch it is not known
    assert revision_of(tmp_path / commit) is None


def test_facts_that_one_side_does_not_state_are_not_compared():
    whole = Fingerprint({"weights": "a", "width": 64}, {"backend": "torch", "dtype": "float32"})
    remote = Fingerprint({"width": 64}, {"backend": "http"}, partial=True)
    assert names(whole, remote) == names(remote, whole)[::-1] == [("numerics", "backend")]
    assert str(remote).endswith("(partial)")


def test_samples_of_two_models_differ_and_rounding_does_not():
    one = Fingerprint({}, {}, sample=(1.0, 0.0))
    assert one.differences(Fingerprint({}, {}, sample=(0.99999, 0.001))) == ()
    assert one.differences(Fingerprint({}, {})) == ()
    (difference,) = one.differences(Fingerprint({}, {}, sample=(0.8, 0.6)))
    assert (difference.part, difference.name) == ("identity", "sample")
    assert str(difference).startswith("the vector of a fixed text is 0.2 away")
    assert len(one.differences(Fingerprint({}, {}, sample=(1.0, 0.0, 0.0)))) == 1


@pytest.mark.parametrize("wrong", [{"identity": 1, "numerics": {}, "sample": [], "partial": False}, {}, {"identity": {}, "numerics": {}}])
def test_invalid_fingerprints_are_refused(wrong):
    with pytest.raises((KeyError, TypeError, ValueError)):
        Fingerprint.from_dict(wrong)


@pytest.mark.parametrize("value", [0.5, [1], {"a": 1}, b"x"])
def test_a_fact_is_a_plain_value(value):
    with pytest.raises(TypeError, match="'dtype'"):
        Fingerprint({}, {"dtype": value})


def test_a_fingerprint_copies_its_facts():
    facts = {"width": 64}
    made = Fingerprint(facts, {})
    facts["width"] = 65
    assert made.identity == {"width": 64}


@pytest.fixture
def large(monkeypatch):
    """Small models count as large ones: their tensors are sampled."""
    monkeypatch.setattr("qwen3_integrations.models.identity.WHOLE_MODEL_BYTES", 0)
    monkeypatch.setattr("qwen3_integrations.models.identity.STRIDE_BYTES", 1 << 16)


def test_of_a_large_model_every_contiguous_change_of_a_stride_is_found(folder, large):
    before = weights_digest(folder)
    for first in (0, 1000, 4900):

        def rows(tensor, first=first):
            count = -(-((1 << 16) + (4 << 10)) // (tensor.shape[1] * tensor.element_size()))
            tensor[first : first + count] *= 1.01
            return tensor

        changed(folder, "embed_tokens.weight", rows)
        after = weights_digest(folder)
        assert after != before
        before = after


def test_of_a_large_model_every_tensor_counts(folder, large):
    found = {weights_digest(folder)}
    tensors = load_file(folder / "model.safetensors")
    for name in sorted(tensors):
        changed(folder, name, lambda tensor: tensor * 1.01)
        found.add(weights_digest(folder))
    assert len(found) == 1 + len(tensors)


def test_a_small_part_of_a_large_model_is_read(tmp_path):
    from examples.benchmarks.fingerprint import SHAPES, write_sparse

    total = write_sparse(tmp_path, *SHAPES["8B"])
    tensors = list(_tensors(tmp_path / "model.safetensors"))
    reads = [block for tensor in tensors for block in _blocks(tensor.begin, tensor.end, whole=False)]
    assert total > 15e9
    assert len(reads) < 8_500
    assert sum(size for _, size in reads) < 36 << 20


def test_weights_that_are_missing_or_broken_are_refused(folder):
    (folder / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ConfigError, match="Git LFS pointer"):
        weights_digest(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelNotFound, match="lacks"):
        weights_digest(folder)
