"""The torch engine on a CUDA device: the kernel path against plain fp32, and the head shared against none."""

from __future__ import annotations

import numpy as np
import pytest

from qwen3_integrations import Embedder, Reranker
from qwen3_integrations.engines.torch import TorchEngine
from tests.contract.cases import check_embeddings, check_scores
from tests.models import SHAPES
from tests.reference import reference_embeddings, reference_scores
from tests.texts import HOSTILE

pytestmark = pytest.mark.gpu
DOCUMENTS = HOSTILE * 8


@pytest.mark.parametrize("size", SHAPES)
def test_bfloat16_stays_within_its_bounds(size, random_models):
    embedder = Embedder(TorchEngine("embed", str(random_models["embed", size]), device="cuda"))
    cosines = (embedder.embed_documents(HOSTILE) * reference_embeddings(random_models["embed", size], HOSTILE)).sum(axis=1)
    reranker = Reranker(TorchEngine("rerank", str(random_models["rerank", size]), device="cuda"))
    pairs = [("How do I sort a list?", document) for document in HOSTILE]
    difference = np.abs(reranker.score(pairs) - reference_scores(random_models["rerank", size], pairs)).max()
    print(f"{size}: least cosine {cosines.min():.6f}, greatest score difference {difference:.4f}")  # noqa: T201
    assert cosines.min() >= 0.9998
    assert difference <= 0.03  # random heads spread their logits far wider than a trained one


@pytest.mark.parametrize("size", SHAPES)
def test_float32_equals_the_reference(size, random_models):
    check_embeddings(TorchEngine("embed", str(random_models["embed", size]), device="cuda", dtype="float32"), random_models["embed", size])
    check_scores(TorchEngine("rerank", str(random_models["rerank", size]), device="cuda", dtype="float32"), random_models["rerank", size])


def test_a_shared_head_changes_nothing(random_reranker):
    reranker = Reranker(TorchEngine("rerank", str(random_reranker), device="cuda"))
    together = reranker.rank("one query", DOCUMENTS)
    alone = [reranker.score([("one query", document)])[0] for document in DOCUMENTS]
    assert max(abs(alone[hit.index] - hit.score) for hit in together) <= 0.01


def test_memory_comes_back(random_embedder):
    import torch

    before = torch.cuda.memory_allocated()
    engine = TorchEngine("embed", str(random_embedder), device="cuda")
    Embedder(engine).embed_documents(HOSTILE)
    assert torch.cuda.memory_allocated() > before
    engine.close()
    assert torch.cuda.memory_allocated() <= before
