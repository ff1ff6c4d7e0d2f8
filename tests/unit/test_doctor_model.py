"""`doctor MODEL`: what a folder is, what was taken from which file, and which engines can run it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from qwen3_integrations.cli import app
from qwen3_integrations.diagnosis import diagnose_model
from qwen3_integrations.errors import ConfigError, ModelNotFound
from tests.models import TINY, declare, write_classifier


def facts(folder, *words):
    shown = CliRunner().invoke(app, ["doctor", str(folder), "--json", *words])
    assert shown.exit_code == 0, shown.output
    told = json.loads(shown.stdout)
    return told, {fact["name"]: (fact["value"], fact["source"]) for fact in told["facts"]}


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(TINY / "embedding", tmp_path / "m")
    return tmp_path / "m"


def test_an_embedding_model_is_described(folder):
    told, found = facts(folder)
    assert (told["folder"], told["task"]) == (str(folder), "embed")
    assert found["task"] == ("embed", "modules.json lists a Pooling")
    assert found["pooling"] == ("last token", "modules.json")
    assert found["layers behind it"] == ("Normalize", "modules.json")
    assert found["end tokens"] == ("<|endoftext|>", "tokenizer.json")
    assert found["prompt of queries"][1] == "config_sentence_transformers.json"
    assert found["longest text"] == (32768, "config.json")
    assert found["names of tensors"] == ("without a prefix", "model.safetensors")
    assert told["engines"][0] == {"engine": "torch", "runs": True, "reason": None}


def test_what_the_folder_declares_is_shown_with_its_source(folder):
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": "mean", "include_prompt": False}))
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": {"query": "query: "}}))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 512, "do_lower_case": True}))
    declare(folder, head_dim=None, dtype="float32")
    save_file(
        {f"_orig_mod.{name}": tensor for name, tensor in load_file(folder / "model.safetensors").items()}, folder / "model.safetensors"
    )
    _, found = facts(folder)
    assert found["pooling"] == ("mean without the prompt", "modules.json")
    assert found["prompt of queries"] == ("query: ", "config_sentence_transformers.json")
    assert found["prompt of documents"] == (None, "the model card")
    assert found["longest text"] == (512, "sentence_bert_config.json")
    assert found["lower case"] == (True, "sentence_bert_config.json")
    assert found["number format"] == ("float32", "config.json")
    assert found["sizes"][1] == "config.json; head_dim from the shapes of the tensors"
    assert found["names of tensors"] == ("with '_orig_mod.'", "model.safetensors")


def test_a_dense_layer_is_shown(folder):
    modules = json.loads((folder / "modules.json").read_text())
    modules.insert(2, {"idx": 9, "name": "9", "path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "2_Dense").mkdir()
    config = {"in_features": 160, "out_features": 8, "bias": False, "activation_function": "torch.nn.modules.linear.Identity"}
    (folder / "2_Dense" / "config.json").write_text(json.dumps(config))
    save_file({"linear.weight": torch.ones(8, 160)}, folder / "2_Dense" / "model.safetensors")
    _, found = facts(folder)
    assert found["layers behind it"] == ("Dense 160 to 8, Identity, Normalize", "modules.json")
    assert found["dimensions"] == (8, "modules.json")


def test_rerankers_are_described(tmp_path):
    told, found = facts("qwen3-tiny-demo", "--task", "rerank")
    assert told["task"] == "rerank"
    assert "'yes' and 'no'" in found["head"][0]
    converted = write_classifier(tmp_path / "m", TINY / "reranker", names=("yes", "no"), order=("yes", "no"), bias=(0.0, 0.0))
    told, found = facts(converted)
    assert told["task"] == "rerank"
    assert found["head"][0] == "score.weight, 2 rows, with a bias"
    assert found["'yes' is"] == ("row 0", "config.json")


def test_an_engine_that_can_not_run_the_model_says_why(folder):
    declare(folder, quantization_config={"quant_method": "gptq", "bits": 4})
    told, found = facts(folder)
    assert found["quantisation"] == ("gptq", "config.json")
    assert not told["engines"][0]["runs"]
    assert "quantization_config in config.json" in told["engines"][0]["reason"]


def test_for_people_each_fact_is_a_line(folder):
    shown = CliRunner().invoke(app, ["doctor", str(folder)])
    assert shown.exit_code == 0
    assert "  pooling              last token  (modules.json)" in shown.stdout.splitlines()
    assert any(line.startswith("  engine torch         can run it") for line in shown.stdout.splitlines())


def test_what_is_wrong_is_one_line_and_an_exit_code(folder):
    (folder / "model.safetensors").write_bytes(b"")
    for words in (["doctor", str(folder)], ["doctor", str(folder), "--json"]):
        shown = CliRunner().invoke(app, words)
        assert shown.exit_code == 2
        assert shown.stdout == ""
        assert f"error: {folder / 'model.safetensors'} is empty" in shown.stderr
    with pytest.raises(ConfigError, match="is empty"):
        diagnose_model(folder)


def test_a_model_that_is_not_here_says_how_to_get_it(tmp_path):
    with pytest.raises(ModelNotFound, match="download Qwen/Nowhere"):
        diagnose_model("Qwen/Nowhere")
    with pytest.raises(ModelNotFound, match="does not exist"):
        diagnose_model(tmp_path / "nowhere")


def test_a_model_of_the_other_task_is_said_to_be_one(folder):
    with pytest.raises(ConfigError, match="embedding model"):
        diagnose_model(folder, "rerank")


def test_a_diagnosis_of_a_model_imports_no_pytorch(folder):
    load = f"from qwen3_integrations.diagnosis import diagnose_model; diagnose_model({str(folder)!r})"
    program = f"import sys; {load}; print('torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"
