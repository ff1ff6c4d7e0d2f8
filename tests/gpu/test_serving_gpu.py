"""`vllm serve` on a CUDA device, started by this package: right answers, memory as planned, and all of it back.

Run by hand: `pytest -m gpu tests/gpu/test_serving_gpu.py -s`.

Random weights in the exact shapes of the published models, vocabulary included.
"""
# ruff: noqa: T201  the printed figures are half of what these tests are for

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from qwen3_integrations import Embedder, Reranker
from qwen3_integrations.models.devices import gpus
from qwen3_integrations.models.memory import GIB
from qwen3_integrations.serving import Failed, ServerOptions, prepare, servers, start
from tests.gpu.usage import settled_bytes, tree_of, used_bytes
from tests.models import Shape, write_random_model
from tests.reference import reference_embeddings
from tests.texts import PLAIN

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.vllm,
    pytest.mark.server,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("default"),  # vLLM and CUDA's libraries warn of much that is not ours
]

SHAPES = {
    "0.6B": Shape(hidden=1024, heads=16, kv_heads=8, layers=28, tied=True, head_dim=128, inner=3072, vocabulary=151_669),
    "4B": Shape(hidden=2560, heads=32, kv_heads=8, layers=36, tied=True, head_dim=128, inner=9728, vocabulary=151_669),
}
WITHIN = 0.15
"""By how much a plan may exceed what vLLM then uses, as a share of that; it must never fall short."""

CASES = {
    "embed 0.6B": ("embed", "0.6B", {}),
    "embed 0.6B, one prompt": ("embed", "0.6B", {"concurrency": 1, "enforce_eager": True}),
    "rerank 0.6B": ("rerank", "0.6B", {"enforce_eager": True}),
    "embed 0.6B, 32k": ("embed", "0.6B", {"max_tokens": 32768, "concurrency": 2, "enforce_eager": True}),
    "embed 0.6B, fp8": ("embed", "0.6B", {"quantization": "fp8", "enforce_eager": True}),
    "embed 4B": ("embed", "4B", {}),
    "embed 4B, fp8": ("embed", "4B", {"quantization": "fp8", "enforce_eager": True}),
    "embed 0.6B, 2 GPUs a copy": ("embed", "0.6B", {"tensor_parallel_size": 2, "enforce_eager": True}),
    "embed 0.6B, 2 copies": ("embed", "0.6B", {"data_parallel_size": 2, "enforce_eager": True}),
}


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory):
    os.environ["QWEN3_SERVERS_DIR"] = str(tmp_path_factory.mktemp("state"))
    yield
    for server in servers():
        server.stop()
    del os.environ["QWEN3_SERVERS_DIR"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    made = {}

    def make(task, size):
        if (task, size) not in made:
            made[task, size] = write_random_model(tmp_path_factory.mktemp("gpu") / f"{task}-{size}", task, SHAPES[size])
        return made[task, size]

    return make


@pytest.mark.parametrize("case", CASES)
def test_a_server_uses_what_was_planned(case, model):
    task, size, more = CASES[case]
    options = ServerOptions(task=task, engine="vllm", model=str(model(task, size)), dtype="bfloat16", **more)
    if len(gpus()) < options.devices * options.data_parallel_size:
        pytest.skip("too few GPUs")
    plan = prepare(options).plan
    outcome = start(options, handshake="counts")  # random weights can't tell a relevant text from another
    if isinstance(outcome, Failed):
        print("\n".join(outcome.tail))
    with outcome.running() as server, server.engine(handshake="counts") as engine:
        processes = tree_of(server.pid)
        ready = used_bytes(processes)
        # Of every length up to the greatest and beyond: passes of unlike sizes leave most behind in the allocator.
        texts = [*PLAIN, *(f"{number} " + "many plain words " * (options.max_tokens * number // 48) for number in range(32))]
        if task == "embed":
            vectors = Embedder(engine, max_tokens=options.max_tokens).embed_documents(texts)
            if size == "0.6B":
                cosines = (vectors[: len(PLAIN)] * reference_embeddings(model(task, size), PLAIN)).sum(axis=1)
                print(f"\n{case}: least cosine to fp32 {cosines.min():.5f}")
                assert cosines.min() > (0.97 if options.quantization else 0.999)
        else:
            Reranker(engine, max_tokens=options.max_tokens).score([("a query", text) for text in texts])
        worked = used_bytes(processes)
    error = plan.total_bytes / worked - 1
    print(f"\n{case}: ready after {outcome.seconds:.0f} s; {plan}")
    print(f"{case}: used {ready / GIB:.2f} GiB when ready, {worked / GIB:.2f} after work: plan {error:+.1%}")
    assert settled_bytes(processes, 0) == 0
    assert 0 <= error <= WITHIN


def test_two_servers_share_a_gpu(model):
    """Plans of the one leave room for the other."""
    options = ServerOptions(task="embed", engine="vllm", model=str(model("embed", "0.6B")), dtype="bfloat16", enforce_eager=True)
    both = (start(each, handshake="counts") for each in (options, replace(options, served_name="second")))
    with next(both).running() as first, next(both).running() as second:
        assert first.status().state == second.status().state == "ready"
        with second.engine(handshake="counts") as engine:
            assert len(Embedder(engine).embed_documents(PLAIN)) == len(PLAIN)
