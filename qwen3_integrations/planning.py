"""From texts to finished prompts: templates put on, tokens counted, documents cut to the budget. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qwen3_integrations.errors import PromptTooLong
from qwen3_integrations.jobs import Head, Ids, Piece, Prompt
from qwen3_integrations.prompts import RERANK_PREFIX, RERANK_SUFFIX, Separator, embedding_query, rerank_body, rerank_head
from qwen3_integrations.tokens import Tokenizer, holds_control_token

_NO_HEAD = Head("", np.empty(0, dtype=np.int32))
_NO_BODY = Piece("", np.empty(0, dtype=np.int32))


def document_prompts(documents: Sequence[str], tokenizer: Tokenizer | None, max_tokens: int) -> tuple[Prompt, ...]:
    """What an embedder reads for documents: the text, cut to the budget, and the end token.

    Args:
        documents: Checked texts.
        tokenizer: The model's own; None: nothing is counted or cut here, the engine does it.
        max_tokens: Budget of a whole prompt, in tokens.
    """
    return _finish([_NO_HEAD] * len(documents), documents, _end(tokenizer), tokenizer, max_tokens)


def query_prompts(queries: Sequence[str], instruction: str, tokenizer: Tokenizer | None, max_tokens: int) -> tuple[Prompt, ...]:
    """What an embedder reads for queries: instruction and query, never cut, and the end token.

    Raises:
        PromptTooLong: If one exceeds the budget.
    """
    texts = [embedding_query(query, instruction) for query in queries]
    ids: Sequence[Ids | None] = tokenizer.encode(texts) if tokenizer else [None] * len(texts)
    heads = [Head(text, own, query, instruction) for text, own, query in zip(texts, ids, queries, strict=True)]
    body, tail = (_NO_BODY if tokenizer else Piece("")), _end(tokenizer)
    prompts = tuple(Prompt(head, body, tail, literal=_is_literal(head, "", tokenizer)) for head in heads)
    for prompt in prompts:
        if prompt.tokens is not None and prompt.tokens > max_tokens:
            raise prompt_too_long(prompt.tokens, max_tokens)
    return prompts


def rerank_prompts(
    pairs: Sequence[tuple[str, str]], instruction: str, separator: Separator, tokenizer: Tokenizer | None, max_tokens: int
) -> tuple[Prompt, ...]:
    """What a reranker reads for pairs of query and document; pairs of equal queries share one `Head`.

    Raises:
        PromptTooLong: If template, instruction and a query exceed the budget.
    """
    queries = list(dict.fromkeys(query for query, _ in pairs))
    texts = [rerank_head(query, instruction, separator) for query in queries]
    ids: Sequence[Ids | None] = [None] * len(texts)
    tail = Piece(RERANK_SUFFIX)
    if tokenizer:
        prefix = tokenizer.template(RERANK_PREFIX)
        ids = [np.concatenate([prefix, own]) for own in tokenizer.encode(texts)]
        tail = Piece(RERANK_SUFFIX, tokenizer.template(RERANK_SUFFIX))
    heads = {query: Head(RERANK_PREFIX + text, own, query, instruction) for query, text, own in zip(queries, texts, ids, strict=True)}
    bodies = [rerank_body(document) for _, document in pairs]
    return _finish([heads[query] for query, _ in pairs], bodies, tail, tokenizer, max_tokens)


def _end(tokenizer: Tokenizer | None) -> Piece:
    """The end token; as text it is empty, since a server's own tokenizer appends it."""
    return Piece("", np.asarray([tokenizer.end_id], dtype=np.int32) if tokenizer else None)


def _finish(heads: Sequence[Head], bodies: Sequence[str], tail: Piece, tokenizer: Tokenizer | None, max_tokens: int) -> tuple[Prompt, ...]:
    if tokenizer is None:
        return tuple(
            Prompt(head, Piece(body), tail, literal=_is_literal(head, body, None)) for head, body in zip(heads, bodies, strict=True)
        )
    bodies_ids = tokenizer.encode(bodies)
    return tuple(
        fit_prompt(head, body, ids, tail, tokenizer, max_tokens) for head, body, ids in zip(heads, bodies, bodies_ids, strict=True)
    )


def fit_prompt(head: Head, body: str, ids: Ids, tail: Piece, tokenizer: Tokenizer, max_tokens: int) -> Prompt:
    """A prompt whose body is cut so that the whole is at most `max_tokens` tokens.

    Args:
        head: With ids.
        body: The part that may be cut.
        ids: The body's ids.
        tail: With ids.
        tokenizer: The model's own.
        max_tokens: Budget of the whole, in tokens.

    Raises:
        PromptTooLong: If head and tail alone exceed the budget.
    """
    assert head.ids is not None
    assert tail.ids is not None
    fixed = len(head.ids) + len(tail.ids)
    if fixed > max_tokens:
        raise prompt_too_long(fixed, max_tokens)
    literal = _is_literal(head, body, tokenizer)
    if fixed + len(ids) <= max_tokens:
        return Prompt(head, Piece(body, ids), tail, literal=literal)
    room = max_tokens - fixed
    beginning, same = tokenizer.cut(body, room)
    return Prompt(head, Piece(beginning, ids[:room]), tail, truncated=True, literal=literal and same)


def _is_literal(head: Head, body: str, tokenizer: Tokenizer | None) -> bool:
    holds = tokenizer.reads_control_token if tokenizer else holds_control_token
    return not (holds(body) or holds(head.query or "") or holds(head.instruction or ""))


def prompt_too_long(tokens: int, max_tokens: int) -> PromptTooLong:
    """The error for a query and instruction that leave no room, with both counts."""
    return PromptTooLong(
        f"template, instruction and query take {tokens} tokens, but max_tokens is {max_tokens}: "
        "shorten the query or the instruction, or raise max_tokens",
        tokens=tokens,
        max_tokens=max_tokens,
    )
