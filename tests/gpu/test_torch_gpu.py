"""The torch engine on a CUDA device: the kernels against plain fp32, with and without a shared prefix."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from qwen3_integrations import Embedder, Reranker
from qwen3_integrations.core.types import Job, Prefix, Prompt, PromptPart
from qwen3_integrations.engines.torch import flash_attention, forward
from qwen3_integrations.engines.torch.engine import TorchEngine
from qwen3_integrations.engines.torch.qwen3 import plain_functions
from tests.contract.cases import check_embeddings, check_scores
from tests.models import SHAPES, Shape, write_random_model
from tests.reference import reference_embeddings, reference_scores
from tests.texts import HOSTILE

pytestmark = pytest.mark.gpu
DOCUMENTS = HOSTILE * 8
WIDE = Shape(hidden=512, heads=8, kv_heads=4, layers=4, tied=True, head_dim=128, inner=1536)
"""With the head dim of the published models, for which FlashAttention 3 is used."""


@pytest.fixture(scope="session")
def wide_models(tmp_path_factory):
    root = tmp_path_factory.mktemp("wide")
    return {task: write_random_model(root / task, task, WIDE) for task in ("embed", "rerank")}


@pytest.fixture(params=["best", "general", "pytorch's", "none"])
def kernel(request, monkeypatch):
    """Attention by the best available kernels, without the one for short sequences, by PyTorch's kernel, and without a kernel."""
    if request.param != "best":
        monkeypatch.setattr("qwen3_integrations.engines.torch.short_attention.MAX_KEYS", 0)
    if request.param in ("pytorch's", "none"):
        monkeypatch.setattr(flash_attention, "_flash_3", lambda: None)
        monkeypatch.setattr(flash_attention, "_flash_3_of_vllm", lambda: None)
    if request.param == "none":
        monkeypatch.setattr(flash_attention, "_flash_2", lambda: None)
    return request.param


@pytest.mark.parametrize("size", SHAPES)
def test_bfloat16_stays_within_its_bounds(size, random_models):
    embedder = Embedder(TorchEngine("embed", str(random_models["embed", size]), device="cuda"))
    cosines = (embedder.embed_documents(HOSTILE) * reference_embeddings(random_models["embed", size], HOSTILE)).sum(axis=1)
    reranker = Reranker(TorchEngine("rerank", str(random_models["rerank", size]), device="cuda"))
    pairs = [("How do I sort a list?", document) for document in HOSTILE]
    difference = np.abs(reranker.score(pairs) - reference_scores(random_models["rerank", size], pairs)).max()
    print(f"{size}: least cosine {cosines.min():.6f}, greatest score difference {difference:.4f}")  # noqa: T201
    assert cosines.min() >= 0.9998
    assert difference <= 0.05  # random heads spread their logits far wider than a trained one: transformers' own bfloat16 is 0.02 off


@pytest.mark.parametrize("size", SHAPES)
def test_float32_equals_the_reference(size, random_models):
    check_embeddings(TorchEngine("embed", str(random_models["embed", size]), device="cuda", dtype="float32"), random_models["embed", size])
    check_scores(TorchEngine("rerank", str(random_models["rerank", size]), device="cuda", dtype="float32"), random_models["rerank", size])


def test_every_path_gives_the_same(wide_models, kernel):
    """Captured small passes, large ones, with and without a shared prefix, by each kernel: within bfloat16's bounds of plain fp32."""
    embedder = Embedder(TorchEngine("embed", str(wide_models["embed"]), device="cuda"))
    expected = reference_embeddings(wide_models["embed"], HOSTILE)
    alone = np.concatenate([embedder.embed_documents([text]) for text in HOSTILE])
    together = embedder.embed_documents(DOCUMENTS)[: len(HOSTILE)]
    reranker = Reranker(TorchEngine("rerank", str(wide_models["rerank"]), device="cuda"))
    shared = reranker.score([("one query", document) for document in DOCUMENTS])[: len(HOSTILE)]
    unshared = np.concatenate([reranker.score([("one query", document)]) for document in HOSTILE])
    mixed = reranker.score([(query, document) for document in HOSTILE for query in ("one query", document)] * 4)[: 2 * len(HOSTILE) : 2]
    scores = reference_scores(wide_models["rerank"], [("one query", document) for document in HOSTILE])
    least = [float((rows * expected).sum(axis=1).min()) for rows in (alone, together)]
    greatest = [float(np.abs(found - scores).max()) for found in (shared, unshared, mixed)]
    print(f"{kernel}: least cosine alone {least[0]:.6f}, together {least[1]:.6f}; greatest score difference {greatest}")  # noqa: T201
    assert min(least) >= 0.9998
    assert max(greatest) <= 0.05  # as above


def test_four_query_heads_per_kv_head(tmp_path, monkeypatch, caplog):
    """As in the 4B and 8B models; on Hopper by the kernel of short sequences."""
    import torch

    from qwen3_integrations.engines.torch.short_attention import ShortAttention

    used, all_tokens = [], ShortAttention.all_tokens
    monkeypatch.setattr(ShortAttention, "all_tokens", lambda self, *given: used.append(True) or all_tokens(self, *given))
    model = write_random_model(tmp_path / "model", "rerank", replace(WIDE, kv_heads=2))
    reranker = Reranker(TorchEngine("rerank", str(model), device="cuda"))
    used.clear()  # the engine checks the kernel when it opens
    pairs = [(query, document) for query in ("one query", "another") for document in DOCUMENTS]
    expected = reference_scores(model, pairs[: len(HOSTILE)])
    assert np.abs(reranker.score(pairs)[: len(HOSTILE)] - expected).max() <= 0.05  # as above
    assert bool(used) == flash_attention.is_hopper(torch.device("cuda", 0))
    assert not caplog.text


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_every_kernel_works_here(wide_models, dtype, caplog):
    """Or it would be left out when the engine opens, which is logged."""
    for task in ("embed", "rerank"):
        TorchEngine(task, str(wide_models[task]), device="cuda", dtype=dtype).close()
    assert not caplog.text


def test_fp8_is_near_to_the_reference_on_every_path(wide_models, kernel, caplog):
    """Captured small passes, large ones, with and without a shared prefix; FP8's own error is 40 times that of bfloat16."""
    embedder = Embedder(TorchEngine("embed", str(wide_models["embed"]), device="cuda", dtype="fp8"))
    expected = reference_embeddings(wide_models["embed"], HOSTILE)
    alone = np.concatenate([embedder.embed_documents([text]) for text in HOSTILE])
    together = embedder.embed_documents(DOCUMENTS * 4)[: len(HOSTILE)]
    reranker = Reranker(TorchEngine("rerank", str(wide_models["rerank"]), device="cuda", dtype="fp8"))
    shared = reranker.score([("one query", document) for document in DOCUMENTS])[: len(HOSTILE)]
    unshared = np.concatenate([reranker.score([("one query", document)]) for document in HOSTILE])
    scores = reference_scores(wide_models["rerank"], [("one query", document) for document in HOSTILE])
    least = [float((rows * expected).sum(axis=1).min()) for rows in (alone, together)]
    greatest = [float(np.abs(found - scores).max()) for found in (shared, unshared)]
    print(f"{kernel}, fp8: least cosine alone {least[0]:.6f}, together {least[1]:.6f}; greatest score difference {greatest}")  # noqa: T201
    assert min(least) >= 0.98
    assert max(least) < 0.99999  # FP8 is really used
    assert max(greatest) <= 0.3
    assert not caplog.text  # no kernel was left out


def test_fp8_gives_the_numbers_of_pytorch_s_functions(wide_models):
    """The same quantised values, multiplied in float32 on a CPU."""
    from qwen3_integrations.engines.torch import engine as engines

    embedder = Embedder(TorchEngine("embed", str(wide_models["embed"]), device="cuda", dtype="fp8"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "check_fp8", lambda *_: None)
        plain = Embedder(TorchEngine("embed", str(wide_models["embed"]), device="cpu", dtype="fp8"))
    assert (embedder.embed_documents(HOSTILE) * plain.embed_documents(HOSTILE)).sum(axis=1).min() >= 0.99


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_many_callers_of_all_sizes(wide_models, dtype):
    """Passes of every kind at once, from many threads: each caller gets the answer to its own texts."""
    engine = TorchEngine("embed", str(wide_models["embed"]), device="cuda", dtype=dtype)
    embedder = Embedder(engine)
    expected = embedder.embed_documents(HOSTILE)
    with ThreadPoolExecutor(32) as pool:
        asked = [(number % len(HOSTILE), 1 + number % 3 * 40) for number in range(300)]
        found = list(pool.map(lambda ask: embedder.embed_documents([HOSTILE[ask[0]]] * ask[1]), asked))
    least = min(float((rows @ expected[at]).min()) for (at, _), rows in zip(asked, found, strict=True))
    assert least >= 0.9998
    engine.close()


@pytest.mark.parametrize("dtype", ["bfloat16", "fp8"])
def test_memory_stays_within_the_plan(tmp_path, dtype):
    """At every length; in a process of its own, since what CUDA itself holds counts."""
    folder = write_random_model(tmp_path / "model", "embed", Shape(1024, 16, 8, 4, True, 128, 3072))
    script = f"""
import os, numpy as np
from qwen3_integrations.engines.torch.engine import TorchEngine
from qwen3_integrations.engines.torch.graphs import SIZES
from qwen3_integrations.core.types import Prefix, Job, PromptPart, Prompt
from tests.gpu.usage import used_bytes
engine = TorchEngine("embed", {str(folder)!r}, device="cuda", dtype={dtype!r})
draw, none = np.random.default_rng(0), np.empty(0, np.int32)
def one_of(length):
    text = PromptPart("", draw.integers(0, 5000, length).astype(np.int32))
    engine.run(Job("embed", (Prompt(Prefix("", none), text, PromptPart("", none)),), 32768))

for length in (30, 128, 512, 2048, 8192, 32768, 700, 32768, 100):
    for captured in SIZES:  # small passes between the large ones
        one_of(captured)
    sizes = draw.normal(length, length / 8, max(2, 200_000 // length)).clip(1, 32768).astype(int)
    texts = [draw.integers(0, 5000, size).astype(np.int32) for size in sizes]
    engine.run(Job("embed", tuple(Prompt(Prefix("", none), PromptPart("", ids), PromptPart("", none)) for ids in texts), 32768))
    print(length, used_bytes([os.getpid()]) / 2**30)
print("plan", engine.memory, "held", used_bytes([os.getpid()]) / 2**30)
assert 0.5 * engine.memory.total_bytes < used_bytes([os.getpid()]) <= engine.memory.total_bytes
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    print(done.stdout)  # noqa: T201
    assert done.returncode == 0, done.stdout + done.stderr


def test_passes_get_smaller_where_memory_is_short(wide_models, caplog):
    """What the plan counted on is gone once another program has taken it."""
    import torch

    engine = TorchEngine("embed", str(wide_models["embed"]), device="cuda")
    texts = [f"{number} " + "words of a long text " * 200 for number in range(200)]
    expected = Embedder(engine).embed_documents(texts)
    torch.cuda.empty_cache()
    held = torch.cuda.memory_reserved() + (256 << 20)
    torch.cuda.set_per_process_memory_fraction(held / torch.cuda.get_device_properties(0).total_memory)
    try:
        found = Embedder(engine).embed_documents(texts)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert (found * expected).sum(axis=1).min() >= 0.9998
    assert "passes now have at most" in caplog.text
    engine.close()


def test_two_engines_whose_first_calls_come_at_once(wide_models, caplog):
    """Each captures its graphs while the other computes, captures or is opened."""
    expected = reference_embeddings(wide_models["embed"], HOSTILE)
    for _ in range(3):
        embedders = [Embedder(TorchEngine("embed", str(wide_models["embed"]), device="cuda")) for _ in range(2)]
        with ThreadPoolExecutor(3) as pool:
            calls = [pool.submit(lambda own: [own.embed_documents([text])[0] for text in HOSTILE], own) for own in embedders]
            late = pool.submit(lambda: Embedder(TorchEngine("embed", str(wide_models["embed"]), device="cuda")))
            found = [call.result() for call in calls]
        found.append(late.result().embed_documents(HOSTILE))
        assert min(float((np.asarray(rows) * expected).sum(axis=1).min()) for rows in found) >= 0.9998
        for embedder in (*embedders, late.result()):
            embedder.engine.close()
    assert "can't be" not in caplog.text


@pytest.mark.parametrize(("prompts", "tokens"), [(32, 4096), (32, 4095), (33, 4096), (1, 4096), (1, 4097), (32, 32)])
def test_passes_just_at_the_limits_of_a_graph(prompts, tokens, wide_models):
    draw, none = np.random.default_rng(tokens), PromptPart("", np.empty(0, np.int32))
    ends = np.linspace(0, tokens, prompts + 1).astype(int)
    texts = [PromptPart("", draw.integers(0, 5000, behind - begin).astype(np.int32)) for begin, behind in pairwise(ends) if behind > begin]
    job = Job("embed", tuple(Prompt(Prefix("", none.ids), text, none) for text in texts), 8192)
    captured, plain = (TorchEngine("embed", str(wide_models["embed"]), device="cuda", dtype=dtype) for dtype in ("bfloat16", "float32"))
    one, other = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (captured.run(job).rows, plain.run(job).rows))
    assert (one * other).sum(axis=1).min() >= 0.9998


def test_shared_prefixes_without_triton(wide_models, monkeypatch):
    monkeypatch.setattr(forward, "functions_for", lambda *_: plain_functions)
    reranker = Reranker(TorchEngine("rerank", str(wide_models["rerank"]), device="cuda"))
    pairs = [("one query", document) for document in DOCUMENTS]
    assert np.abs(reranker.score(pairs) - reference_scores(wide_models["rerank"], pairs)).max() <= 0.05  # as above


def test_long_texts_in_float32_keep_no_scores(wide_models):
    import torch

    engine = TorchEngine("embed", str(wide_models["embed"]), device="cuda", dtype="float32", max_batch_tokens=8192)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    Embedder(engine).embed_documents(["many plain words " * 2600])
    assert torch.cuda.max_memory_allocated() - before < 1 << 30  # the scores of 8 heads alone would take 2 GiB
    engine.close()


def test_the_device_is_the_one_that_is_current_where_it_is_opened(wide_models):
    import torch

    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU alone")
    expected = reference_embeddings(wide_models["embed"], HOSTILE)
    with torch.cuda.device(1):
        engine = TorchEngine("embed", str(wide_models["embed"]), device="cuda")
    before = torch.cuda.memory_allocated(0)
    assert (Embedder(engine).embed_documents(HOSTILE) * expected).sum(axis=1).min() >= 0.9998
    assert torch.cuda.memory_allocated(0) == before
    engine.close()


def test_a_shared_prefix_changes_nothing(random_reranker):
    reranker = Reranker(TorchEngine("rerank", str(random_reranker), device="cuda"))
    together = reranker.rank("one query", DOCUMENTS)
    alone = [reranker.score([("one query", document)])[0] for document in DOCUMENTS]
    assert max(abs(alone[hit.index] - hit.score) for hit in together) <= 0.01


def test_memory_comes_back(random_embedder):
    import torch

    TorchEngine("embed", str(random_embedder), device="cuda").close()  # libraries keep the workspaces they make when they are first used
    before = torch.cuda.memory_allocated()
    engine = TorchEngine("embed", str(random_embedder), device="cuda")
    Embedder(engine).embed_documents(HOSTILE)
    assert torch.cuda.memory_allocated() > before
    engine.close()
    assert torch.cuda.memory_allocated() <= before
