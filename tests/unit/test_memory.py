"""The memory plan: counting weights from file headers, and the sum."""

from __future__ import annotations

import json
import struct

import pytest
from safetensors.torch import load_file

from qwen3_integrations.errors import ConfigError, ModelNotFound
from qwen3_integrations.models.checkpoint import ModelFiles
from qwen3_integrations.models.config import read_config
from qwen3_integrations.models.memory import (
    CACHE_BLOCK,
    GIB,
    GRAPHS_BYTES,
    PASSES,
    PEERS_BYTES,
    RUNTIME_BYTES,
    plan_memory,
)
from qwen3_integrations.models.shapes import ModelShape

SMALL = ModelShape(layers=28, hidden_size=1024, query_heads=16, kv_heads=8, head_dim=128, intermediate_size=3072)
"""Qwen3-Embedding-0.6B. Source: its config.json."""
LARGE = ModelShape(layers=36, hidden_size=4096, query_heads=32, kv_heads=8, head_dim=128, intermediate_size=12288)
"""Qwen3-Embedding-8B. Source: its config.json."""


def write_weights(folder, tensors, *, name="model.safetensors", **config):
    """A safetensors file whose values are all zero: the header is all that counts."""
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for tensor, (dtype, shape, size) in tensors.items():
        header[tensor] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    (folder / name).write_bytes(struct.pack("<Q", len(text)) + text + bytes(at))
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def stored_bytes(folder, *given):
    return ModelFiles(folder, read_config(folder), classifier=False).stored_bytes(*given)


def test_weights_of_real_files_are_counted_to_the_byte(random_models):
    for (task, size), folder in random_models.items():
        tensors = load_file(folder / "model.safetensors")
        stored = {name: tensor for name, tensor in tensors.items() if not name.startswith("lm_head")}
        assert stored_bytes(folder) == sum(tensor.nbytes for tensor in stored.values()), (task, size)
        assert stored_bytes(folder, 4) == sum(4 * tensor.numel() for tensor in stored.values()), (task, size)


def test_floating_point_weights_are_cast_and_others_are_not(tmp_path):
    tensors = {"a": ("BF16", [10, 3], 60), "b": ("F32", [5], 20), "c": ("I32", [7], 28), "lm_head.weight": ("BF16", [1000], 2000)}
    assert stored_bytes(write_weights(tmp_path, tensors)) == 108
    assert stored_bytes(tmp_path, 2) == 60 + 10 + 28


def test_a_quantised_checkpoint_counts_as_it_is_stored(tmp_path):
    tensors = {"q.weight": ("F8_E4M3", [64, 64], 4096), "q.scale": ("F32", [64], 256), "norm": ("BF16", [64], 128)}
    folder = write_weights(tmp_path, tensors, quantization_config={"quant_method": "fp8"})
    assert stored_bytes(folder, 2) == stored_bytes(folder, 4) == 4480


def test_matrices_that_are_quantised_while_loading_count_a_byte_a_value(tmp_path):
    tensors = {
        "layers.0.mlp.up_proj.weight": ("BF16", [30, 10], 600),
        "layers.0.input_layernorm.weight": ("BF16", [10], 20),
        "embed_tokens.weight": ("BF16", [50, 10], 1000),
    }
    folder = write_weights(tmp_path, tensors)
    for way in ("fp8", "fp8_per_block", "mxfp8"):
        assert stored_bytes(folder, 2, way) == 300 + 20 + 1000
    for way in (None, "bitsandbytes"):
        assert stored_bytes(folder, 2, way) == 600 + 20 + 1000
    quantised = write_weights(tmp_path, tensors, quantization_config={"quant_method": "fp8"})
    assert stored_bytes(quantised, 2, "fp8") == 600 + 20 + 1000


def test_every_shard_counts_once(tmp_path):
    write_weights(tmp_path, {"a": ("BF16", [10], 20), "b": ("BF16", [20], 40)}, name="one.safetensors")
    write_weights(tmp_path, {"c": ("BF16", [30], 60)}, name="two.safetensors")
    named = {"a": "one.safetensors", "b": "one.safetensors", "c": "two.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": named}))
    assert stored_bytes(tmp_path) == 120
    (tmp_path / "two.safetensors").unlink()
    with pytest.raises(ModelNotFound, match=r"lacks two\.safetensors"):
        stored_bytes(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\x01", b"no safetensors at all", struct.pack("<Q", 40) + b"{"])
def test_a_broken_file_is_named(tmp_path, content):
    write_weights(tmp_path, {})
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ConfigError, match=r"model\.safetensors is (empty|not a safetensors file)"):
        stored_bytes(tmp_path)


def test_a_folder_without_safetensors_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickled")
    with pytest.raises(ModelNotFound, match="no safetensors weights"):
        stored_bytes(tmp_path)


def test_the_shape_is_read_with_the_defaults_of_the_format():
    config = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128}
    assert ModelShape.from_config(config) == ModelShape(2, 64, 4, 4, 16, 128)
    with pytest.raises(ConfigError, match="'hidden_size'"):
        ModelShape.from_config({"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 1})


def test_the_sum_of_a_published_model():
    plan = plan_memory("small", SMALL, 1_191_586_816, value_bytes=2, max_model_len=8192, concurrency=4, pass_tokens=8192)
    assert plan.token_bytes == 2 * 28 * 8 * 128 * 2
    assert plan.cache_tokens == 4 * 8192 + CACHE_BLOCK
    assert plan.cache_bytes == plan.cache_tokens * plan.token_bytes
    assert plan.pass_bytes == PASSES * 8192 * (5 * 1024 + 3 * 3072) * 2
    assert plan.runtime_bytes == RUNTIME_BYTES + GRAPHS_BYTES
    assert plan.total_bytes == 1_191_586_816 + plan.cache_bytes + plan.pass_bytes + plan.runtime_bytes
    assert str(plan) == (
        "small needs 6.72 GiB: weights 1.11 GiB + cache 3.51 GiB (32,896 tokens of 112 KiB) "
        "+ forward pass 0.66 GiB (3 of 8,192 tokens) + runtime 1.44 GiB"
    )


MIDDLE = ModelShape(layers=36, hidden_size=2560, query_heads=32, kv_heads=8, head_dim=128, intermediate_size=9728)
"""Qwen3-Embedding-4B. Source: its config.json."""


@pytest.mark.parametrize(
    ("shape", "weights", "wanted", "used"),
    [
        (SMALL, 1_191_586_816, {}, 6426),
        (SMALL, 1_191_586_816, {"concurrency": 1, "enforce_eager": True}, 3648),
        (SMALL, 1_191_586_816, {"enforce_eager": True}, 5930),
        (SMALL, 1_191_586_816, {"enforce_eager": True}, 6451),
        (SMALL, 1_191_586_816, {"max_model_len": 32768, "pass_tokens": 32768, "concurrency": 2, "enforce_eager": True}, 11986),
        (SMALL, 751_184_896, {"enforce_eager": True}, 5474),
        (SMALL, 1_191_586_816, {"tensor_parallel_size": 2, "enforce_eager": True}, 4362),
        (MIDDLE, 8_043_607_040, {}, 15550),
        (MIDDLE, 4_410_247_168, {"enforce_eager": True}, 11204),
    ],
    ids=["compiled", "one prompt", "eager, passes alike", "eager, after 7,000 texts", "32k", "fp8", "two GPUs", "4B", "4B, fp8"],
)
def test_a_plan_covers_what_was_used_and_little_more(shape, weights, wanted, used):
    """MiB that vLLM 0.24 held on an H100 after texts of every length; `tests/gpu/test_serving_gpu.py` measures it."""
    plan = plan_memory("m", shape, weights, value_bytes=2, **wanted)
    assert used <= plan.total_bytes / 2**20 <= 1.15 * used


def test_an_embedder_and_a_reranker_share_one_device():
    """The design's promise: both 0.6B models on 16 GiB, both 8B models on 48 GiB."""
    for shape, weights, device in ((SMALL, 1_191_586_816, 16), (LARGE, 15_134_000_000, 48)):
        plan = plan_memory("one", shape, weights, value_bytes=2)
        plan.check(device * GIB, "the device")
        plan.check(device * GIB - plan.total_bytes, "what the first has left")
        assert 2 * plan.share(device * GIB) <= 1


def test_devices_share_the_work():
    whole = plan_memory("m", LARGE, 16_000, value_bytes=2)
    halves = plan_memory("m", LARGE, 16_000, value_bytes=2, tensor_parallel_size=2)
    assert (halves.weights_bytes, halves.token_bytes) == (8_000, whole.token_bytes // 2)
    assert halves.pass_bytes < whole.pass_bytes
    assert halves.runtime_bytes == whole.runtime_bytes + PEERS_BYTES
    many = plan_memory("m", LARGE, 16_000, value_bytes=2, tensor_parallel_size=16)
    assert many.token_bytes == whole.token_bytes // 8  # no device has less than one of eight heads
    stages = plan_memory("m", LARGE, 16_000, value_bytes=2, pipeline_parallel_size=5)
    assert stages.token_bytes == whole.token_bytes * 8 // 36


def test_the_size_of_the_cache_follows_the_options():
    def tokens(**wanted):
        return plan_memory("m", SMALL, 0, value_bytes=2, **wanted).cache_tokens - CACHE_BLOCK

    assert tokens(concurrency=1, max_model_len=32768) == 32768
    assert tokens(concurrency=3, max_model_len=1000, pass_tokens=100) == 3 * 1024
    assert tokens(concurrency=1, max_model_len=128, pass_tokens=4096) == 4096
    assert plan_memory("m", SMALL, 0, value_bytes=4, cache_value_bytes=1).token_bytes == 2 * 28 * 8 * 128
    given = plan_memory("m", SMALL, 0, value_bytes=2, cache_bytes=GIB)
    assert (given.cache_bytes, given.cache_tokens) == (GIB, GIB // given.token_bytes)


def test_the_error_of_a_plan_that_does_not_fit_has_settings_that_fit():
    plan = plan_memory("small", SMALL, GIB, value_bytes=2)
    plan.check(plan.total_bytes, "device 0")
    fixed = plan.total_bytes - plan.cache_bytes

    def refusal(free):
        with pytest.raises(ConfigError) as caught:
            plan.check(free, "device 0")
        return str(caught.value)

    said = refusal(plan.total_bytes - 1)
    assert said.startswith(str(plan))
    assert f"device 0 has {(plan.total_bytes - 1) / GIB:.2f} GiB free. concurrency=3 with max_model_len=8192 would fit" in said
    assert "concurrency=1 with max_model_len=8192 would fit" in refusal(fixed + 2 * 8192 * plan.token_bytes)
    assert "concurrency=1 with max_model_len=3968 would fit" in refusal(fixed + 4096 * plan.token_bytes)
    assert "smaller or a quantised model" in refusal(GIB)
    for concurrency, length in ((3, 8192), (1, 3968)):  # and it would
        other = plan_memory("small", SMALL, GIB, value_bytes=2, concurrency=concurrency, max_model_len=length, pass_tokens=length)
        assert other.cache_bytes <= (plan.cache_bytes - 1 if concurrency == 3 else 4096 * plan.token_bytes)


def test_the_share_of_a_device_is_never_too_small_for_the_plan():
    plan = plan_memory("small", SMALL, GIB, value_bytes=2)
    for device in (8 * GIB, 24 * GIB, 80 * GIB, 141 * GIB):
        assert plan.total_bytes <= plan.share(device) * device <= plan.total_bytes + device / 999
    assert plan.share(GIB) == 1.0


@pytest.mark.parametrize("concurrency", [0, -1, 1.5, True, "4"])
def test_concurrency_is_a_whole_number(concurrency):
    with pytest.raises(ConfigError, match="concurrency must be a whole number"):
        plan_memory("m", SMALL, 0, value_bytes=2, concurrency=concurrency)
