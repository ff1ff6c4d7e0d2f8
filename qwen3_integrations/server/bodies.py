"""The bodies of requests, as `msgspec` structures: an unknown field is refused, because it may have been meant to change the answer."""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class Body(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body of a request."""


class EmbeddingsBody(Body):
    """`/v1/embeddings`. Source: OpenAI's API reference; `truncate_prompt_tokens` is vLLM's.

    `input_type` and `instruction` are ours: with `query`, or an instruction, texts are queries. Cohere's words for `input_type` count too.
    """

    input: str | list[Any]
    model: str | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    user: str | None = None
    input_type: Literal["query", "document", "search_query", "search_document", "passage"] | None = None
    instruction: str | None = None
    truncate_prompt_tokens: int | None = None


class RerankBody(Body):
    """`/rerank`, `/v1/rerank`, `/v2/rerank`. Source: the API references of Cohere (v1, v2), Jina, vLLM and TEI.

    TEI's bodies have `texts`, all others `documents`. `instruction` is vLLM's name, `instruct` SGLang's and DashScope's.
    """

    query: str
    documents: list[str | dict[str, Any]] | None = None
    model: str | None = None
    top_n: int | None = None
    return_documents: bool = False
    max_tokens_per_doc: int | None = None
    max_chunks_per_doc: int | None = None
    rank_fields: list[str] | None = None
    instruction: str | None = None
    instruct: str | None = None
    priority: int | None = None
    user: str | None = None
    texts: list[str] | None = None
    raw_scores: bool = False
    return_text: bool = False
    truncate: bool | None = None
    truncation_direction: Literal["right", "Right", "left", "Left"] = "right"


class TeiEmbedBody(Body):
    """`/embed` of Text Embeddings Inference. Source: its OpenAPI description."""

    inputs: str | list[str]
    normalize: bool = True
    truncate: bool | None = None
    truncation_direction: Literal["right", "Right", "left", "Left"] = "right"
    prompt_name: str | None = None
    dimensions: int | None = None


class ScoreBody(Body):
    """`/score` of vLLM: one text or several against several. Source: its API reference; `queries` and `documents` are newer names."""

    model: str | None = None
    text_1: str | list[str] | None = None
    text_2: str | list[str] | None = None
    queries: str | list[str] | None = None
    documents: str | list[str] | None = None
    data_1: str | list[str] | None = None
    data_2: str | list[str] | None = None
    instruction: str | None = None
    user: str | None = None
    truncate_prompt_tokens: int | None = None


class ClassifyBody(Body):
    """`/classify` of vLLM: finished prompts of a reranker. Source: its API reference."""

    input: str | list[str]
    model: str | None = None
    user: str | None = None
    truncate_prompt_tokens: int | None = None


class TokenizeBody(Body):
    """`/tokenize` of vLLM. Source: its API reference."""

    prompt: str
    model: str | None = None
    add_special_tokens: bool = True
    return_token_strs: bool = False
