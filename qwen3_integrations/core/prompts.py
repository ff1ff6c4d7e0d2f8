"""The two official templates, the default instruction, and instructions by task. Pure functions on text.

Source: the model cards of Qwen3-Embedding and Qwen3-Reranker, https://github.com/QwenLM/Qwen3-Embedding.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class TextConventions:
    """What a model's folder declares about its texts. The default is the model card's.

    Attributes:
        query: Before a query; None where the folder does not say: the model card's.
        document: Before a document; None where the folder does not say: nothing, as in the model card.
        pooled: False if the pooling leaves out the tokens of the prompt.
        max_tokens: The longest prompt, in tokens with the end token or the template's end; None where the folder does not say.

    Of a reranker, `query` is its instruction in the form of an embedder's prompt.
    """

    query: str | None = None
    document: str | None = None
    pooled: bool = True
    max_tokens: int | None = None

    def before_query(self, instruction: str | None = None) -> str:
        """What stands before a query.

        Args:
            instruction: The caller's, in the template of the model card; empty for none. None: the folder's prompt, else the model
                card's with the default instruction.
        """
        if instruction is None and self.query is not None:
            return self.query
        return query_prompt(DEFAULT_INSTRUCTION if instruction is None else instruction)

    @property
    def before_document(self) -> str:
        """What stands before a document."""
        return self.document or ""

    @property
    def instruction(self) -> str | None:
        """The instruction of a query without one of the caller's: empty for no prompt; None for a prompt without the model card's form."""
        if self.query is None:
            return DEFAULT_INSTRUCTION
        if not self.query:
            return ""
        match = _CARD_PROMPT.fullmatch(self.query)
        return match[1] if match else None

    @property
    def facts(self) -> str | None:
        """What differs from the model card, for a fingerprint; None if nothing does."""
        if self.instruction == DEFAULT_INSTRUCTION and not self.document:
            return None
        return f"query {self.before_query()!r}, document {self.before_document!r}"


MODEL_CARD = TextConventions()
"""The conventions of the published models."""

_CARD_PROMPT = re.compile(r"Instruct: (.+)\nQuery:", re.DOTALL)


def query_prompt(instruction: str) -> str:
    """What stands before an embedded query: `Instruct: ...`, a newline, `Query:` without a space; nothing without an instruction."""
    return f"Instruct: {instruction}\nQuery:" if instruction else ""


def embedding_query(query: str, instruction: str) -> str:
    """Text of an embedded query. With an empty instruction it is the query itself. Documents have no template."""
    return query_prompt(instruction) + query


def rerank_query(query: str, instruction: str, separator: Separator = "\n") -> str:
    """The part that all documents of a query share: from `<Instruct>` to `<Document>:`, without `RERANK_PREFIX`."""
    return f"<Instruct>: {instruction}{separator}<Query>: {query}{separator}<Document>:"


def rerank_body(document: str) -> str:
    """The part of the prompt that belongs to the document.

    The space between `<Document>:` and the text is here and not in the prefix, because the tokenizer joins it to the first word of the
    text. So prefix and body can be encoded separately, with the same ids as the whole prompt.
    """
    return f" {document}"
