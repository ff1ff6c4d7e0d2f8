"""`/rerank` as Cohere (v1, v2), Jina, vLLM and Text Embeddings Inference have it: the body decides."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import Sequence
from typing import Any

from qwen3_integrations.core.reranker import Reranker
from qwen3_integrations.core.results import Hit, Ranking
from qwen3_integrations.server.admission import estimated_tokens
from qwen3_integrations.server.answer import Answer, tokens_of
from qwen3_integrations.server.bodies import RerankBody
from qwen3_integrations.server.refusal import Api, Refusal
from qwen3_integrations.server.routes.lengths import check_not_cut, check_truncation_direction
from qwen3_integrations.server.service import Service

_NEAREST = 1e-12
"""Log-odds are finite: a probability is at least so far from 0 and 1."""


def api_of(body: RerankBody | None) -> Api:
    """Whose form the answer has."""
    return "tei" if body is not None and body.texts is not None else "cohere"


def items_of(body: RerankBody) -> str:
    """The field with the documents."""
    return "documents" if body.texts is None else "texts"


def tokens_of_rerank(body: RerankBody) -> int:
    """Estimated tokens: the query counts once, because documents share it."""
    return estimated_tokens([body.query, *map(_text_or_nothing, body.documents or body.texts or ())], 1 << 15)


async def rerank(service: Service, body: RerankBody) -> Answer:
    """Rank the documents of a body."""
    served = service.ready().reranker_named(body.model)
    name = items_of(body)
    if body.documents is not None and body.texts is not None:
        raise Refusal(422, "documents and texts can't both be given", code="invalid_field", field="texts")
    given: Sequence[str | dict[str, Any]] | None = body.documents if body.texts is None else body.texts
    if given is None:
        raise Refusal(422, "documents is missing", code="invalid_field", field="documents")
    service.check_items(given, name)
    _check_rest(body)
    texts = [_text(item, index) for index, item in enumerate(given)]
    reranker = Reranker(served.engine, instruction=_instruction(body, served), max_tokens=served.max_tokens, separator=served.separator)
    cut = await _cut(reranker, texts, body)
    ranking = await reranker.arank(body.query, cut, top_n=body.top_n)
    if body.truncate is False:
        check_not_cut(
            min((hit.index for hit in (*ranking.hits, *ranking.dropped) if hit.truncated), default=None), reranker.max_tokens, name
        )
    served_as = body.model or service.ready().names("rerank")[0]
    content = (lambda: _tei(ranking, texts, body)) if body.texts is not None else (lambda: _cohere(ranking, given, body, served_as))
    return Answer(content, ranking.usage, served_as)


def _cohere(ranking: Ranking, given: Sequence[str | dict[str, Any]], body: RerankBody, model: str) -> dict[str, Any]:
    """Results of Cohere and Jina; `usage` is Jina's and vLLM's."""
    units = math.ceil(len(given) / 100)
    return {
        "id": str(uuid.uuid4()),
        "object": "list",
        "model": model,
        "results": [_result(hit, given, body) for hit in ranking],
        "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": units}},
        "usage": tokens_of(ranking.usage),
    }


def _result(hit: Hit, given: Sequence[str | dict[str, Any]], body: RerankBody) -> dict[str, Any]:
    result: dict[str, Any] = {"index": hit.index, "relevance_score": hit.score}
    if body.return_documents:
        document = given[hit.index]
        result["document"] = {"text": document} if isinstance(document, str) else document
    return result


def _tei(ranking: Ranking, texts: Sequence[str], body: RerankBody) -> list[dict[str, Any]]:
    return [
        {"index": hit.index, "score": _log_odds(hit.score) if body.raw_scores else hit.score}
        | ({"text": texts[hit.index]} if body.return_text else {})
        for hit in ranking
    ]


def _log_odds(score: float) -> float:
    bounded = min(max(score, _NEAREST), 1 - _NEAREST)
    return math.log(bounded / (1 - bounded))


def _check_rest(body: RerankBody) -> None:
    """Refuse what would not be honoured."""
    check_truncation_direction(body.truncation_direction)
    if body.rank_fields not in (None, ["text"]):
        raise Refusal(422, "rank_fields can only be ['text']: join the fields in the text", code="invalid_field", field="rank_fields")
    if body.max_chunks_per_doc not in (None, 1):
        reason = "max_chunks_per_doc can only be 1: long documents are cut at the budget"
        raise Refusal(422, reason, code="invalid_field", field="max_chunks_per_doc")
    if body.max_tokens_per_doc is not None and body.max_tokens_per_doc < 1:
        raise Refusal(422, "max_tokens_per_doc must be at least 1", code="invalid_field", field="max_tokens_per_doc")


def _instruction(body: RerankBody, served: Reranker) -> str:
    if body.instruction is not None and body.instruct is not None and body.instruction != body.instruct:
        raise Refusal(422, "instruction and instruct differ, and both mean the same", code="invalid_field", field="instruct")
    given = body.instruction if body.instruction is not None else body.instruct
    return served.instruction if given is None else given


async def _cut(reranker: Reranker, texts: list[str], body: RerankBody) -> list[str]:
    """The documents, each with at most `max_tokens_per_doc` tokens."""
    most, tokenizer = body.max_tokens_per_doc, reranker.engine.tokenizer
    if most is None or tokenizer is None or not any(len(text.encode()) > most for text in texts):
        return texts
    return await asyncio.to_thread(lambda: [tokenizer.cut(text, most)[0] if len(text.encode()) > most else text for text in texts])


def _text(item: str | dict[str, Any], index: int) -> str:
    text = item if isinstance(item, str) else item.get("text")
    if not isinstance(text, str):
        reason = f"documents[{index}] must be a string, or an object with a string under 'text'"
        raise Refusal(422, reason, code="invalid_field", field="documents", index=index)
    return text


def _text_or_nothing(item: object) -> str:
    text = item.get("text") if isinstance(item, dict) else item
    return text if isinstance(text, str) else ""
