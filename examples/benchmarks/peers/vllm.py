"""VLLM's own `LLM`, in this process."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from compare import Rows, Side
from targets import VLLM_FP8_IDS, VLLM_IDS, VLLM_TEXTS
from workbench import Workbench

from peers.prompts import PREFIX, SUFFIX, pair_ids, pair_text, query_text, text_ids

RERANKER = {
    "architectures": ["Qwen3ForSequenceClassification"],
    "classifier_from_token": ["no", "yes"],
    "is_original_qwen3_reranker": True,
}


def open_llm(task: str, folder: Path, options: dict[str, Any]) -> Any:
    """An `LLM` for pooling."""
    from vllm import LLM

    return LLM(str(folder), runner="pooling", **({"hf_overrides": RERANKER} if task == "rerank" else {}), **options)


def close_llm(llm: Any) -> None:
    """End its process and free its memory."""
    core = llm.llm_engine.engine_core
    outputs = getattr(core, "output_queue_thread", None)
    core.shutdown()
    if outputs is not None:  # tensors that are freed while Python exits would abort the process
        outputs.join(timeout=30)
    del core, llm
    gc.collect()


def embed_ids(bench: Workbench) -> Side:
    """`LLM.embed` of token ids that were made before the clock starts."""
    return Side(VLLM_IDS, _quiet(bench, "embed", "embed"), _as_ids(bench), _vectors, before=_reset(bench, "embed"))


FP8: dict[str, Any] = {"quantization": "fp8"}
"""vLLM's own quantisation of weights and inputs, as it loads a model."""


def embed_ids_fp8(bench: Workbench) -> Side:
    """As `embed_ids`, with vLLM's own FP8."""
    llm = bench.vllm("embed", **FP8)
    return Side(VLLM_FP8_IDS, lambda ids: llm.embed(ids, use_tqdm=False), _as_ids(bench), _vectors, before=llm.reset_prefix_cache)


def classify_ids_fp8(bench: Workbench) -> Side:
    """As `classify_ids`, with vLLM's own FP8."""
    llm = bench.vllm("rerank", **FP8)
    return Side(VLLM_FP8_IDS, lambda ids: llm.classify(ids, use_tqdm=False), _as_pair_ids(bench), _scores, before=llm.reset_prefix_cache)


def embed_texts(bench: Workbench) -> Side:
    """`LLM.embed` of texts."""
    return Side(VLLM_TEXTS, _quiet(bench, "embed", "embed"), lambda work: work.texts, _vectors, before=_reset(bench, "embed"))


def embed_query(bench: Workbench) -> Side:
    """`LLM.embed` of one query per call, with the instruction in front."""
    llm = bench.vllm("embed")
    return Side(
        VLLM_TEXTS,
        lambda query: llm.embed([query_text(query)], use_tqdm=False),
        lambda work: work.texts,
        lambda calls: _vectors([output for call in calls for output in call]),
        before=_reset(bench, "embed"),
        each=True,
    )


def classify_ids(bench: Workbench) -> Side:
    """`LLM.classify` of token ids that were made before the clock starts."""
    return Side(VLLM_IDS, _quiet(bench, "rerank", "classify"), _as_pair_ids(bench), _scores, before=_reset(bench, "rerank"))


def classify_texts(bench: Workbench) -> Side:
    """`LLM.classify` of finished prompts as text."""

    def prompts(work: Any) -> list[str]:
        return [PREFIX + pair_text(query, document, work.instruction) + SUFFIX for query, document in work.pairs]

    return Side(VLLM_TEXTS, _quiet(bench, "rerank", "classify"), prompts, _scores, before=_reset(bench, "rerank"))


def _quiet(bench: Workbench, task: str, method: str) -> Any:
    call = getattr(bench.vllm(task), method)
    return lambda prompts: call(prompts, use_tqdm=False)


def _reset(bench: Workbench, task: str) -> Any:
    return bench.vllm(task).reset_prefix_cache


def _as_ids(bench: Workbench) -> Any:
    from vllm import TokensPrompt

    return lambda work: [TokensPrompt(prompt_token_ids=ids) for ids in text_ids(bench.folder("embed"), work.texts)]


def _as_pair_ids(bench: Workbench) -> Any:
    from vllm import TokensPrompt

    folder = bench.folder("rerank")
    return lambda work: [TokensPrompt(prompt_token_ids=ids) for ids in pair_ids(folder, work.pairs, work.instruction)]


def _vectors(outputs: Sequence[Any]) -> Rows:
    return np.asarray([output.outputs.embedding for output in outputs], dtype=np.float64)


def _scores(outputs: Sequence[Any]) -> Rows:
    return np.asarray([output.outputs.probs[0] for output in outputs], dtype=np.float64)
