"""Answers from documents with LangChain: `python examples/langchain_rag.py "How do I copy a file?"`.

Works offline: the bundled toy pair shows how it works, not quality, and the language model is LangChain's fake one, which returns a fixed
answer. For real answers: --model Qwen/Qwen3-Embedding-0.6B --reranker Qwen/Qwen3-Reranker-0.6B, and your chat model instead of `FAKE`.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import statistics

from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore

from qwen3_integrations.langchain import Qwen3Embeddings, Qwen3Rerank, RerankingRetriever

DOCUMENTS = [
    Document(page_content=f"{module.__name__}.{name}: {function.__doc__}", metadata={"module": module.__name__})
    for module in (csv, json, shutil, statistics)
    for name, function in sorted(vars(module).items())
    if callable(function) and not name.startswith("_") and function.__doc__
]
PROMPT = ChatPromptTemplate.from_template("Answer from these documents alone.\n\n{documents}\n\nQuestion: {question}")
FAKE = FakeListChatModel(responses=["(a fake model's words) See the first document."])


def joined(documents: list[Document]) -> str:
    return "\n---\n".join(document.page_content for document in documents)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("question")
    options.add_argument("--model", default="qwen3-tiny-demo")
    options.add_argument("--reranker", default="qwen3-tiny-demo")
    chosen = options.parse_args()

    store = InMemoryVectorStore(Qwen3Embeddings(model=chosen.model))
    store.add_documents(DOCUMENTS)
    retriever = RerankingRetriever(retriever=store, fetch_k=20, reranker=Qwen3Rerank(model=chosen.reranker, top_n=3))
    for document in retriever.invoke(chosen.question):
        print(f"{document.metadata['relevance_score']:.3f}  was {document.metadata['original_rank'] + 1:2}  {document.page_content[:80]!r}")
    chain = {"documents": retriever | joined, "question": RunnablePassthrough()} | PROMPT | FAKE | StrOutputParser()
    print(chain.invoke(chosen.question))


if __name__ == "__main__":
    main()
