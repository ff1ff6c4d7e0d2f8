"""Many concurrent callers with one query per call, compared with one caller, on the embedded vLLM engine."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from compare import Rows, Side
from peers import reference
from peers.prompts import query_text
from targets import ONE_CALLER, TASKS, THREADS
from workbench import Workbench

CALLERS = 256
CALLS = 2048
QUERY_TOKENS = 24


def callers(bench: Workbench) -> None:
    """Calls per second of one caller, of 256 threads and of 256 tasks of one event loop."""
    work = bench.prose.texts(bench.count(CALLS, 64), QUERY_TOKENS, seed=24)
    sides = [threads(bench, CALLERS, THREADS), tasks(bench, CALLERS), one_caller(bench)]
    prompts = [query_text(text) for text in work.texts]
    bench.measure("callers", sides, work, reference=reference.embeddings(bench, prompts), unit="calls/s", callers=CALLERS)


def one_caller(bench: Workbench) -> Side:
    """One call after the other, with an eighth of the work."""
    embedder = _embedder(bench)
    return Side(
        ONE_CALLER, lambda queries: [embedder.embed_queries([query]) for query in queries], lambda work: work.texts, _stacked, share=0.125
    )


def threads(bench: Workbench, count: int, name: str = "") -> Side:
    """`count` threads, each with one call at a time."""
    embedder = _embedder(bench)
    pool = bench.opened(f"{count} threads", lambda: ThreadPoolExecutor(count), lambda pool: pool.shutdown())

    def run(queries: list[str]) -> list[Any]:
        return list(pool.map(lambda query: embedder.embed_queries([query]), queries))

    return Side(name or f"{count} threads", run, lambda work: work.texts, _stacked)


def tasks(bench: Workbench, count: int) -> Side:
    """`count` tasks of one event loop, each with one call at a time."""
    embedder = _embedder(bench)

    async def all_of(queries: list[str]) -> list[Any]:
        places = asyncio.Semaphore(count)

        async def one(query: str) -> Any:
            async with places:
                return await embedder.aembed_queries([query])

        return list(await asyncio.gather(*map(one, queries)))

    return Side(
        TASKS if count == CALLERS else f"{count} tasks", lambda queries: asyncio.run(all_of(queries)), lambda work: work.texts, _stacked
    )


def _embedder(bench: Workbench) -> Any:
    from qwen3_integrations import Embedder

    return Embedder(bench.vllm_engine("embed"))


def _stacked(rows: list[Any]) -> Rows:
    return np.concatenate(rows).astype(np.float64)
