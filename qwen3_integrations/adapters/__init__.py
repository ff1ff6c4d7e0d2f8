"""The code that the LangChain and the LlamaIndex components share.

component_settings   `ComponentSettings`: settings, engine, copies, pickling, repr
embedder_settings    `EmbedderSettings`: a component with an `Embedder`
reranker_settings    `RerankerSettings`: a component with a `Reranker`
fields               types of the settings, with their checks
strict_model         pydantic's errors as errors of this package
reranking_retriever  LangChain's `RerankingRetriever`
call_arguments       which arguments of a call a retriever reads

Internal.
"""

from __future__ import annotations

__all__: list[str] = []
