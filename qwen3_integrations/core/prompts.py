"""The two official templates, the default instruction, and instructions by task. Pure functions on text.

Source: the model cards of Qwen3-Embedding and Qwen3-Reranker, https://github.com/QwenLM/Qwen3-Embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

DEFAULT_INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"

INSTRUCTIONS: Mapping[str, str] = MappingProxyType(
    {
        "web search": DEFAULT_INSTRUCTION,
        "question answering": "Given a question, retrieve passages that answer the question",
        "documentation": "Given a question about software, retrieve documentation passages that answer it",
        "code search": "Given a description of a task, retrieve code that performs it",
        "fact checking": "Given a claim, retrieve documents that support or refute the claim",
        "scientific papers": "Given a research question, retrieve abstracts of papers that address it",
        "duplicate questions": "Given a question, retrieve other questions that ask the same thing",
        "similar texts": "Retrieve texts with the same meaning",
        "support tickets": "Given a customer's problem, retrieve articles that solve it",
        "classification": "Identify the category that best fits the text",
    }
)
"""Instructions by task. They are in English, because the model card recommends it also for texts in other languages."""

Separator = Literal["\n", "\n\n"]
"""Separator between the lines of the reranker's prompt: `\\n` in the model card, `\\n\\n` in the repository's evaluation code."""

RERANK_PREFIX = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
RERANK_SUFFIX = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"


def embedding_query(query: str, instruction: str) -> str:
    """Text of an embedded query. With an empty instruction it is the query itself.

    There is no space after `Query:`. Documents have no template.
    """
    return f"Instruct: {instruction}\nQuery:{query}" if instruction else query


def rerank_query(query: str, instruction: str, separator: Separator = "\n") -> str:
    """The part that all documents of a query share: from `<Instruct>` to `<Document>:`, without `RERANK_PREFIX`."""
    return f"<Instruct>: {instruction}{separator}<Query>: {query}{separator}<Document>:"


def rerank_body(document: str) -> str:
    """The part of the prompt that belongs to the document.

    The space between `<Document>:` and the text is here and not in the prefix, because the tokenizer joins it to the first word of the
    text. So prefix and body can be encoded separately, with the same ids as the whole prompt.
    """
    return f" {document}"
