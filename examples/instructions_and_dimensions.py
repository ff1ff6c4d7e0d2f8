"""Measure the effect of instructions and dimensions on questions with known answers: `python examples/instructions_and_dimensions.py`.

The questions are lines of JSON with `query`, `relevant` and `irrelevant`; the default is a file of 20 in this repository. The bundled toy
pair shows how it works, not quality: with it, and with so few questions, small differences are noise. For a real measurement, pass --model,
--reranker and --questions.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from qwen3_integrations import INSTRUCTIONS, Embedder, Reranker, open_engine
from qwen3_integrations.analysis.metrics import mrr, ndcg

QUESTIONS = Path(__file__).parent.parent / "tests" / "data" / "triples.jsonl"
INSTRUCTION_VARIANTS = {
    "none": "",
    "default": INSTRUCTIONS["web search"],
    "documentation": INSTRUCTIONS["documentation"],
    "other": "Find songs",
}


def shown(what: str, scores) -> None:  # noqa: ANN001  an array of shape (questions, texts); text n answers question n
    found = [[float(index == right) for index in (-row).argsort(kind="stable")] for right, row in enumerate(scores)]
    print(f"{what:36}  nDCG@10 {ndcg(found, 10):.3f}  MRR {mrr(found):.3f}")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--questions", type=Path, default=QUESTIONS)
    options.add_argument("--model", default="qwen3-tiny-demo")
    options.add_argument("--reranker", default="qwen3-tiny-demo")
    chosen = options.parse_args()

    lines = [json.loads(line) for line in chosen.questions.read_text(encoding="utf-8").splitlines()]
    queries = [line["query"] for line in lines]
    texts = [line["relevant"] for line in lines] + [line["irrelevant"] for line in lines]
    with open_engine("embed", chosen.model) as embed_engine, open_engine("rerank", chosen.reranker) as rerank_engine:
        embedder, reranker = Embedder(embed_engine), Reranker(rerank_engine)
        vectors = embedder.embed_documents(texts, progress=True)
        for name, instruction in INSTRUCTION_VARIANTS.items():
            shown(f"embedder, instruction {name}", embedder.embed_queries(queries, instruction) @ vectors.T)
        pairs = [(query, text) for query in queries for text in texts]
        for name, instruction in list(INSTRUCTION_VARIANTS.items())[1:]:
            shown(f"reranker, instruction {name}", reranker.score(pairs, instruction).reshape(len(queries), len(texts)))
        for width in (vectors.shape[1], vectors.shape[1] // 2, vectors.shape[1] // 4):
            narrow = Embedder(embed_engine, dimensions=width)
            shown(f"embedder, {width} dimensions", narrow.embed_queries(queries) @ narrow.embed_documents(texts).T)


if __name__ == "__main__":
    main()
