"""Evaluate a pair of a Qwen3 embedding model and a Qwen3 reranker with plain transformers.

    python examples/evaluate_tiny_demo.py                       # twenty triples
    python examples/evaluate_tiny_demo.py --beir path/to/cranfield --json result.json

Two measures:

- **Triples**: twenty plain questions, each with a relevant and an irrelevant text. The measure is
  how often a model scores the relevant text higher.
- **nDCG@10** on a collection in the BEIR layout (`corpus.jsonl`, `queries.jsonl`, `qrels/test.tsv`): the
  embedder over the whole collection, the reranker over the embedder's best documents, and BM25 to compare.
  Gains are the graded judgements, the ideal order is that of all judged documents, and queries without a
  positive judgement are left out.

The official prompts are repeated here, so that this script can check the package without using it.
Needs torch, transformers, and bm25s for the second measure.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

ROOT = Path(__file__).resolve().parent.parent
INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"
PREFIX = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the "
    'Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
SUFFIX = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"


def batches(rows: Sequence[list[int]], max_tokens: int = 16384) -> Iterator[list[int]]:
    """Indices of rows of similar length, at most `max_tokens` with their padding."""
    batch: list[int] = []
    for i in sorted(range(len(rows)), key=lambda i: len(rows[i])):
        if batch and (len(batch) + 1) * len(rows[i]) > max_tokens:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def right_padded(rows: Sequence[list[int]], filler: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and attention mask."""
    width = max(map(len, rows))
    ids = torch.tensor([[*r, *[filler] * (width - len(r))] for r in rows])
    return ids, torch.tensor([[1] * len(r) + [0] * (width - len(r)) for r in rows])


class Embedder:
    """Qwen3-Embedding as its model card uses it: last token, then norm 1."""

    def __init__(self, folder: Path, dtype: torch.dtype, max_length: int) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder, dtype=dtype).eval()
        self.max_length = max_length

    @torch.inference_mode()
    def _encode(self, texts: Sequence[str]) -> torch.Tensor:
        end = self.tokenizer.convert_tokens_to_ids("<|endoftext|>")
        rows = [[*ids[:-1][: self.max_length - 1], end] for ids in self.tokenizer(list(texts))["input_ids"]]
        vectors = torch.empty(len(rows), self.model.config.hidden_size)
        for batch in batches(rows):
            ids, mask = right_padded([rows[i] for i in batch], end)
            states = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
            vectors[batch] = F.normalize(states[torch.arange(len(batch)), mask.sum(1) - 1].float(), dim=1)
        return vectors

    def queries(self, texts: Sequence[str], instruction: str = INSTRUCTION) -> torch.Tensor:
        """Unit vectors of queries, shape (texts, hidden)."""
        return self._encode([f"Instruct: {instruction}\nQuery:{text}" for text in texts])

    def documents(self, texts: Sequence[str]) -> torch.Tensor:
        """Unit vectors of documents, shape (texts, hidden)."""
        return self._encode(texts)


class Reranker:
    """Qwen3-Reranker as its model card uses it: the probability of `yes` against `no`."""

    def __init__(self, folder: Path, dtype: torch.dtype, max_length: int) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
        self.prefix, self.suffix = (self.tokenizer.encode(t, add_special_tokens=False) for t in (PREFIX, SUFFIX))
        self.answers = self.tokenizer.convert_tokens_to_ids(["no", "yes"])
        self.max_length = max_length

    @torch.inference_mode()
    def scores(self, pairs: Sequence[tuple[str, str]], instruction: str = INSTRUCTION) -> list[float]:
        """Probabilities in [0, 1], one per pair of query and document."""
        bodies = [f"<Instruct>: {instruction}\n<Query>: {q}\n<Document>: {d}" for q, d in pairs]
        budget = self.max_length - len(self.prefix) - len(self.suffix)
        rows = [[*self.prefix, *ids[:budget], *self.suffix] for ids in self.tokenizer(bodies, add_special_tokens=False)["input_ids"]]
        scores = torch.empty(len(rows))
        head = self.model.get_output_embeddings().weight[self.answers]
        for batch in batches(rows):
            ids, mask = right_padded([rows[i] for i in batch], 0)
            states = self.model.model(input_ids=ids, attention_mask=mask).last_hidden_state
            last = states[torch.arange(len(batch)), mask.sum(1) - 1]
            scores[batch] = (last @ head.T).float().softmax(dim=1)[:, 1]
        return scores.tolist()


@dataclass(frozen=True)
class Collection:
    """A retrieval test collection."""

    documents: dict[str, str]
    queries: dict[str, str]
    gains: dict[str, dict[str, float]]


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read one JSON object per line."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]


def read_beir(folder: Path) -> Collection:
    """Read the BEIR layout: a document is its title and text, queries without a gain are dropped."""
    documents = {d["_id"]: f"{d.get('title', '')} {d['text']}".strip() for d in read_jsonl(folder / "corpus.jsonl")}
    gains: dict[str, dict[str, float]] = defaultdict(dict)
    for line in (folder / "qrels" / "test.tsv").read_text("utf-8").splitlines()[1:]:
        query, document, gain = line.split("\t")
        if float(gain) > 0:
            gains[query][document] = float(gain)
    queries = {q["_id"]: q["text"] for q in read_jsonl(folder / "queries.jsonl") if q["_id"] in gains}
    return Collection(documents, queries, gains)


def ndcg(ranked: Sequence[str], gains: Mapping[str, float], k: int = 10) -> float:
    """nDCG@k with linear gains."""

    def dcg(values: Sequence[float]) -> float:
        return sum(value / math.log2(rank + 2) for rank, value in enumerate(values[:k]))

    return dcg([gains.get(d, 0.0) for d in ranked]) / dcg(sorted(gains.values(), reverse=True))


def mean_ndcg(runs: Mapping[str, Sequence[str]], collection: Collection) -> float:
    """Mean nDCG@10 over the queries."""
    return statistics.fmean(ndcg(ranked, collection.gains[query]) for query, ranked in runs.items())


def evaluate_triples(path: Path, embedder: Embedder, reranker: Reranker) -> dict[str, Any]:
    """How often each model prefers the relevant text, and by how much."""
    triples = read_jsonl(path)
    queries, relevant, irrelevant = ([t[k] for t in triples] for k in ("query", "relevant", "irrelevant"))
    vectors = embedder.queries(queries)
    near, far = ((vectors * embedder.documents(texts)).sum(1).tolist() for texts in (relevant, irrelevant))
    yes, no = (reranker.scores(list(zip(queries, texts, strict=True))) for texts in (relevant, irrelevant))
    result: dict[str, Any] = {"triples": len(triples)}
    for name, good, bad in (("embedder", near, far), ("reranker", yes, no)):
        result[name] = {
            "right": sum(g > b for g, b in zip(good, bad, strict=True)),
            "mean_relevant": statistics.fmean(good),
            "mean_irrelevant": statistics.fmean(bad),
            "wrong": [q for q, g, b in zip(queries, good, bad, strict=True) if g <= b],
        }
    return result


def bm25_runs(collection: Collection) -> dict[str, list[str]]:
    """BM25's ten best documents of each query, with bm25s's own tokenizer and English stop words."""
    import bm25s

    names = list(collection.documents)
    retriever = bm25s.BM25()
    texts = list(collection.documents.values())
    retriever.index(bm25s.tokenize(texts, stopwords="en", show_progress=False), show_progress=False)
    queries = bm25s.tokenize(list(collection.queries.values()), stopwords="en", show_progress=False)
    rows, _ = retriever.retrieve(queries, k=10, show_progress=False)
    return {q: [names[i] for i in row] for q, row in zip(collection.queries, rows.tolist(), strict=True)}


def evaluate_collection(collection: Collection, embedder: Embedder, reranker: Reranker, depth: int) -> dict[str, Any]:
    """nDCG@10 of the embedder, of the reranker over the embedder's best `depth`, and of BM25."""
    names = list(collection.documents)
    similarity = embedder.queries(list(collection.queries.values())) @ embedder.documents(list(collection.documents.values())).T
    first = similarity.topk(min(depth, len(names)), dim=1).indices.tolist()
    found = {q: [names[i] for i in row] for q, row in zip(collection.queries, first, strict=True)}
    pairs = [(q, d) for q, row in found.items() for d in row]
    scores = dict(
        zip(
            pairs,
            reranker.scores([(collection.queries[q], collection.documents[d]) for q, d in pairs]),
            strict=True,
        )
    )
    # sorted() is stable: documents with equal scores keep the embedder's order.
    reranked = {
        query: [d for _, d in sorted(((-scores[query, d], d) for d in row), key=lambda item: item[0])] for query, row in found.items()
    }
    return {
        "documents": len(names),
        "queries": len(collection.queries),
        "depth": depth,
        "ndcg@10": {
            "bm25": mean_ndcg(bm25_runs(collection), collection),
            "embedder": mean_ndcg(found, collection),
            "reranker": mean_ndcg(reranked, collection),
        },
    }


def show(result: Mapping[str, Any]) -> None:
    """Print a small table, then the JSON."""
    triples = result["triples"]
    print(f"{'':10} {'triples':>8} {'relevant':>9} {'irrelevant':>11} {'nDCG@10':>8}")
    ndcgs = result.get("collection", {}).get("ndcg@10", {})
    for name in ("embedder", "reranker"):
        row = triples[name]
        tail = f"{ndcgs[name]:8.4f}" if ndcgs else f"{'-':>8}"
        count = f"{row['right']}/{triples['triples']}"
        print(f"{name:10} {count:>8} {row['mean_relevant']:9.3f} {row['mean_irrelevant']:11.3f} {tail}")
    if ndcgs:
        print(f"{'bm25':10} {'-':>8} {'-':>9} {'-':>11} {ndcgs['bm25']:8.4f}")
    print(json.dumps(result, indent=2))


def main() -> None:
    """Evaluate and print."""
    parser = argparse.ArgumentParser(description="Evaluate a Qwen3 embedding and reranking pair.")
    parser.add_argument("--pair", type=Path, default=ROOT / "qwen3_integrations" / "tiny", help="holds embedding/, reranker/")
    parser.add_argument("--triples", type=Path, default=ROOT / "tests" / "data" / "triples.jsonl")
    parser.add_argument("--beir", type=Path, help="folder of a collection in the BEIR layout")
    parser.add_argument("--depth", type=int, default=50, help="number of documents to rerank per query")
    parser.add_argument("--max-length", type=int, default=2048)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="also write the result here")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    started = time.perf_counter()
    dtype = getattr(torch, options.dtype)
    embedder = Embedder(options.pair / "embedding", dtype, options.max_length)
    reranker = Reranker(options.pair / "reranker", dtype, options.max_length)
    result: dict[str, Any] = {"triples": evaluate_triples(options.triples, embedder, reranker)}
    if options.beir:
        result["collection"] = {
            "name": options.beir.name,
            **evaluate_collection(read_beir(options.beir), embedder, reranker, options.depth),
        }
    result["seconds"] = round(time.perf_counter() - started, 1)
    show(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
