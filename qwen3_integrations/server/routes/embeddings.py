"""`/v1/embeddings` as OpenAI has it, and `/embed` as Text Embeddings Inference has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qwen3_integrations.core.embedder import Embedder, unit_rows
from qwen3_integrations.core.results import Usage
from qwen3_integrations.core.types import Job, Prefix, Prompt, PromptPart, Rows
from qwen3_integrations.server.admission import estimated_tokens
from qwen3_integrations.server.answer import Answer, base64_of, tokens_of
from qwen3_integrations.server.bodies import EmbeddingsBody, TeiEmbedBody
from qwen3_integrations.server.refusal import Refusal
from qwen3_integrations.server.routes.lengths import check_not_cut, check_truncation_direction
from qwen3_integrations.server.service import Service

_QUERIES = ("query", "search_query")

_IDS = (
    "input has token ids, not text. Clients send the ids of another model's tokenizer here, and the vectors would be wrong: "
    "turn that off (LangChain: OpenAIEmbeddings(..., check_embedding_ctx_length=False)), or start the server with --token-ids"
)


async def embeddings(service: Service, body: EmbeddingsBody) -> Answer:
    """Embed the texts of a body."""
    served, by_name = service.ready().embedder_named(body.model)
    items: list[Any] = [body.input] if isinstance(body.input, str) or _are_ids(body.input) else body.input
    service.check_items(items, "input")
    queries = _are_queries(body, by_name)
    embedder = _for_request(served, body)
    if any(_are_ids(item) for item in items):
        rows, usage = await _of_ids(service, embedder, items)
    else:
        for index, item in enumerate(items):
            if not isinstance(item, str):
                reason = f"input[{index}] must be a string, not {type(item).__name__}"
                raise Refusal(422, reason, code="invalid_field", field="input", index=index)
        rows = await (embedder.aembed_queries(items) if queries else embedder.aembed_documents(items))
        usage = embedder.usage
    name = body.model or service.ready().names("embed")[0]
    return Answer(lambda: _content(rows, name, usage, body.encoding_format == "base64"), usage, name, rows.size)


async def tei_embed(service: Service, body: TeiEmbedBody) -> Answer:
    """Embed the texts of a body in the form of Text Embeddings Inference."""
    served, _ = service.ready().embedder_named(None)
    items = [body.inputs] if isinstance(body.inputs, str) else body.inputs
    service.check_items(items, "inputs")
    check_truncation_direction(body.truncation_direction)
    if not body.normalize:
        raise Refusal(422, "the vectors of this model have unit length; normalize must be true", code="invalid_field", field="normalize")
    if body.prompt_name not in (None, "query", "document"):
        reason = f"prompt_name {body.prompt_name!r} is not known; query and document are"
        raise Refusal(422, reason, code="invalid_field", field="prompt_name")
    dimensions = served.dimensions if body.dimensions is None else body.dimensions
    embedder = Embedder(served.engine, instruction=served.instruction, dimensions=dimensions, max_tokens=served.max_tokens)
    rows = await (embedder.aembed_queries(items) if body.prompt_name == "query" else embedder.aembed_documents(items))
    if body.truncate is False and embedder.usage.truncated:
        check_not_cut(0 if len(items) == 1 else -1, served.max_tokens, "inputs")
    return Answer(lambda: list(rows), embedder.usage, service.ready().names("embed")[0], rows.size)


def tokens_of_embeddings(body: EmbeddingsBody) -> int:
    """Estimated tokens."""
    items = [body.input] if isinstance(body.input, str) else body.input
    return estimated_tokens([item for item in items if isinstance(item, str)], 1 << 15) + sum(
        len(item) for item in items if isinstance(item, list)
    )


def tokens_of_tei(body: TeiEmbedBody) -> int:
    """Estimated tokens."""
    return estimated_tokens([body.inputs] if isinstance(body.inputs, str) else body.inputs, 1 << 15)


def _for_request(served: Embedder, body: EmbeddingsBody) -> Embedder:
    """An embedder on the same engine with the settings of a request; it counts the usage of this request."""
    limit = body.truncate_prompt_tokens
    if limit is not None and limit != -1 and limit < 1:
        raise Refusal(
            422, f"truncate_prompt_tokens must be at least 1, or -1, not {limit}", code="invalid_field", field="truncate_prompt_tokens"
        )
    budget = served.max_tokens if limit in (None, -1) else min(int(limit or 1), served.max_tokens)
    instruction = served.instruction if body.instruction is None else body.instruction
    dimensions = served.dimensions if body.dimensions is None else body.dimensions
    return Embedder(served.engine, instruction=instruction, dimensions=dimensions, max_tokens=budget)


def _are_queries(body: EmbeddingsBody, by_name: bool) -> bool:
    """Whether the texts are queries, by the model's name, `input_type` or `instruction`."""
    as_documents = body.input_type is not None and body.input_type not in _QUERIES
    if as_documents and (by_name or body.instruction is not None):
        other = "the model's name says query" if by_name else "there is an instruction, which is for queries"
        raise Refusal(422, f"input_type is {body.input_type!r}, but {other}", code="invalid_field", field="input_type")
    return by_name or body.input_type in _QUERIES or body.instruction is not None


def _are_ids(item: object) -> bool:
    return isinstance(item, list) and bool(item) and all(type(each) is int for each in item)


async def _of_ids(service: Service, embedder: Embedder, items: Sequence[Any]) -> tuple[Rows, Usage]:
    """Vectors of finished prompts as token ids."""
    if not service.settings.token_ids:
        raise Refusal(400, _IDS, code="token_ids", field="input")
    tokenizer = embedder.engine.tokenizer
    most = tokenizer.largest_id if tokenizer else (1 << 31) - 1
    for index, item in enumerate(items):
        if not _are_ids(item) or not all(0 <= each <= most for each in item):
            raise Refusal(400, f"input[{index}] must be token ids from 0 to {most}", code="invalid_ids", field="input", index=index)
        if len(item) > embedder.max_tokens:
            reason = f"input[{index}] has {len(item)} token ids; at most {embedder.max_tokens} are read"
            raise Refusal(400, reason, code="context_length_exceeded", field="input", index=index)
    empty = np.empty(0, dtype=np.int32)
    prompts = tuple(
        Prompt(Prefix("", empty), PromptPart("", np.asarray(item, dtype=np.int32)), PromptPart("", empty), literal=False) for item in items
    )
    reply = await embedder.engine.arun(Job("embed", prompts, embedder.max_tokens))
    return unit_rows(reply.rows, len(prompts), embedder.dimensions, 0), Usage(len(prompts), sum(map(len, items)))


def _content(rows: Rows, model: str, usage: Usage, base64: bool) -> dict[str, Any]:
    data = [{"object": "embedding", "index": index, "embedding": base64_of(row) if base64 else row} for index, row in enumerate(rows)]
    return {"object": "list", "data": data, "model": model, "usage": tokens_of(usage)}
