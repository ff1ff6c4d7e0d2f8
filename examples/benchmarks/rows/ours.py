"""Our own sides: they get texts and return arrays."""

from __future__ import annotations

from typing import Any

from compare import Side
from targets import OURS, OURS_FP8, OURS_VLLM, UNSHARED
from workbench import Workbench


def embed(bench: Workbench, device: str | None = None) -> Side:
    """`Embedder.embed_documents` on the torch engine."""
    from qwen3_integrations import Embedder

    return Side(OURS, Embedder(bench.torch_engine("embed", device)).embed_documents, lambda work: work.texts)


def embed_fp8(bench: Workbench) -> Side:
    """`Embedder.embed_documents` on the torch engine in FP8."""
    from qwen3_integrations import Embedder

    return Side(OURS_FP8, Embedder(bench.torch_engine("embed", dtype="fp8")).embed_documents, lambda work: work.texts)


def rerank_fp8(bench: Workbench) -> Side:
    """`Reranker.score` on the torch engine in FP8."""
    from qwen3_integrations import Reranker

    reranker = Reranker(bench.torch_engine("rerank", dtype="fp8"))
    return Side(OURS_FP8, lambda given: reranker.score(given[0], instruction=given[1]), lambda work: (work.pairs, work.instruction))


def embed_vllm(bench: Workbench) -> Side:
    """`Embedder.embed_documents` on embedded vLLM."""
    from qwen3_integrations import Embedder

    return Side(OURS_VLLM, Embedder(bench.vllm_engine("embed")).embed_documents, lambda work: work.texts)


def embed_query(bench: Workbench) -> Side:
    """`Embedder.embed_queries` of one query per call, on the torch engine."""
    from qwen3_integrations import Embedder

    embedder = Embedder(bench.torch_engine("embed"))
    return Side(
        OURS,
        lambda query: embedder.embed_queries([query]),
        lambda work: work.texts,
        _stacked,
        each=True,
    )


def rerank(bench: Workbench, device: str | None = None) -> Side:
    """`Reranker.score` on the torch engine."""
    from qwen3_integrations import Reranker

    reranker = Reranker(bench.torch_engine("rerank", device))
    return Side(OURS, lambda given: reranker.score(given[0], instruction=given[1]), lambda work: (work.pairs, work.instruction))


def rerank_unshared(bench: Workbench) -> Side:
    """The torch engine with prompts that share no prefix: each pair is planned separately, before the timing."""
    from qwen3_integrations.core.planning import rerank_prompts
    from qwen3_integrations.core.types import Job

    engine = bench.torch_engine("rerank")
    budget = min(8192, engine.max_tokens)

    def planned(work: Any) -> Job:
        alone = (rerank_prompts([pair], work.instruction, "\n", engine.tokenizer, budget)[0] for pair in work.pairs)
        return Job("rerank", tuple(alone), budget)

    return Side(UNSHARED, lambda job: engine.run(job).rows, planned)


def _stacked(calls: list[Any]) -> Any:
    import numpy as np

    return np.concatenate(calls).astype(np.float64)
