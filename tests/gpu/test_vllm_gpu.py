"""The embedded vLLM engine on a CUDA device. Run by hand: `pytest -m gpu tests/gpu -s`.

Random weights in the exact shape of the published 0.6B models, so that memory is real; their bf16 scores lie close
to the fp32 reference's.
"""
# ruff: noqa: T201  the printed figures are half of what these tests are for

from __future__ import annotations

import gc
import logging
import os
import time

import numpy as np
import pytest

from qwen3_integrations import Embedder, Reranker
from qwen3_integrations.engines.vllm.engine import VllmEngine
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.devices import gpus
from qwen3_integrations.models.memory import GIB
from tests.gpu.usage import settled_bytes, tree_of, used_bytes
from tests.models import Shape, write_random_model
from tests.reference import reference_embeddings, reference_scores
from tests.texts import HOSTILE

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.vllm,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings(
        "default"
    ),  # vLLM, CUDA's libraries and forks of a threaded process cause warnings that this package cannot avoid
]

PUBLISHED = Shape(hidden=1024, heads=16, kv_heads=8, layers=28, tied=True, head_dim=128)
TEXTS = [text for text in HOSTILE if text] + [f"passage {number} " + "of many plain words " * 40 for number in range(64)]
PAIRS = [("How do I sort a list?", text) for text in TEXTS]
SLACK_BYTES = GIB // 10
"""What the driver may keep after a process has left, or CUDA's libraries in one that stays (workspaces of 32 MiB)."""


@pytest.fixture(scope="module", autouse=True)
def _device():
    """Asked through vLLM: torch.cuda.is_available() would keep vLLM from forking its process."""
    from vllm.platforms import current_platform

    if not current_platform.is_cuda():
        pytest.fail("these tests need a CUDA device")


@pytest.fixture(scope="module")
def embedder_folder(tmp_path_factory):
    return write_random_model(tmp_path_factory.mktemp("gpu") / "embed", "embed", PUBLISHED)


@pytest.fixture(scope="module")
def reranker_folder(tmp_path_factory):
    return write_random_model(tmp_path_factory.mktemp("gpu") / "rerank", "rerank", PUBLISHED, seed=1)


@pytest.fixture(scope="module")
def vectors(embedder_folder):
    return reference_embeddings(embedder_folder, TEXTS)


@pytest.fixture(scope="module")
def scores(reranker_folder):
    return reference_scores(reranker_folder, PAIRS)


def own_bytes():
    """What this process and those it has started hold, without initialising CUDA here."""
    return used_bytes(tree_of(os.getpid()))


def settled(most):
    """As `own_bytes`, once that has fallen to `most` or half a minute has gone by: the driver frees with a delay."""
    return settled_bytes(tree_of(os.getpid()), most)


def cosines(ours, reference):
    return (ours * reference).sum(axis=1)


def report(name, engine, before, seconds):
    plan, taken = engine.memory, own_bytes() - before
    print(f"\n{name}: opened in {seconds:.1f} s; {plan}")
    print(f"{name}: really taken {taken / GIB:.2f} GiB, planned {plan.total_bytes / GIB:.2f} GiB")
    return taken


@pytest.mark.parametrize("eager", [False, True])
def test_two_engines_on_one_device(embedder_folder, reranker_folder, vectors, scores, eager):
    """Right numbers in bf16, memory within the plan, and all of it back."""
    start = own_bytes()
    clock = time.monotonic()
    embedding = VllmEngine("embed", str(embedder_folder), dtype="bfloat16", enforce_eager=eager)
    taken = report("embedder", embedding, start, time.monotonic() - clock)
    assert taken <= embedding.memory.total_bytes
    between, clock = own_bytes(), time.monotonic()
    reranking = VllmEngine("rerank", str(reranker_folder), dtype="bfloat16", enforce_eager=eager)
    taken = report("reranker", reranking, between, time.monotonic() - clock)
    assert taken <= reranking.memory.total_bytes

    near = cosines(Embedder(embedding).embed_documents(TEXTS), vectors)
    between = own_bytes()
    off = np.abs(Reranker(reranking).score(PAIRS) - scores)
    taken += own_bytes() - between  # the first passes bring kernels and workspaces
    print(f"reranker, after work: {taken / GIB:.2f} GiB")
    assert taken <= reranking.memory.total_bytes
    print(f"least cosine to fp32 {near.min():.6f}; largest difference of a score {off.max():.5f}, mean {off.mean():.5f}")
    assert near.min() > 0.999
    assert off.max() < 0.2  # these random weights give logits of about 20, and bf16 keeps two to three digits of them
    assert off.mean() < 0.02
    full = own_bytes() - start
    print(f"both, after work: {full / GIB:.2f} GiB")
    assert full <= embedding.memory.total_bytes + reranking.memory.total_bytes

    embedding.close()
    left = settled(start + taken + SLACK_BYTES) - start
    print(f"left after the embedder closed: {left / GIB:.2f} GiB")
    assert left <= taken + SLACK_BYTES
    assert np.isfinite(Reranker(reranking).score(PAIRS[:4])).all()
    reranking.close()
    left = settled(start + SLACK_BYTES) - start
    print(f"left after both closed: {left / GIB:.2f} GiB")
    assert left <= SLACK_BYTES


@pytest.mark.parametrize(
    ("options", "least"), [({"quantization": "fp8"}, 0.97), ({"tensor_parallel_size": 2}, 0.999)], ids=["fp8", "two GPUs"]
)
def test_an_engine_that_is_quantised_or_shared_out(embedder_folder, vectors, options, least):
    if len(gpus()) < options.get("tensor_parallel_size", 1):
        pytest.skip("too few GPUs")
    clock = time.monotonic()
    engine = VllmEngine("embed", str(embedder_folder), dtype="bfloat16", enforce_eager=True, **options)
    report(f"embedder, {options}", engine, 0, time.monotonic() - clock)
    near = cosines(Embedder(engine).embed_documents(TEXTS), vectors)
    taken = own_bytes()
    print(f"after work: {taken / GIB:.2f} GiB; least cosine to fp32 {near.min():.6f}")
    assert near.min() > least
    assert taken <= engine.memory.total_bytes
    engine.close()
    assert settled(SLACK_BYTES) <= SLACK_BYTES


def test_a_plan_greater_than_the_device_is_refused_before_loading(embedder_folder):
    with pytest.raises(ConfigError, match=r"but device 0 has .* GiB free\. concurrency=\d+ with max_model_len=8192 would fit"):
        VllmEngine("embed", str(embedder_folder), dtype="bfloat16", concurrency=10_000)


def test_memory_comes_back_within_this_process(embedder_folder, vectors, monkeypatch):
    """Where vLLM computes in the process itself: the CUDA context stays, the tensors do not. Last, as it brings CUDA into this process."""
    import torch

    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    # pytest keeps log records, and that of an import which failed while vLLM started keeps the frames of the start: the engine too.
    log = logging.getLogger("vllm")
    monkeypatch.setattr(log, "handlers", [handler for handler in log.handlers if not hasattr(handler, "records")])
    before = torch.cuda.memory_allocated()  # of tests before this one
    for number in range(2):
        engine = VllmEngine("embed", str(embedder_folder), dtype="bfloat16", enforce_eager=True)
        near = cosines(Embedder(engine).embed_documents(TEXTS), vectors)
        assert near.min() > 0.999
        held = torch.cuda.memory_allocated()
        engine.close()
        gc.collect()
        left, reserved = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
        print(f"\nround {number}: {held / GIB:.2f} GiB held; after close {left / GIB:.3f} GiB, {reserved / GIB:.3f} GiB reserved")
        assert held > GIB
        assert left - before <= SLACK_BYTES
        assert reserved < GIB // 4
