"""What the torch engine does on a GPU, as far as a CPU can show it: its attention by a kernel for packed sequences, and its Triton kernels.

FlashAttention needs a GPU: a plain kernel of the same contract stands in for it. Triton's interpreter computes the real kernels.
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
from qwen3_integrations.engines.torch import attention
from qwen3_integrations.engines.torch.engine import TorchEngine
from qwen3_integrations.engines.torch.kernel_selection import first_right
from qwen3_integrations.engines.torch.qwen3 import Qwen3, plain_parts
from qwen3_integrations.models.checkpoint import read_model
from tests.contract.cases import TOLERANCE, check_embeddings, check_scores
from tests.models import SHAPES
from tests.reference import reference_scores
from tests.texts import PLAIN

TRITON = "QWEN3_TEST_TRITON"
"""Names a folder in which `pip install --no-deps --target` has put triton: beside it, vLLM's CPU build would try to use it."""


def packed_attention(calls):
    """A `Kernel` that notes what it was called with."""

    def kernel(query, key, value, bounds, scale, causal):
        group = query.shape[1] // key.shape[1]
        out, weight = torch.zeros_like(query), torch.full((query.shape[1], len(query)), -torch.inf)
        queries, keys = bounds.query.tolist(), bounds.key.tolist()
        assert len(queries) == len(keys)
        assert (queries[0], queries[-1], keys[0], keys[-1]) == (0, len(query), 0, len(key))
        assert max(np.diff(queries)) <= bounds.longest_query
        assert max(np.diff(keys)) <= bounds.longest_key
        for begin, end, first, behind in zip(queries, queries[1:], keys, keys[1:], strict=False):
            own = key[first:behind].repeat_interleave(group, dim=1)
            logits = torch.einsum("qhw,khw->hqk", query[begin:end], own).float() * scale
            if causal:
                assert end - begin == behind - first
                logits = logits.masked_fill(torch.ones(logits.shape[1:]).triu(1).bool(), -torch.inf)
            weight[:, begin:end] = logits.logsumexp(dim=2)
            seen = value[first:behind].repeat_interleave(group, dim=1).float()
            out[begin:end] = torch.einsum("hqk,khw->qhw", logits.softmax(dim=2), seen).to(out.dtype)
        calls.append((causal, len(query), len(key)))
        return out, weight

    return kernel


@pytest.fixture
def calls(monkeypatch):
    """Puts the stand-in into the engine; what it was called with: causal, queries, keys."""
    made = []
    monkeypatch.setattr(attention, "kernel_for", lambda *_: packed_attention(made))
    return made


@pytest.mark.parametrize("size", SHAPES)
def test_attention_by_a_kernel_equals_the_reference(size, calls, random_models):
    with closing(TorchEngine("embed", str(random_models["embed", size]), device="cpu", dtype="float32")) as engine:
        check_embeddings(engine, random_models["embed", size])
    with closing(TorchEngine("rerank", str(random_models["rerank", size]), device="cpu", dtype="float32")) as engine:
        check_scores(engine, random_models["rerank", size])
    assert calls


@pytest.mark.parametrize("budget", [1, 300, 100_000])
def test_heads_that_several_queries_share_in_one_pass(budget, calls, random_reranker):
    pairs = [(query, document) for query in ("one", "a longer query of several words", "") for document in PLAIN]
    with closing(TorchEngine("rerank", str(random_reranker), device="cpu", dtype="float32", max_batch_tokens=budget)) as engine:
        assert np.abs(Reranker(engine).score(pairs) - reference_scores(random_reranker, pairs)).max() < TOLERANCE
    whole = [queries for causal, queries, keys in calls if causal]
    heads = [keys for causal, queries, keys in calls if not causal and queries > keys]
    assert bool(heads) == (budget > 1)  # tails of many documents look at the few tokens of their heads
    assert all(keys < max(whole) for keys in heads)


def test_kernels_that_fail_or_compute_something_else_are_not_used(tiny_embedder, caplog):
    def missing():
        raise ImportError("no compiler")

    model = Qwen3(read_model(tiny_embedder, "embed"), torch.device("cpu"), torch.bfloat16)
    right = plain_parts._replace(angles=torch.float16)

    def turned(states, weight, norms, cos, sin, epsilon, *, but=0):
        """Right but for some heads behind those that are turned, or with the angles the other way round."""
        out = plain_parts.heads(states, weight, norms, *((cos, sin) if but else (sin, cos)), epsilon)
        out[:, len(norms) : len(norms) + but] *= 1.1
        return out

    def late(states, weight):
        """Right but for the last of many tokens."""
        out = plain_parts.inner(states, weight)
        out[4096:] = 0
        return out

    def mixed_up(pack, device, scale, group, otherwise):
        """Attention that looks into the heads of other texts."""
        return attention.PlainAttention(replace(pack, owners=pack.owners[::-1]), device, scale)

    wrong = [
        right._replace(heads=turned),
        right._replace(heads=partial(turned, but=1)),
        right._replace(inner=lambda *given: 1.05 * plain_parts.inner(*given)),
        right._replace(inner=late),
        right._replace(join=lambda one, one_weight, other, other_weight: plain_parts.join(one, other_weight, other, one_weight)),
        right._replace(inner=lambda *given: plain_parts.inner(*given) * torch.nan),
    ]
    right = right._replace(short=lambda *given: given[-1])
    astray = right._replace(short=mixed_up)
    for parts, expected in [*((each, plain_parts) for each in wrong), (astray, astray._replace(short=None)), (right, right)]:
        assert first_right({missing: (), lambda parts=parts: parts: (33, 4097)}, model, torch.device("cpu"), torch.bfloat16) == expected
    assert caplog.text.count("no compiler") == 8
    assert caplog.text.count("not PyTorch's") == 7


def test_triton_s_kernels_equal_the_reference():
    """In a process of its own: Triton decides when it is imported whether it compiles or interprets."""
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
    assert ended.stdout.split() == ["heads", "inner", "short", "turn", "gated", "join", "embed", "rerank"]
