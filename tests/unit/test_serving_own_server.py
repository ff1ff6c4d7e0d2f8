"""The command line and the memory plan of our own server: pure functions of options, model and version."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import qwen3_integrations
from qwen3_integrations import __version__
from qwen3_integrations.cli import app
from qwen3_integrations.errors import ConfigError, MissingExtra
from qwen3_integrations.models.checkpoint import read_model
from qwen3_integrations.models.devices import Gpu
from qwen3_integrations.models.memory import GIB
from qwen3_integrations.serving import ServerOptions, prepare
from qwen3_integrations.serving.choice import choose
from qwen3_integrations.serving.command import build_command
from qwen3_integrations.serving.folders import check_served_folder
from qwen3_integrations.serving.guard import KEY
from qwen3_integrations.serving.health import parse_load
from qwen3_integrations.serving.installed import Installed, find_server, flags_in
from qwen3_integrations.serving.sizing import devices_for, on_cpu, plan_server
from tests.declared import edit
from tests.models import TINY

OURS = Installed("torch", "1.0", "qwen3-integrations", "python3", frozenset())


def command(key="a-very-secret-key", *, task="embed", installed=OURS, port=8123, **options):
    folder = TINY / {"embed": "embedding", "rerank": "reranker"}[task]
    return build_command(ServerOptions(task=task, engine="torch", **options), read_model(folder, task), installed, port=port, api_key=key)


def test_it_serves_the_model_under_its_name():
    argv = command(model="qwen3-tiny-demo", max_tokens=512).argv
    assert argv[:3] == ("python3", "-m", "qwen3_integrations.server")
    assert dict(zip(argv[3::2], argv[4::2], strict=True)) == {
        "--embed": str(TINY / "embedding"),
        "--embed-name": "qwen3-tiny-demo",
        "--port": "8123",
        "--max-tokens": "512",
        "--host": "127.0.0.1",
    }
    reranker = command(task="rerank", model="qwen3-tiny-demo", served_name="mine", dtype="float32", max_num_batched_tokens=4096).argv
    assert ("--rerank", str(TINY / "reranker"), "--rerank-name", "mine") == reranker[3:7]
    assert " --dtype float32 " in " ".join(reranker)
    assert "--max-batch-tokens 4096" in " ".join(reranker)


def test_the_key_is_in_the_environment_alone():
    made = command()
    assert "a-very-secret-key" not in str(made) + repr(made)
    assert made.env[KEY] == made.env["QWEN3_API_KEY"] == "a-very-secret-key"
    assert "--no-key" not in made.argv


def test_a_server_without_key_does_not_take_the_key_of_this_process():
    made = command(None, without_key=True)
    assert made.argv[-1] == "--no-key"
    assert made.env["QWEN3_API_KEY"] == ""
    assert KEY not in made.env


def test_a_socket_replaces_host_and_port(tmp_path):
    argv = command(uds=tmp_path / "s").argv
    assert argv[argv.index("--uds") + 1] == str(tmp_path / "s")
    assert not {"--host", "--port"} & set(argv)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"tensor_parallel_size": 2}, "tensor_parallel_size has no equivalent in our own server. Leave it out, or use engine='vllm'"),
        ({"enforce_eager": True}, "enforce_eager has no equivalent in our own server"),
        ({"gpu_memory_utilization": 0.5}, "gpu_memory_utilization has no equivalent"),
        ({"quantization": "gptq"}, "quantization can be fp8"),
        ({"lora": "adapter"}, "lora is served by vLLM only"),
        ({"extra_args": ("--no-key",)}, "without_key set the key"),
        ({"extra_args": ("--keys", "file")}, "api_key and without_key set the key"),
        ({"extra_args": ("--engine", "fake")}, "the option engine sets it"),
        ({"extra_args": ("--max-batch-tokens", "1")}, "use the option max_num_batched_tokens"),
        ({"extra_args": ("--embed", "other")}, "use the option model"),
    ],
)
def test_options_that_it_does_not_have_are_refused(options, says):
    with pytest.raises(ConfigError, match=says.replace("(", r"\(")):
        command(**options)


def test_its_own_flags_are_known_from_its_source():
    found = find_server("torch")
    assert str(found) == f"qwen3-integrations {__version__}"
    assert {"embed", "host", "uds", "device", "token_ids", "access_log", "drain_s"} <= found.flags
    assert found.flags == flags_in(Path(qwen3_integrations.__file__).parent, "torch")
    assert command(extra_args=("--token-ids", "--drain-s", "2"), installed=found).argv[-3:] == ("--token-ids", "--drain-s", "2")
    with pytest.raises(ConfigError, match="has no flag --seed"):
        command(extra_args=("--seed", "1"), installed=found)


def test_another_interpreter_without_the_extra_is_named(tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')  # without site-packages
    python.chmod(0o755)
    monkeypatch.setenv("PYTHONPATH", str(Path(qwen3_integrations.__file__).parent.parent))
    with pytest.raises(
        MissingExtra, match=r"our own server needs .*uvicorn.* not installed for .*pip install 'qwen3-integrations\[server,torch\]'"
    ):
        find_server("torch", python)


def test_a_quantised_folder_is_refused_before_the_start(tmp_path):
    folder = Path(shutil.copytree(TINY / "embedding", tmp_path / "m"))
    edit(folder / "config.json", quantization_config={"quant_method": "gptq"})
    with pytest.raises(ConfigError, match=r"is quantised .* use the vllm engine"):
        check_served_folder(ServerOptions(task="embed", model=str(folder)), read_model(folder, "embed"), "torch")


def test_memory_on_a_cpu_has_no_cache():
    prepared = prepare(ServerOptions(task="embed", model="qwen3-tiny-demo", engine="torch", env={"CUDA_VISIBLE_DEVICES": ""}))
    assert prepared.cpu
    assert prepared.plan is not None
    assert prepared.plan.cache_bytes == 0
    assert "cache" not in f"{prepared.plan} {prepared.plan.detail}"
    assert 0 < prepared.plan.total_bytes < 2 * GIB


def test_memory_on_a_gpu_is_the_engines_plan(monkeypatch):
    gpu = Gpu(0, "a GPU", 80 * GIB, 8 * GIB, "580")
    monkeypatch.setattr("qwen3_integrations.serving.programs.program.gpus", lambda visible=None: (gpu,))
    monkeypatch.setattr("qwen3_integrations.serving.programs.torch.gpus", lambda visible=None: (gpu,))
    monkeypatch.setattr("qwen3_integrations.serving.sizing.gpus", lambda visible=None: (gpu,))
    options, files = ServerOptions(task="embed", model="qwen3-tiny-demo", engine="torch"), read_model(TINY / "embedding", "embed")
    assert not on_cpu(options, OURS)
    assert [device.name for device in devices_for(options, OURS)] == ["GPU 0 (a GPU)"]
    plan = plan_server(options, files, OURS)
    assert plan is not None
    assert plan.pass_tokens == 65536
    assert on_cpu(ServerOptions(task="embed", engine="torch", extra_args=("--device", "cpu")), OURS)


def test_its_load_is_read_from_its_metrics():
    text = 'qwen3_queued_requests 2.0\nqwen3_prompts_total{model="m"} 7.0\nqwen3_prompt_tokens_total{model="m"} 70.0\n'
    load = parse_load(text)
    assert (load.running, load.requests, load.prompt_tokens, load.waiting) == (2, 7, 70, None)


def chosen(**options):
    return choose(ServerOptions(task="embed", **options), None)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "an unquantised model on one device"),
        ({"dtype": "bfloat16", "max_tokens": 512, "extra_args": ("--access-log", "--device", "cpu")}, "an unquantised model on one device"),
        ({"quantization": "fp8"}, "an unquantised model on one device"),
        ({"engine": "torch"}, "named by the caller"),
    ],
)
def test_our_own_server_is_chosen_where_it_can_serve(options, reason):
    choice = chosen(**options)
    assert (choice.installed.engine, choice.reason) == ("torch", reason)


@pytest.mark.vllm
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"tensor_parallel_size": 2}, "tensor_parallel_size is an option of vLLM's"),
        ({"prefix_caching": False}, "prefix_caching is an option of vLLM's"),
        ({"lora": "adapter"}, "lora is an option of vLLM's"),
        ({"quantization": "gptq"}, "our own server does not quantise to gptq"),
        ({"extra_args": ("--seed", "1")}, "--seed is no flag of our own server"),
        ({"engine": "vllm"}, "named by the caller"),
    ],
)
def test_vllm_is_chosen_for_what_only_it_has(options, reason):
    choice = chosen(**options)
    assert (choice.installed.engine, choice.reason) == ("vllm", reason)


@pytest.mark.vllm
def test_vllm_is_chosen_for_a_quantised_folder(tmp_path):
    folder = Path(shutil.copytree(TINY / "embedding", tmp_path / "m"))
    edit(folder / "config.json", quantization_config={"quant_method": "gptq"})
    choice = choose(ServerOptions(task="embed", model=str(folder)), read_model(folder, "embed"))
    assert (choice.installed.engine, choice.reason) == ("vllm", "the model is quantised")


def test_without_the_extra_vllm_is_chosen_and_without_vllm_the_extra_is_named(monkeypatch):
    def find(engine, python):
        if engine == "torch" or not has_vllm:
            raise MissingExtra(f"{engine} is not installed")
        return Installed("vllm", "1", "vllm", "python3", frozenset())

    monkeypatch.setattr("qwen3_integrations.serving.choice.find_server", find)
    has_vllm = True
    assert chosen().reason == "the extra server is not installed"
    has_vllm = False
    with pytest.raises(MissingExtra, match="torch is not installed"):
        chosen()


def test_the_choice_is_said_before_a_start():
    words = ["serve", "embed", "qwen3-tiny-demo", "--dry-run"]
    first, _, _ = CliRunner().invoke(app, words).stdout.partition("\n")
    assert first == f"qwen3-integrations {__version__}: an unquantised model on one device"
    shown = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert (shown["program"], shown["reason"]) == (f"qwen3-integrations {__version__}", "an unquantised model on one device")
