"""Embed, retrieve, rerank, and save the result: `python examples/quickstart.py "read a csv file" --html found.html`.

Works offline with the bundled toy pair, which shows how it works, not quality. For the real models:
--model Qwen/Qwen3-Embedding-0.6B --reranker Qwen/Qwen3-Reranker-0.6B
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import statistics
import tempfile
from pathlib import Path

from qwen3_integrations import Embedder, Reranker, open_engine
from qwen3_integrations.core.results import moved_in_words

TEXTS = [
    f"{module.__name__}.{name}: {function.__doc__}"
    for module in (csv, json, shutil, statistics, tempfile)
    for name, function in sorted(vars(module).items())
    if callable(function) and not name.startswith("_") and function.__doc__
]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("query")
    options.add_argument("--model", default="qwen3-tiny-demo")
    options.add_argument("--reranker", default="qwen3-tiny-demo")
    options.add_argument("--html", type=Path, help="write the ranking as an HTML page")
    chosen = options.parse_args()

    with open_engine("embed", chosen.model) as embed_engine, open_engine("rerank", chosen.reranker) as rerank_engine:
        embedder, reranker = Embedder(embed_engine), Reranker(rerank_engine)
        vectors = embedder.embed_documents(TEXTS, progress=True)
        nearest = (-(vectors @ embedder.embed_queries([chosen.query])[0])).argsort()[:20]
        ranking = reranker.rank(chosen.query, [TEXTS[index] for index in nearest])

    for hit in ranking.hits[:5]:
        print(f"{hit.score:.3f}  {moved_in_words(hit.moved):>7}  {' '.join(hit.document.split())[:90]}")
    if chosen.html:
        from qwen3_integrations.notebook import RankInspector

        chosen.html.write_text(RankInspector(ranking).to_html(), encoding="utf-8")
        print(f"{chosen.html}: opens in any browser, offline")


if __name__ == "__main__":
    main()
