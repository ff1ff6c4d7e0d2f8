"""A query engine that reranks, with LlamaIndex: `python examples/llamaindex_query_engine.py "How do I copy a file?"`.

Offline: the bundled toy pair shows the wiring, not quality, and the language model is LlamaIndex's fake one, which gives its prompt back.
In earnest: --model Qwen/Qwen3-Embedding-0.6B --reranker Qwen/Qwen3-Reranker-0.6B, and a language model of yours in its place.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import statistics

from llama_index.core import VectorStoreIndex
from llama_index.core.llms import MockLLM
from llama_index.core.schema import TextNode

from qwen3_integrations.llama_index import Qwen3Embedding, Qwen3Rerank

NODES = [
    TextNode(text=f"{module.__name__}.{name}: {function.__doc__}", metadata={"module": module.__name__})
    for module in (csv, json, shutil, statistics)
    for name, function in sorted(vars(module).items())
    if callable(function) and not name.startswith("_") and function.__doc__
]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("question")
    options.add_argument("--model", default="qwen3-tiny-demo")
    options.add_argument("--reranker", default="qwen3-tiny-demo")
    chosen = options.parse_args()

    index = VectorStoreIndex(NODES, embed_model=Qwen3Embedding(model=chosen.model), show_progress=True)
    reranker = Qwen3Rerank(model=chosen.reranker, top_n=3, keep_retrieval_score=True)
    engine = index.as_query_engine(llm=MockLLM(), similarity_top_k=20, node_postprocessors=[reranker])
    answer = engine.query(chosen.question)
    for source in answer.source_nodes:
        print(f"{source.score:.3f}  retrieved with {source.metadata['retrieval_score']:.3f}  {source.text[:70]!r}")
    print(f"the prompt for a language model:\n{answer}")


if __name__ == "__main__":
    main()
