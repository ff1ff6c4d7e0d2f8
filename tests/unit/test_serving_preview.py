"""The preview of a start, and the command line that starts the same server."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from qwen3_integrations import serving
from qwen3_integrations.cli import app
from qwen3_integrations.serving import ServerOptions
from qwen3_integrations.serving.preview import preview

TINY = {"engine": "vllm", "model": "qwen3-tiny-demo", "dtype": "float32", "max_tokens": 1024}


@pytest.mark.parametrize(
    "options",
    [
        ServerOptions(task="embed"),
        ServerOptions(task="rerank", model="qwen3-tiny-demo", port=8001, served_name="mine", without_key=True),
        ServerOptions(task="embed", prefix_caching=False, enforce_eager=True, gpu_memory_utilization=0.5, quantization="fp8"),
        ServerOptions(task="embed", model="./a folder", uds="/run/a.sock", dtype="float16", extra_args=("--seed", "1", "--x={}")),
        ServerOptions(
            task="rerank", engine="sglang", host="0.0.0.0", tensor_parallel_size=2, revision="v1", source="modelscope", python="py"
        ),
        ServerOptions(task="embed", max_num_seqs=8, max_num_batched_tokens=4096, api_server_count=2, kv_cache_memory_bytes=1 << 30),
    ],
)
def test_the_words_of_options_start_the_same(options, monkeypatch):
    seen = []

    def prepared(options, tell):
        seen.append(options)
        raise RuntimeError("seen")

    monkeypatch.setattr(serving, "prepare", prepared)
    program, *words = options.to_words()
    assert program == "qwen3-integrations"
    words.insert(words.index("--") if "--" in words else len(words), "--dry-run")
    CliRunner().invoke(app, words)
    assert seen == [options]


def test_the_words_hold_no_secret():
    words = ServerOptions(task="embed", api_key="a-secret", env={"TOKEN": "another"}).to_words()
    assert words == ("qwen3-integrations", "serve", "embed")


@pytest.mark.vllm
def test_a_preview_has_plan_devices_and_command():
    seen = preview(ServerOptions(task="embed", **TINY, api_key="a-secret"))
    assert (seen.is_here, seen.refusal) == (True, "")
    assert seen.plan.total_bytes <= seen.devices[0].free_bytes
    assert "--runner" in seen.command
    assert "a-secret" not in repr(seen)


@pytest.mark.vllm
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"concurrency": 100_000_000}, "qwen3-tiny-demo needs"),
        ({"extra_args": ("--model", "x")}, "extra_args can't contain --model"),
        ({"task": "rerank", "model": "Qwen/nothing", "engine": "sglang"}, "sglang is not installed"),
    ],
)
def test_the_reason_against_a_start_is_a_value(options, said):
    seen = preview(ServerOptions(**{"task": "embed"} | TINY | options))
    assert said in seen.refusal
    assert seen.command == ()
    assert (seen.plan is not None) == seen.is_here


@pytest.mark.vllm
def test_a_model_that_is_not_here_is_not_fetched():
    seen = preview(ServerOptions(task="embed", model="Qwen/nobody-has-this"))
    assert (seen.is_here, seen.plan, seen.refusal) == (False, None, "")
    assert seen.devices


@pytest.mark.vllm
def test_sizes_that_are_left_to_the_engine_have_no_plan():
    seen = preview(ServerOptions(task="embed", **TINY, gpu_memory_utilization=0.1))
    assert (seen.is_here, seen.plan, seen.refusal) == (True, None, "")
    assert "0.1" in seen.command
