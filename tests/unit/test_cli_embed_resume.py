"""An interrupted `embed` continues only with the model that started the file: one file, one model, one number format."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from qwen3_integrations import Embedder
from qwen3_integrations.cli import app
from qwen3_integrations.engines.torch.engine import TorchEngine
from tests.models import TINY
from tests.server.stand_in import StandIn

TEXTS = [f"text number {number} of a list" for number in range(12)]
TORCH = ("--backend", "torch", "--option", "device=cpu", "--chunk", "2")
FAKE = ("--backend", "fake", "--chunk", "2")


class Job:
    """A file of lines whose first run stops at a bad line, which is repaired afterwards."""

    def __init__(self, folder: Path) -> None:
        self.path, self.out = folder / "in.jsonl", folder / "out.npy"
        self.part = folder / "out.npy.part"

    def begin(self, *arguments: str) -> None:
        lines = [json.dumps({"text": text}) for text in TEXTS]
        self.path.write_text("\n".join([*lines[:6], "broken", ""]))
        assert "line 7" in self.run(*arguments, code=2)
        assert self.part.exists()
        self.path.write_text("\n".join([*lines, ""]))

    def run(self, *arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, ["embed", str(self.path), "--output", str(self.out), *arguments])
        assert result.exit_code == code, result.output
        return result.stderr

    def refused(self, *arguments: str) -> str:
        """The message of a refused run, which must leave the files unchanged."""
        before = self.part.read_bytes()
        said = self.run(*arguments, code=2)
        assert self.part.read_bytes() == before
        assert not self.out.exists()
        assert "--restart" in said
        return said

    def continues(self, *arguments: str) -> np.ndarray:
        assert "after 6 from an earlier run" in self.run(*arguments)
        return np.load(self.out)


@pytest.fixture
def job(tmp_path) -> Job:
    return Job(tmp_path)


@pytest.fixture
def folder(tmp_path) -> Path:
    return Path(shutil.copytree(TINY / "embedding", tmp_path / "model"))


def vectors(model: str, dtype: str) -> np.ndarray:
    engine = TorchEngine("embed", model, device="cpu", dtype=dtype)
    found = Embedder(engine).embed_documents(TEXTS)
    engine.close()
    return found


def test_another_number_format_is_refused_and_named(job):
    model = ("--model", "qwen3-tiny-demo", *TORCH)
    job.begin(*model, "--option", "dtype=float32")
    assert "dtype was 'float32' and is 'bfloat16'" in job.refused(*model, "--option", "dtype=bfloat16")
    made = job.continues(*model)  # auto is float32 on a CPU
    np.testing.assert_allclose(made, vectors("qwen3-tiny-demo", "float32"), atol=1e-5)


def test_a_restart_begins_again_in_the_other_format(job):
    model = ("--model", "qwen3-tiny-demo", *TORCH)
    job.begin(*model, "--option", "dtype=float32")
    job.run(*model, "--option", "dtype=bfloat16", "--restart")
    np.testing.assert_allclose(np.load(job.out), vectors("qwen3-tiny-demo", "bfloat16"), atol=0.02)


def test_another_backend_is_refused(job):
    model = ("--model", "qwen3-tiny-demo")
    job.begin(*model, *TORCH)
    assert "backend was 'torch' and is 'fake'" in job.refused(*model, *FAKE)


def test_another_rule_of_the_double_is_refused(job):
    job.begin(*FAKE, "--option", "dimensions=48")
    assert "width was 48 and is 1024" in job.refused(*FAKE)


def nudge(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in sorted(tensors) if name.endswith("v_proj.weight"))
    tensors[name] = tensors[name] * 1.01
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def edit(name: str, change: Callable[[dict], None]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))

    return apply


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (nudge, "weights was"),
        (edit("config.json", lambda config: config.update(rms_norm_eps=1e-3)), "config was"),
        (edit("tokenizer.json", lambda spec: spec["model"]["merges"].pop()), "tokenizer was"),
    ],
)
def test_a_folder_of_the_same_name_that_has_changed_is_refused(job, folder, change, says):
    model = ("--model", str(folder), *TORCH)
    job.begin(*model)
    change(folder)
    assert says in job.refused(*model)


def test_a_folder_may_move(job, folder):
    job.begin("--model", str(folder), *TORCH)
    job.continues("--model", str(folder.rename(folder.with_name("moved"))), *TORCH)


def test_another_folder_with_other_weights_is_refused(job, folder):
    job.begin("--model", str(folder), *TORCH)
    moved = folder.rename(folder.with_name("moved"))
    nudge(moved)
    assert "weights was" in job.refused("--model", str(moved), *TORCH)


def test_a_change_without_effect_on_numbers_is_the_same_model(job, folder):
    model = ("--model", str(folder), *TORCH)
    job.begin(*model)
    edit("config.json", lambda config: config.update(transformers_version="9.9"))(folder)
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}  # the same tensors in two files
    for name, own in parts.items():
        save_file({each: tensors[each] for each in own}, folder / name, metadata={"format": "pt"})
    index = {"weight_map": {each: name for name, own in parts.items() for each in own}}
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    job.continues(*model)


@pytest.mark.parametrize("made_by", ["missing", None, {}, {"identity": 1, "numerics": {}, "sample": []}])
def test_a_note_that_does_not_say_the_model_is_refused(job, made_by):
    job.begin(*FAKE)
    path = Path(f"{job.part}.json")
    note = json.loads(path.read_bytes())
    del note["made_by"]
    path.write_text(json.dumps(note if made_by == "missing" else note | {"made_by": made_by}))
    assert "does not say what it was made from" in job.refused(*FAKE)


@pytest.fixture
def stand_ins():
    """(folder of a model, ...) -> a server of it, under one name."""
    with ExitStack() as stack:
        yield lambda *words, **more: stack.enter_context(StandIn(*words, **more))


def over_http(server: StandIn, *more: str) -> tuple[str, ...]:
    return ("--model", "served", "--base-url", server.url, "--option", "handshake=off", "--chunk", "2", *more)


def test_a_server_may_move_and_its_model_may_not_change(job, stand_ins, tiny_embedder, random_embedder):
    first, moved = stand_ins(tiny_embedder), stand_ins(tiny_embedder, dtype="bfloat16", loaded_from=f"/elsewhere/{tiny_embedder.name}")
    other = stand_ins(random_embedder, loaded_from=str(tiny_embedder))
    job.begin(*over_http(first))
    said = job.refused(*over_http(other))
    assert "the vector of a fixed text is" in said or "width was" in said
    job.continues(*over_http(moved))  # its number format, bfloat16, is not known


def test_a_fine_tuned_model_with_the_same_name_is_detected(job, stand_ins, folder):
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in sorted(tensors, reverse=True) if name.endswith("down_proj.weight"))
    first = stand_ins(folder)
    job.begin(*over_http(first))
    tensors[name] = tensors[name] * 1.5
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert "the vector of a fixed text is" in job.refused(*over_http(stand_ins(folder)))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"loaded_from": "/models/step-1000"}, "loaded from was 'embedding' and is 'step-1000'"),
        ({"loaded_from": None}, "loaded from was 'embedding' and is None"),
        ({"owned_by": "someone"}, "dialect was 'vllm' and is 'openai'"),
        ({"context": 64}, "budget in tokens was 1023 and is 63"),
    ],
)
def test_a_server_that_describes_itself_otherwise_is_refused(job, stand_ins, tiny_embedder, words, says):
    job.begin(*over_http(stand_ins(tiny_embedder)))
    assert says in job.refused(*over_http(stand_ins(tiny_embedder, **words)))


def test_a_tokenizer_that_was_not_there_before_is_refused(job, stand_ins, tiny_embedder):
    """With a tokenizer, texts are cut here and control tokens are sent as ids, so such texts get other numbers."""
    server = stand_ins(tiny_embedder)
    job.begin(*over_http(server))
    assert "tokenizer was None and is '" in job.refused(*over_http(server, "--option", f"tokenizer={tiny_embedder}"))


def test_a_file_started_with_a_server_is_not_continued_in_process(job, stand_ins, tiny_embedder):
    server = stand_ins(tiny_embedder, name="qwen3-tiny-demo")
    job.begin("--model", "qwen3-tiny-demo", "--base-url", server.url, "--option", "handshake=off", "--chunk", "2")
    assert "backend was 'http' and is 'torch'" in job.refused("--model", "qwen3-tiny-demo", *TORCH)
