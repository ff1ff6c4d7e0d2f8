"""The stock client: `OpenAIEmbeddings` with the setting that makes it send text instead of another model's token ids."""

from __future__ import annotations

from typing import Any

from compare import Side
from targets import OPENAI, OPENAI_SDK
from workbench import Workbench

CHUNK = 1000
"""Texts per request: the default of its `chunk_size`."""


def embed(bench: Workbench) -> Side:
    """`OpenAIEmbeddings.embed_documents`, which returns lists of floats."""
    from langchain_openai import OpenAIEmbeddings
    from pydantic import SecretStr

    server = bench.server("embed")
    key = SecretStr("none")
    client = OpenAIEmbeddings(model=server.model, base_url=f"{server.url}/v1", api_key=key, check_embedding_ctx_length=False)
    return Side(OPENAI, client.embed_documents, lambda work: work.texts)


def embed_sdk(bench: Workbench) -> Side:
    """The requests of `OpenAIEmbeddings`, sent with the OpenAI SDK: 1,000 texts each, one after the other."""
    import openai

    server = bench.server("embed")
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none")

    def run(texts: list[str]) -> list[Any]:
        vectors: list[Any] = []
        for begin in range(0, len(texts), CHUNK):
            answer = client.embeddings.create(model=server.model, input=texts[begin : begin + CHUNK])
            vectors += [each.embedding for each in answer.data]
        return vectors

    return Side(OPENAI_SDK, run, lambda work: work.texts)
