"""`/score` of vLLM: one request per query, one after another; the server applies the shipped template."""

from __future__ import annotations

from typing import Any

from compare import Side
from targets import SCORE_ROUTE
from workbench import Workbench


def rerank(bench: Workbench) -> Side:
    """Scores in the order of the pairs."""
    import httpx

    server = bench.server("rerank")
    client = bench.opened("a client of /score", lambda: httpx.Client(timeout=600, trust_env=False), lambda made: made.close())

    def run(searches: list[tuple[str, list[str]]]) -> list[float]:
        scores: list[float] = []
        for query, documents in searches:
            body: dict[str, Any] = {"model": server.model, "text_1": query, "text_2": documents}
            answer = client.post(f"{server.url}/score", json=body)
            answer.raise_for_status()
            scores += [item["score"] for item in sorted(answer.json()["data"], key=lambda item: item["index"])]
        return scores

    return Side(SCORE_ROUTE, run, lambda work: work.searches)
