"""Throughput of many callers against one caller, with one query per call, on any engine.

    python examples/benchmarks/concurrency.py --backend vllm --model qwen3-tiny-demo
    python examples/benchmarks/concurrency.py --backend http --base-url http://localhost:8000/v1 --model Qwen/Qwen3-Embedding-0.6B
    python examples/benchmarks/concurrency.py --backend vllm --task rerank --option max_model_len=4096 --option dtype=bfloat16

Prints calls per second for one caller, for threads and for tasks of one event loop, which run alternately: the median and the
interquartile range of the repeats. Ratios are ratios of medians. Every call has a different text, so that no cache answers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pydoc_data.topics import topics
from typing import Any

from qwen3_integrations import Embedder, Reranker, open_engine


def paragraphs(count: int, words: int) -> list[str]:
    """Passages of Python's own documentation, which differ from the first word on."""
    text = " ".join(topics.values()).split()
    return [f"{number} " + " ".join(text[(at := number * words % (len(text) - words)) : at + words]) for number in range(count)]


def calls(engine: Any) -> tuple[Callable[[str], Any], Callable[[str], Awaitable[Any]]]:
    """One query embedded, or one pair scored, sync and async."""
    if engine.task == "embed":
        embedder = Embedder(engine)
        return lambda text: embedder.embed_queries([text]), lambda text: embedder.aembed_queries([text])
    reranker = Reranker(engine)
    return lambda text: reranker.score([("How do I use it?", text)]), lambda text: reranker.ascore([("How do I use it?", text)])


def rate(run: Callable[[list[str]], Any], batch: list[str]) -> float:
    """Calls per second."""
    started = time.perf_counter()
    run(batch)
    return len(batch) / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="auto", choices=["auto", "vllm", "torch", "http", "fake"])
    parser.add_argument("--task", default="embed", choices=["embed", "rerank"])
    parser.add_argument("--model", default=None)
    parser.add_argument("--base-url", default=None)
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="an engine's option; the value as JSON or text")
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--calls", type=int, default=256, help="calls in one repeat")
    parser.add_argument("--repeats", type=int, default=5, help="at least 2")
    parser.add_argument("--words", type=int, default=20, help="words of a text")
    chosen = parser.parse_args()

    with open_engine(
        chosen.task, chosen.model, base_url=chosen.base_url, backend=chosen.backend, **dict(map(option, chosen.option))
    ) as engine:  # type: ignore[attr-defined]
        call, acall = calls(engine)

        async def tasks(batch: list[str]) -> None:
            gate = asyncio.Semaphore(chosen.callers)

            async def one(text: str) -> None:
                async with gate:
                    await acall(text)

            await asyncio.gather(*map(one, batch))

        texts = paragraphs((3 * chosen.repeats + 1) * chosen.calls, chosen.words)
        batches = iter([texts[at : at + chosen.calls] for at in range(0, len(texts), chosen.calls)])
        with ThreadPoolExecutor(chosen.callers) as pool:
            ways: dict[str, Callable[[list[str]], Any]] = {
                "one caller": lambda batch: [call(text) for text in batch],
                f"{chosen.callers} threads": lambda batch: list(pool.map(call, batch)),
                f"{chosen.callers} tasks": lambda batch: asyncio.run(tasks(batch)),
            }
            list(pool.map(call, next(batches)))  # warm
            rates = [[rate(run, next(batches)) for run in ways.values()] for _ in range(chosen.repeats)]
        print(f"{engine!r}: {chosen.words} words a call, {chosen.calls} calls, median of {chosen.repeats} (interquartile range)")
        one, *_ = map(statistics.median, zip(*rates, strict=True))
        for name, found in zip(ways, zip(*rates, strict=True), strict=True):
            low, middle, high = statistics.quantiles(found, n=4, method="inclusive")
            print(f"{name:12}{middle:10.1f} calls/s ({low:.1f} to {high:.1f}){middle / one:7.1f}x")


def option(text: str) -> tuple[str, Any]:
    """Parse `name=value`; the value is JSON if it can be parsed as JSON, otherwise a string."""
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


if __name__ == "__main__":
    main()
