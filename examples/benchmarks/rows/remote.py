"""Our LangChain components and other clients, with the same `vllm serve`."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
from compare import Rows, Side
from inputs import Searches
from peers import bare_client, langchain_openai, reference, score_route
from peers.prompts import INSTRUCTION
from targets import BARE, OPENAI, OPENAI_SDK, OURS_HTTP, SCORE_ROUTE
from workbench import Workbench

from qwen3_integrations import Embedder, Reranker, open_engine

TEXTS = 20_000
CHECKED = 2_048
QUERIES = 32
DOCUMENTS = 100
ONE_IN_TURN = f"{OURS_HTTP}, one query in turn"


def remote_embed(bench: Workbench) -> None:
    """Embed through LangChain's interface, if it is installed. All sides return Python lists, except the bare client."""
    work = bench.prose.texts(bench.count(TEXTS, 64), 128, seed=128)
    sides, missing = bench.sides(
        ("ours", lambda: _embed(bench)),
        (OPENAI, lambda: langchain_openai.embed(bench)),
        (OPENAI_SDK, lambda: langchain_openai.embed_sdk(bench)),
        (BARE, lambda: bare_client.embed(bench, work)),
    )
    check = work.part(CHECKED)
    server = bench.server("embed")
    bench.measure(
        "remote-embed",
        sides,
        work,
        missing=missing,
        check=check,
        reference=reference.embeddings(bench, check.texts),
        interface=_interface(),
        server=server.program,
        command=list(server.command),
    )


def remote_rerank(bench: Workbench) -> None:
    """Many queries at once, as with LangChain's `batch`, and one after the other."""
    work = bench.prose.searches(bench.count(QUERIES, 3), bench.count(DOCUMENTS, 6), instruction=INSTRUCTION)
    sides, missing = bench.sides(
        ("ours", lambda: _rerank(bench, together=True)),
        (ONE_IN_TURN, lambda: _rerank(bench, together=False)),
        (SCORE_ROUTE, lambda: score_route.rerank(bench)),
    )
    server = bench.server("rerank")
    bench.measure(
        "remote-rerank",
        sides,
        work,
        missing=missing,
        reference=reference.scores(bench, work.pairs, work.instruction),
        unit="pairs/s",
        interface=_interface(),
        server=server.program,
        command=list(server.command),
    )


def _options(server: Any) -> dict[str, Any]:
    # Random weights do not recognise relevant documents, so the handshake checks only the token counts.
    return {"handshake": "counts", "tokenizer": str(server.model_folder)}


def _interface() -> str:
    """The interface of our side: LangChain if it is installed, otherwise the core, with arrays converted to lists."""
    return "LangChain" if find_spec("langchain_core") else "core, without LangChain"


def _embed(bench: Workbench) -> Side:
    server = bench.server("embed")

    def langchain() -> Any:
        from qwen3_integrations.langchain import Qwen3Embeddings

        return Qwen3Embeddings(model=server.model, base_url=server.url, engine_options=_options(server))

    if find_spec("langchain_core"):
        component = bench.opened("our LangChain embeddings", langchain, lambda component: component.close())
        return Side(OURS_HTTP, component.embed_documents, lambda work: work.texts)
    embedder = Embedder(_engine(bench, "embed"))
    return Side(OURS_HTTP, lambda texts: [row.tolist() for row in embedder.embed_documents(texts)], lambda work: work.texts)


def _rerank(bench: Workbench, *, together: bool) -> Side:
    server = bench.server("rerank")
    name = OURS_HTTP if together else ONE_IN_TURN

    def langchain() -> Any:
        from qwen3_integrations.langchain import Qwen3Rerank

        return Qwen3Rerank(model=server.model, base_url=server.url, engine_options=_options(server))

    def inputs(work: Searches) -> list[dict[str, Any]]:
        from langchain_core.documents import Document

        return [{"query": query, "documents": [Document(page_content=text) for text in texts]} for query, texts in work.searches]

    if find_spec("langchain_core"):
        component = bench.opened("our LangChain reranker", langchain, lambda component: component.close())
        return Side(name, component.batch if together else lambda each: [component.invoke(one) for one in each], inputs, _in_order)
    reranker = Reranker(_engine(bench, "rerank"))
    if together:
        return Side(name, reranker.score, lambda work: work.pairs)
    return Side(
        name,
        lambda searches: [reranker.score([(query, text) for text in texts]) for query, texts in searches],
        lambda work: work.searches,
        np.concatenate,
    )


def _engine(bench: Workbench, task: str) -> Any:
    server = bench.server(task)
    options: dict[str, Any] = {"base_url": server.url, **_options(server)}
    return bench.opened(f"our HTTP engine for {task}", lambda: open_engine(task, server.model, **options), lambda engine: engine.close())  # type: ignore[arg-type]


def _in_order(rankings: list[Any]) -> Rows:
    scores: list[float] = []
    for ranking in rankings:
        ordered = sorted(ranking, key=lambda document: document.metadata["original_rank"])
        scores += [document.metadata["relevance_score"] for document in ordered]
    return np.asarray(scores)
