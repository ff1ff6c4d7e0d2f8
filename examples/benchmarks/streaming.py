"""Time to the first prompt, and throughput of the pipeline, compared with planning everything first and with one slice at a time.

    python examples/benchmarks/streaming.py
    python examples/benchmarks/streaming.py --documents 600 --texts 1024 --repeats 3

The engine is a double with a fixed latency, so that only this package is measured. The sides run alternately. The output has the
median and the interquartile range of the repeats; ratios are ratios of medians.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable
from pydoc_data.topics import topics

import numpy as np

from qwen3_integrations import Embedder, FakeEngine, Reranker
from qwen3_integrations.analysis.corpus import Survey
from qwen3_integrations.core.planning import rerank_prompts
from qwen3_integrations.core.prompts import DEFAULT_INSTRUCTION
from qwen3_integrations.core.types import Job, Reply, Task

QUERY = "How do I use it?"


class Waiting(FakeEngine):
    """Answers each job after a fixed time, and stores the time of the first job."""

    def __init__(self, task: Task, latency_s: float = 0.0) -> None:
        super().__init__(task)
        self.latency_s, self.first_at = latency_s, 0.0

    def run(self, job: Job) -> Reply:
        """Answer a job."""
        self._note()
        time.sleep(self.latency_s)
        return _reply(job)

    async def arun(self, job: Job) -> Reply:
        """Answer a job without blocking the event loop."""
        self._note()
        await asyncio.sleep(self.latency_s)
        return _reply(job)

    def _note(self) -> None:
        self.first_at = self.first_at or time.perf_counter()


def _reply(job: Job) -> Reply:
    shape = (len(job.prompts), 64) if job.task == "embed" else (len(job.prompts),)
    return Reply(np.full(shape, 0.125, np.float32), 0)


def paragraphs(count: int, words: int) -> list[str]:
    """Passages of Python's own documentation, which differ from the first word on."""
    text = " ".join(topics.values()).split()
    return [f"{number} " + " ".join(text[(at := number * words % (len(text) - words)) : at + words]) for number in range(count)]


def turns(sides: dict[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each side; the sides run alternately."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            found[name].append(side())
    return found


def show(title: str, found: dict[str, list[float]]) -> None:
    """Print a table of medians; the ratio is the speed relative to the first side."""
    print(title)
    first = statistics.median(next(iter(found.values())))
    for name, seconds in found.items():
        low, middle, high = statistics.quantiles(seconds, n=4, method="inclusive")
        print(f"  {name:52}{middle:9.3f} s ({low:.3f} to {high:.3f}){first / middle:8.1f}x")


def first_prompt(documents: list[str]) -> dict[str, Callable[[], float]]:
    """Seconds from the call to the engine's first job."""

    def rank() -> float:
        engine = Waiting("rerank")
        started = time.perf_counter()
        Reranker(engine).rank(QUERY, documents)
        return engine.first_at - started

    def all_first() -> float:
        engine = Waiting("rerank")
        started = time.perf_counter()
        pairs = [(QUERY, text) for text in documents]
        engine.run(Job("rerank", rerank_prompts(pairs, DEFAULT_INSTRUCTION, "\n", engine.tokenizer, 8192), 8192))
        return engine.first_at - started

    return {"all documents planned first": all_first, "rank": rank}


def whole_corpus(texts: list[str], latency_s: float) -> dict[str, Callable[[], float]]:
    """Seconds for all texts."""

    def timed(work: Callable[[Embedder], object]) -> Callable[[], float]:
        def side() -> float:
            embedder = Embedder(Waiting("embed", latency_s))
            started = time.perf_counter()
            work(embedder)
            return time.perf_counter() - started

        return side

    def one_by_one(embedder: Embedder) -> None:
        for at in range(0, len(texts), 256):
            embedder.embed_documents(texts[at : at + 256])

    def survey(embedder: Embedder) -> None:
        made = Survey(embedder, texts, None, None, None, None, 0.98)
        asyncio.run(made.open(lambda _: None))

    return {
        "one slice at a time": timed(one_by_one),
        "the explorer's survey": timed(survey),
        "embed_documents": timed(lambda embedder: embedder.embed_documents(texts)),
        "iter_documents": timed(lambda embedder: list(embedder.iter_documents(iter(texts)))),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=6000, help="documents to rank")
    parser.add_argument("--words", type=int, default=270, help="words of a document; 270 are about 400 tokens")
    parser.add_argument("--texts", type=int, default=4096, help="texts to embed")
    parser.add_argument("--latency", type=float, default=0.2, help="seconds that the engine takes for a job")
    parser.add_argument("--repeats", type=int, default=3, help="at least 2")
    chosen = parser.parse_args()

    documents = paragraphs(chosen.documents, chosen.words)
    show(
        f"Time until the engine's first prompt: one query, {chosen.documents:,} documents of {chosen.words} words",
        turns(first_prompt(documents), chosen.repeats),
    )
    show(
        f"{chosen.texts:,} texts of 20 words, {chosen.latency} s per job",
        turns(whole_corpus(paragraphs(chosen.texts, 20), chosen.latency), chosen.repeats),
    )


if __name__ == "__main__":
    main()
