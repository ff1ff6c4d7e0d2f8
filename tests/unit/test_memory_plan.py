"""The torch engine's memory plan: arithmetic alone."""

from __future__ import annotations

import pytest

from qwen3_integrations.engines.torch.memory_plan import MAX_PASS_TOKENS, MIN_PASS_TOKENS, plan_passes
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.memory import GIB
from qwen3_integrations.models.shapes import ModelShape

SMALL = ModelShape(layers=28, hidden_size=1024, query_heads=16, kv_heads=8, head_dim=128, intermediate_size=3072)
LARGE = ModelShape(layers=36, hidden_size=4096, query_heads=32, kv_heads=8, head_dim=128, intermediate_size=12288)


def test_the_plan_of_the_small_model_is_near_the_measured_memory():
    plan = plan_passes("small", SMALL, 1136 << 20, 2, 79 * GIB, None)
    assert plan.pass_tokens == MAX_PASS_TOKENS
    assert 3710 << 20 < plan.total_bytes < 1.17 * (3710 << 20)  # held on an H100, at every length from 128 to 32,768
    assert "65,536 + 4,096 tokens" in str(plan)


def test_fused_products_need_no_room_for_gate_and_up():
    plan, fused = (plan_passes("small", SMALL, 1136 << 20, 2, 79 * GIB, None, products=products) for products in ("plain", "fused"))
    assert plan.token_bytes - fused.token_bytes == 2 * (2 * 3072 - 3072)  # the product then has a block of its own
    assert fused.captured_token_bytes == plan.token_bytes
    assert 3.13 * GIB < fused.total_bytes < 1.25 * 3.13 * GIB  # held on an H200 with the residual in bfloat16
    assert "4,096 tokens of 24.9 and 30.9 KiB" in str(fused)
    assert "and" not in str(plan)


def test_the_plan_in_fp8_is_near_the_measured_memory():
    plan = plan_passes("small", SMALL, 72 << 20, 2, 79 * GIB, None, products="fp8")
    assert 3.957 * GIB < plan.total_bytes < 1.15 * 3.957 * GIB  # held on an H200 at every length, with four layers


def test_less_free_memory_gives_smaller_passes():
    room = [plan_passes("large", LARGE, 15 * GIB, 2, free * GIB, None) for free in (18, 22, 30, 79)]
    tokens = [plan.pass_tokens for plan in room]
    assert tokens == sorted(tokens)
    assert MIN_PASS_TOKENS <= tokens[0] < tokens[2] < MAX_PASS_TOKENS
    assert all(plan.total_bytes <= free * GIB for plan, free in zip(room, (18, 22, 30, 79), strict=True))


def test_a_plan_that_does_not_fit_is_refused_with_the_sum():
    with pytest.raises(ConfigError, match=r"large needs .* GiB: weights 15\.00 GiB .* has 15\.50 GiB free. .*smaller model"):
        plan_passes("large", LARGE, 15 * GIB, 2, int(15.5 * GIB), None)
    with pytest.raises(ConfigError, match="max_batch_tokens"):
        plan_passes("small", SMALL, GIB, 2, 4 * GIB, 1_000_000)
