"""GPU paths of the torch engine on a CPU: attention by a kernel for packed sequences, and the Triton kernels.

FlashAttention needs a GPU, so a plain kernel with the same contract replaces it. Triton's interpreter runs the real Triton kernels.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from qwen3_integrations import Reranker
from qwen3_integrations.engines.torch import attention, flash_attention
from qwen3_integrations.engines.torch.engine import TorchEngine
from qwen3_integrations.engines.torch.kernel_selection import first_correct
from qwen3_integrations.engines.torch.qwen3 import Qwen3, plain_functions
from qwen3_integrations.models.checkpoint import read_model
from tests.contract.cases import TOLERANCE, check_embeddings, check_scores
from tests.models import SHAPES
from tests.reference import reference_scores
from tests.texts import PLAIN

TRITON = "QWEN3_TEST_TRITON"
"""Environment variable: a folder with triton, installed by `pip install --no-deps --target`. In the normal environment, vLLM's CPU build
would try to use triton."""


def packed_attention(calls):
    """A `Kernel` that records its calls."""

    def kernel(query, key, value, lengths, scale, causal):
        group = query.shape[1] // key.shape[1]
        out, lse = torch.zeros_like(query), torch.full((query.shape[1], len(query)), -torch.inf)
        queries, keys = lengths.cu_seqlens_q.tolist(), lengths.cu_seqlens_k.tolist()
        assert len(queries) == len(keys)
        assert (queries[0], queries[-1], keys[0], keys[-1]) == (0, len(query), 0, len(key))
        assert max(np.diff(queries)) <= lengths.max_seqlen_q
        assert max(np.diff(keys)) <= lengths.max_seqlen_k
        for begin, end, first, behind in zip(queries, queries[1:], keys, keys[1:], strict=False):
            own = key[first:behind].repeat_interleave(group, dim=1)
            logits = torch.einsum("qhw,khw->hqk", query[begin:end], own).float() * scale
            if causal:
                assert end - begin == behind - first
                logits = logits.masked_fill(torch.ones(logits.shape[1:]).triu(1).bool(), -torch.inf)
            lse[:, begin:end] = logits.logsumexp(dim=2)
            seen = value[first:behind].repeat_interleave(group, dim=1).float()
            out[begin:end] = torch.einsum("hqk,khw->qhw", logits.softmax(dim=2), seen).to(out.dtype)
        calls.append((causal, len(query), len(key)))
        return out, lse

    return kernel


@pytest.fixture
def calls(monkeypatch):
    """Gives the engine the replacement kernel; the list of its calls: causal, number of queries, number of keys."""
    made = []
    monkeypatch.setattr(flash_attention, "kernel_for", lambda *_: packed_attention(made))
    return made


@pytest.mark.parametrize("size", SHAPES)
def test_attention_by_a_kernel_equals_the_reference(size, calls, random_models):
    with closing(TorchEngine("embed", str(random_models["embed", size]), device="cpu", dtype="float32")) as engine:
        check_embeddings(engine, random_models["embed", size])
    with closing(TorchEngine("rerank", str(random_models["rerank", size]), device="cpu", dtype="float32")) as engine:
        check_scores(engine, random_models["rerank", size])
    assert calls


@pytest.mark.parametrize("budget", [1, 300, 100_000])
def test_prefixes_of_several_queries_share_one_pass(budget, calls, random_reranker):
    pairs = [(query, document) for query in ("one", "a longer query of several words", "") for document in PLAIN]
    with closing(TorchEngine("rerank", str(random_reranker), device="cpu", dtype="float32", max_batch_tokens=budget)) as engine:
        assert np.abs(Reranker(engine).score(pairs) - reference_scores(random_reranker, pairs)).max() < TOLERANCE
    whole = [queries for causal, queries, keys in calls if causal]
    prefixes = [keys for causal, queries, keys in calls if not causal and queries > keys]
    assert bool(prefixes) == (budget > 1)  # the suffixes of many documents attend to the few tokens of their prefixes
    assert all(keys < max(whole) for keys in prefixes)


def test_kernels_that_fail_or_give_other_results_are_not_used(tiny_embedder, caplog):
    def missing():
        raise ImportError("no compiler")

    model = Qwen3(read_model(tiny_embedder, "embed"), torch.device("cpu"), torch.bfloat16)
    right = plain_functions._replace(angle_dtype=torch.float16)

    def wrong_qkv(states, weight, norms, cos, sin, epsilon, *, but=0):
        """Wrong in `but` heads after those with RoPE, or (0) with sine and cosine exchanged."""
        out = plain_functions.qkv_norm_rope(states, weight, norms, *((cos, sin) if but else (sin, cos)), epsilon)
        out[:, len(norms) : len(norms) + but] *= 1.1
        return out

    def late(states, weight):
        """Wrong in the last of many tokens only."""
        out = plain_functions.gate_up_swiglu(states, weight)
        out[4096:] = 0
        return out

    def mixed_up(batch, device, scale, group, fallback):
        """Attention to the prefixes of other texts."""
        return attention.PlainAttention(replace(batch, prefix_of=batch.prefix_of[::-1]), device, scale)

    wrong = [
        right._replace(qkv_norm_rope=wrong_qkv),
        right._replace(qkv_norm_rope=partial(wrong_qkv, but=1)),
        right._replace(gate_up_swiglu=lambda *given: 1.05 * plain_functions.gate_up_swiglu(*given)),
        right._replace(gate_up_swiglu=late),
        right._replace(merge_attn_states=lambda out, lse, other, other_lse: plain_functions.merge_attn_states(out, other_lse, other, lse)),
        right._replace(gate_up_swiglu=lambda *given: plain_functions.gate_up_swiglu(*given) * torch.nan),
    ]
    right = right._replace(short_attention=lambda *given: given[-1])
    misdirected = right._replace(short_attention=mixed_up)
    for functions, expected in [
        *((each, plain_functions) for each in wrong),
        (misdirected, misdirected._replace(short_attention=None)),
        (right, right),
    ]:
        candidates = {missing: (), lambda functions=functions: functions: (33, 4097)}
        assert first_correct(candidates, model, torch.device("cpu"), torch.bfloat16) == expected
    assert caplog.text.count("no compiler") == 8
    assert caplog.text.count("differs from PyTorch's") == 7


def test_triton_s_kernels_equal_the_reference():
    """In a process of its own: Triton chooses between compiler and interpreter at its import."""
    folder = os.environ.get(TRITON)
    if not folder:
        if os.environ.get("CI"):
            pytest.fail(f"{TRITON} must name a folder with triton: see noxfile.py")
        pytest.skip(f"{TRITON} names no folder with triton: see noxfile.py")
    root = Path(__file__).parents[2]
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join([str(root), folder])}
    command = [sys.executable, "-m", "tests.contract.interpreted_kernels"]
    ended = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.split() == [
        "qkv_norm_rope", "gate_up_swiglu", "short_attention", "norm", "apply_rope", "swiglu", "merge_attn_states",
        "fp8_quantise", "fp8_norm", "fp8_swiglu", "fp8_functions", "embed", "rerank",
    ]  # fmt: skip
