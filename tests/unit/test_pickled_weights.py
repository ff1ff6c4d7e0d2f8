"""Pickled weights can run code: no way of naming them gets them loaded."""

from __future__ import annotations

import json
import shutil

import pytest
from typer.testing import CliRunner

from qwen3_integrations import open_engine
from qwen3_integrations.cli import app
from qwen3_integrations.errors import ConfigError, ModelNotFound
from qwen3_integrations.models.checkpoint import read_model
from qwen3_integrations.models.weights import weight_files
from qwen3_integrations.serving import ServerOptions, prepare
from qwen3_integrations.serving.command import build_command
from qwen3_integrations.serving.installed import Installed
from tests.models import TINY

UNREAD = {name: Installed(name, "1.0", name, "python3", frozenset()) for name in ("vllm", "sglang")}
"""Programs whose flags could not be read, so that no flag is refused as unknown."""


def command(*words, engine="vllm", installed=None):
    options = ServerOptions(task="embed", model="m", engine=engine, extra_args=words)
    return build_command(options, read_model(TINY / "embedding", "embed"), installed or UNREAD[engine], port=1, api_key=None)


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
@pytest.mark.parametrize(
    "words",
    [
        ("--load-format", "pt"),
        ("--load-format=pt",),
        ("--load_format", "PT"),
        ("--load-format", "npcache"),
        ("--load-format", "auto", "--load-format", "pt"),
        ("--load-f", "pt"),
        ("--load-form=npcache",),
        ("--load-format", "ipc_cache"),
        ("--load-format", "tensorizer"),
        ("--load-format", "a_plugin_of_somebody"),
        ("--load-format", "remote_instance"),
        ("--load-format",),
        ("--load-format=",),
    ],
)
def test_a_load_format_that_reads_pickles_is_refused_in_all_spellings(engine, words):
    with pytest.raises(ConfigError, match=r"--load-format=.*pickled|must be spelled out: --load-format"):
        command(*words, engine=engine)


@pytest.mark.parametrize("name", ["auto", "safetensors", "fastsafetensors", "runai_streamer", "dummy"])
def test_a_load_format_that_reads_safetensors_is_passed_on(name):
    assert command("--load-format", name).argv[-2:] == ("--load-format", name)
    assert command(f"--load_format={name}").argv[-1] == f"--load_format={name}"


@pytest.mark.parametrize(
    "words",
    [
        ("--trust-remote-code",),
        ("--trust_remote_code",),
        ("--trust-remote-code=true",),
        ("--trust-remote",),
        ("--trust",),
        ("--conf", "flags.yaml"),
        ("--config=flags.yaml",),
        ("--hf-config-path", "elsewhere"),
        ("--tokenizer", "elsewhere"),
        ("--tokenizer-rev", "main"),
        ("--code-revision", "main"),
        ("--model-weights", "elsewhere"),
        ("--speculative-config", '{"model": "elsewhere"}'),
        ("-sc", '{"model": "elsewhere"}'),
        ("--speculative-config.model", "elsewhere"),
        ("--speculative-draft-model-path", "elsewhere"),
        ("--enable-prompt-embeds",),
        ("--enable-mm-embeds",),
        ("--default-mm-loras", '{"image": "elsewhere"}'),
        ("--default-mm-loras.image", "elsewhere"),
        ("--model-impl", "transformers"),
        ("-qfp8",),
    ],
)
def test_flags_that_bring_other_files_or_code_are_refused_in_all_spellings(words):
    with pytest.raises(ConfigError, match="extra_args can't contain"):
        command(*words)


def test_an_abbreviation_of_a_harmless_flag_is_the_programs_own_matter():
    assert command("--see", "1").argv[-2:] == ("--see", "1")


@pytest.mark.parametrize("flag", ["--lora-modules", "--lora-paths"])
def test_an_adapter_must_be_a_folder_with_safetensors(tmp_path, flag):
    pickled, safe = tmp_path / "pickled", tmp_path / "safe"
    for folder, name in ((pickled, "adapter_model.bin"), (safe, "adapter_model.safetensors")):
        folder.mkdir()
        (folder / name).touch()
    assert command(flag, f"one={safe}", json.dumps({"name": "two", "path": str(safe)}), "--seed", "1").argv[-1] == "1"
    for value in (f"one={pickled}", str(pickled), json.dumps({"name": "x", "path": str(pickled)}), "one=owner/of-a-hub"):
        with pytest.raises(ConfigError, match="adapter"):
            command(flag, f"zero={safe}", value)
        with pytest.raises(ConfigError, match="adapter"):
            command(f"{flag}={value}")


def test_every_path_of_an_adapter_must_be_safe(tmp_path):
    """vLLM reads `path`, SGLang `lora_path`."""
    for name, file in (("safe", "adapter_model.safetensors"), ("pickled", "adapter_model.bin")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).touch()
    for one, other in (("safe", "pickled"), ("pickled", "safe")):
        given = {"name": "x", "path": str(tmp_path / one), "lora_path": str(tmp_path / other)}
        with pytest.raises(ConfigError, match="adapter"):
            command("--lora-modules", json.dumps(given))


@pytest.mark.vllm
def test_embedded_vllm_refuses_a_second_model():
    """Its weights would be read from where nobody has looked for pickles."""
    with pytest.raises(ConfigError, match="speculative_config"):
        open_engine("embed", "qwen3-tiny-demo", backend="vllm", speculative_config={"model": "somewhere", "load_format": "pt"})


@pytest.fixture
def pickled(tmp_path):
    """A model whose weights are pickled."""
    folder = tmp_path / "pickled"
    shutil.copytree(TINY / "embedding", folder)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    return folder


SAID = r"no safetensors weights, only pickled ones \(pytorch_model\.bin\).*save_pretrained"


@pytest.mark.vllm
@pytest.mark.parametrize("more", [[], ["--gpu-memory-utilization", "0.1"], ["--kv-cache-memory-bytes", "1000000"]])
def test_a_dry_run_refuses_a_folder_of_pickled_weights(pickled, more):
    shown = CliRunner().invoke(app, ["serve", "embed", str(pickled), "--dry-run", *more])
    assert shown.exit_code
    assert "pytorch_model.bin" in shown.stderr
    assert "save_pretrained" in shown.stderr


@pytest.mark.vllm
def test_a_server_of_pickled_weights_is_not_prepared(pickled):
    with pytest.raises(ModelNotFound, match=SAID):
        prepare(ServerOptions(task="embed", model=str(pickled), gpu_memory_utilization=0.1))


@pytest.mark.parametrize("backend", ["torch", pytest.param("vllm", marks=pytest.mark.vllm)])
def test_no_engine_opens_pickled_weights(pickled, backend):
    with pytest.raises(ModelNotFound, match=SAID):
        open_engine("embed", str(pickled), backend=backend)


@pytest.mark.vllm
@pytest.mark.parametrize("name", ["pt", "PT", "npcache", "NpCache", "ipc_cache", "tensorizer", "a_plugin_of_somebody", None, 3])
def test_embedded_vllm_refuses_a_load_format_that_reads_pickles(name):
    with pytest.raises(ConfigError, match=r"load_format=.*pickled"):
        open_engine("embed", "qwen3-tiny-demo", backend="vllm", load_format=name)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "../elsewhere/model.safetensors", "/model.safetensors", "sub/model.safetensors", ""])
def test_an_index_may_name_safetensors_files_beside_it_alone(tmp_path, name):
    (tmp_path / "pytorch_model.bin").touch()
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(ModelNotFound, match=r"index\.json names .* no safetensors file of this folder"):
        weight_files(tmp_path)


@pytest.mark.parametrize("content", ["{}", '{"weight_map": {}}', '{"weight_map": []}', "[]", "{", "null", "[" * 100_000])
def test_an_index_that_names_no_file_does_not_lead_to_pickles(tmp_path, content):
    (tmp_path / "pytorch_model.bin").touch()
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ModelNotFound, match=r"index\.json names no file of weights"):
        weight_files(tmp_path)


def test_an_index_may_not_name_a_hidden_file_that_servers_do_not_look_for(tmp_path):
    for name in ("pytorch_model.bin", ".model.safetensors"):
        (tmp_path / name).touch()
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": ".model.safetensors"}}')
    with pytest.raises(ModelNotFound, match="no safetensors file of this folder"):
        weight_files(tmp_path)


@pytest.mark.parametrize("content", ["{", "[" * 100_000])
def test_a_list_of_layers_that_can_not_be_read_is_said(tmp_path, content):
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "modules.json").write_text(content)
    with pytest.raises(ModelNotFound, match=r"modules\.json can't be read"):
        weight_files(tmp_path)


def test_pickles_beside_safetensors_do_no_harm(tmp_path):
    for name in ("model.safetensors", "pytorch_model.bin", "training_args.bin"):
        (tmp_path / name).touch()
    assert [path.name for path in weight_files(tmp_path)] == ["model.safetensors"]


def test_a_pickled_layer_of_sentence_transformers_is_refused(tmp_path):
    """vLLM loads the layers that `modules.json` names, too."""
    shutil.copytree(TINY / "embedding", tmp_path / "m")
    modules = json.loads((tmp_path / "m" / "modules.json").read_text())
    modules.append({"idx": 9, "name": "9", "path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    (tmp_path / "m" / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "m" / "2_Dense").mkdir()
    (tmp_path / "m" / "2_Dense" / "pytorch_model.bin").touch()
    with pytest.raises(ModelNotFound, match=r"2_Dense.*pytorch_model\.bin"):
        weight_files(tmp_path / "m")
    (tmp_path / "m" / "2_Dense" / "model.safetensors").touch()
    assert [path.name for path in weight_files(tmp_path / "m")] == ["model.safetensors"]
