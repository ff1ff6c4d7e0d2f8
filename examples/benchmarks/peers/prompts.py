"""Prompts made by the code of the model cards, so that the peers use no code of this package."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import tokenizers

INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"
PREFIX = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
SUFFIX = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"


def query_text(query: str, instruction: str = INSTRUCTION) -> str:
    """`get_detailed_instruct` of the embedding card."""
    return f"Instruct: {instruction}\nQuery:{query}"


def pair_text(query: str, document: str, instruction: str) -> str:
    """`format_instruction` of the reranker card."""
    return f"<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}"


@cache
def tokenizer(folder: Path) -> tokenizers.Tokenizer:
    """The model's own tokenizer."""
    return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))


def text_ids(folder: Path, texts: Sequence[str]) -> list[list[int]]:
    """Ids of texts to embed; the embedder's tokenizer appends the end token."""
    return [encoding.ids for encoding in tokenizer(folder).encode_batch(list(texts))]


def pair_ids(folder: Path, pairs: Sequence[tuple[str, str]], instruction: str) -> list[list[int]]:
    """Ids of pairs to score: `process_inputs` of the reranker card."""
    known = tokenizer(folder)
    prefix, suffix = (known.encode(text, add_special_tokens=False).ids for text in (PREFIX, SUFFIX))
    bodies = known.encode_batch([pair_text(query, document, instruction) for query, document in pairs], add_special_tokens=False)
    return [prefix + body.ids + suffix for body in bodies]
