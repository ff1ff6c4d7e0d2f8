"""`/score`, `/classify` and `/tokenize` as vLLM has them."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Sequence
from typing import Any

from qwen3_integrations.core.embedder import Embedder
from qwen3_integrations.core.prompts import RERANK_PREFIX, RERANK_SUFFIX
from qwen3_integrations.core.reranker import Reranker
from qwen3_integrations.core.results import Usage
from qwen3_integrations.core.types import Rows
from qwen3_integrations.server.admission import estimated_tokens
from qwen3_integrations.server.answer import Answer, tokens_of
from qwen3_integrations.server.bodies import ClassifyBody, ScoreBody, TokenizeBody
from qwen3_integrations.server.refusal import Refusal
from qwen3_integrations.server.service import Service

_BODY = re.compile(r"<Instruct>: (.*?)\n<Query>: (.*?)\n<Document>: (.*)", re.DOTALL)


async def score(service: Service, body: ScoreBody) -> Answer:
    """Score pairs: one text against several, or several against as many."""
    served = service.ready().reranker_named(body.model)
    firsts, seconds = _listed(body, _FIRST), _listed(body, _SECOND)
    for name, texts in (("text_1", firsts), ("text_2", seconds)):
        service.check_items(texts, name)
    _check_truncation(body.truncate_prompt_tokens)
    if len(firsts) not in (1, len(seconds)):
        reason = f"{len(firsts)} first and {len(seconds)} second texts: the first must be one, or as many as the second"
        raise Refusal(422, reason, code="invalid_field", field="text_1")
    queries = firsts * len(seconds) if len(firsts) == 1 else firsts
    reranker = _for_request(served, served.instruction if body.instruction is None else body.instruction)
    scores = await reranker.ascore(list(zip(queries, seconds, strict=True)))
    name = body.model or service.ready().names("rerank")[0]
    return Answer(lambda: _list_of(scores, "score", name, reranker.usage), reranker.usage, name)


async def classify(service: Service, body: ClassifyBody) -> Answer:
    """Score finished prompts. Only the published template is accepted; the texts in it stay text."""
    served = service.ready().reranker_named(body.model)
    prompts = [body.input] if isinstance(body.input, str) else body.input
    service.check_items(prompts, "input")
    _check_truncation(body.truncate_prompt_tokens)
    parts = [_parts(prompt, index) for index, prompt in enumerate(prompts)]
    instructions = dict.fromkeys(instruction for instruction, _, _ in parts)
    scores: list[float] = [0.0] * len(parts)
    usage = Usage()
    for instruction in instructions:
        places = [place for place, part in enumerate(parts) if part[0] == instruction]
        reranker = _for_request(served, instruction)
        for place, one in zip(places, await reranker.ascore([parts[place][1:] for place in places]), strict=True):
            scores[place] = float(one)
        usage += reranker.usage
    name = body.model or service.ready().names("rerank")[0]
    return Answer(lambda: _classes(scores, name, usage), usage, name)


async def tokenize(service: Service, body: TokenizeBody) -> Answer:
    """Token ids of a text as the embedder, or else the reranker, reads it: as text, without control tokens in it."""
    served = service.ready()
    is_embedder = served.embedder is not None and body.model in (None, "", *served.names("embed"))
    component: Embedder | Reranker = served.embedder_named(body.model)[0] if is_embedder else served.reranker_named(body.model)
    tokenizer = component.engine.tokenizer
    if tokenizer is None:
        raise Refusal(501, f"the {component.engine.backend} engine has no tokenizer", code="no_tokenizer")
    (ids,) = await asyncio.to_thread(tokenizer.encode, [body.prompt])
    around = body.add_special_tokens and is_embedder
    tokens = [*tokenizer.start_ids.tolist(), *ids.tolist(), *tokenizer.end_ids.tolist()] if around else ids.tolist()
    content: dict[str, Any] = {"count": len(tokens), "max_model_len": component.max_tokens, "tokens": tokens}
    if body.return_token_strs:
        content["token_strs"] = [tokenizer.spelling(token) for token in tokens]
    return Answer(lambda: content, Usage(), component.engine.model)


def tokens_of_score(body: ScoreBody) -> int:
    """Estimated tokens."""
    texts = [text for names in (_FIRST, _SECOND) for text in _values(body, names)]
    return estimated_tokens(texts, 1 << 15)


def tokens_of_classify(body: ClassifyBody) -> int:
    """Estimated tokens."""
    return estimated_tokens([body.input] if isinstance(body.input, str) else body.input, 1 << 15)


def tokens_of_tokenize(body: TokenizeBody) -> int:
    """Estimated tokens of a model's work that takes as long: tokenising is about a hundred times as fast."""
    return len(body.prompt) // 400


_FIRST = ("text_1", "queries", "data_1")
_SECOND = ("text_2", "documents", "data_2")


def _values(body: ScoreBody, names: Sequence[str]) -> list[str]:
    found: str | list[str] = next((value for name in names if (value := getattr(body, name)) is not None), [])
    return [found] if isinstance(found, str) else found


def _listed(body: ScoreBody, names: Sequence[str]) -> list[str]:
    given = [name for name in names if getattr(body, name) is not None]
    if len(given) != 1:
        found = " and ".join(given) or "none"
        raise Refusal(422, f"one of {', '.join(names)} is needed, not {found}", code="invalid_field", field=names[0])
    return _values(body, names)


def _parts(prompt: str, index: int) -> tuple[str, str, str]:
    """Instruction, query and document of a finished prompt."""
    inner = prompt.removeprefix(RERANK_PREFIX).removesuffix(RERANK_SUFFIX)
    match = _BODY.fullmatch(inner) if len(inner) == len(prompt) - len(RERANK_PREFIX) - len(RERANK_SUFFIX) else None
    if match is None:
        reason = f"input[{index}] is no finished prompt in the template of the model card; /rerank and /score take query and document"
        raise Refusal(400, reason, code="invalid_prompt", field="input", index=index)
    return match[1], match[2], match[3]


def _for_request(served: Reranker, instruction: str) -> Reranker:
    """A reranker on the same engine, which counts the usage of this request."""
    return Reranker(served.engine, instruction=instruction, max_tokens=served.max_tokens, separator=served.separator)


def _check_truncation(limit: int | None) -> None:
    if limit not in (None, -1):
        reason = "truncate_prompt_tokens can only be -1: the document alone is cut, at the budget"
        raise Refusal(422, reason, code="invalid_field", field="truncate_prompt_tokens")


def _list_of(scores: Rows, kind: str, model: str, usage: Usage) -> dict[str, Any]:
    data = [{"index": index, "object": kind, kind: float(one)} for index, one in enumerate(scores)]
    return _frame("score", data, model, usage)


def _classes(scores: Sequence[float], model: str, usage: Usage) -> dict[str, Any]:
    data = [{"index": index, "label": "yes", "probs": [one], "num_classes": 1} for index, one in enumerate(scores)]
    return _frame("classify", data, model, usage)


def _frame(kind: str, data: list[dict[str, Any]], model: str, usage: Usage) -> dict[str, Any]:
    return {
        "id": f"{kind}-{uuid.uuid4().hex}",
        "object": "list",
        "created": int(time.time()),
        "model": model,
        "data": data,
        "usage": tokens_of(usage),
    }
