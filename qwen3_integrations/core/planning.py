"""Texts to finished prompts: apply templates, count tokens, cut documents to the budget. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from qwen3_integrations.core.prompts import (
    MODEL_CARD,
    RERANK_PREFIX,
    RERANK_SUFFIX,
    Separator,
    TextConventions,
    rerank_body,
    rerank_query,
)
from qwen3_integrations.core.tokenizer import Tokenizer, holds_control_token, split_control
from qwen3_integrations.core.types import Ids, Prefix, Prompt, PromptPart
from qwen3_integrations.errors import InvalidText, PromptTooLong

DEFAULT_BUDGET = 8192
"""Tokens of a prompt. Source: the model cards' examples."""

_NO_PREFIX = Prefix("", np.empty(0, dtype=np.int32))
_NO_BODY = PromptPart("", np.empty(0, dtype=np.int32))


def declared_budget(conventions: TextConventions) -> int:
    """Budget of a prompt where the caller gives none, in tokens: 8192, or what the model's folder declares where that is less."""
    return min(DEFAULT_BUDGET, conventions.max_tokens or DEFAULT_BUDGET)


def document_prompts(
    documents: Sequence[str], tokenizer: Tokenizer | None, max_tokens: int, conventions: TextConventions = MODEL_CARD
) -> tuple[Prompt, ...]:
    """The prompts of an embedder for documents: the text behind its prompt, cut to the budget, and the end token.

    Args:
        documents: Checked texts.
        tokenizer: The model's tokenizer; None if the engine counts and cuts.
        max_tokens: Budget of a whole prompt, in tokens.
        conventions: What the model's folder declares.

    Raises:
        InvalidText: For an empty text, where the tokenizer appends no end token; names its index.
        PromptTooLong: If the prompt before a text leaves no room for it.
    """
    head, tail = _split(conventions.before_document, tokenizer)
    prefix = _template_prefix(head, tokenizer)
    bodies = [tail + document for document in documents] if tail else documents
    prompts = _finish([prefix] * len(documents), bodies, _end(tokenizer), tokenizer, max_tokens)
    return _checked(_unpooled(prompts, conventions.before_document, conventions, tokenizer))


def query_prompts(
    queries: Sequence[str],
    instruction: str | None,
    tokenizer: Tokenizer | None,
    max_tokens: int,
    conventions: TextConventions = MODEL_CARD,
) -> tuple[Prompt, ...]:
    """The prompts of an embedder for queries: prompt and query, never cut, and the end token.

    Args:
        queries: Checked texts.
        instruction: The caller's; empty for none. None: the prompt of the conventions.
        tokenizer, max_tokens, conventions: As in `document_prompts`.

    Raises:
        PromptTooLong: If one exceeds the budget; names its index.
        InvalidText: As in `document_prompts`.
    """
    before = conventions.before_query(instruction)
    head, tail = _split(before, tokenizer)
    texts = [tail + query for query in queries]
    start = _template_prefix(head, tokenizer).ids
    ids: Sequence[Ids | None] = [None] * len(texts)
    if tokenizer:
        ids = [own if start is None or not len(start) else np.concatenate([start, own]) for own in tokenizer.encode(texts)]
    prefixes = [Prefix(head + text, own, query, instruction) for text, own, query in zip(texts, ids, queries, strict=True)]
    body, suffix = (_NO_BODY if tokenizer else PromptPart("")), _end(tokenizer)
    prompts = tuple(Prompt(prefix, body, suffix, literal=_is_literal(prefix, "", tokenizer)) for prefix in prefixes)
    for index, prompt in enumerate(prompts):
        if prompt.tokens is not None and prompt.tokens > max_tokens:
            raise prompt_too_long(prompt.tokens, max_tokens, index)
    return _checked(_unpooled(prompts, before, conventions, tokenizer))


def _split(before: str, tokenizer: Tokenizer | None) -> tuple[str, str]:
    """What stands before a text, as a template with control tokens, and as the beginning of the text."""
    if not before:
        return "", ""
    return tokenizer.split_prompt(before) if tokenizer else split_control(before)


def _template_prefix(head: str, tokenizer: Tokenizer | None) -> Prefix:
    """The part of an embedded text that is the same for all texts of a call."""
    if not head and (tokenizer is None or not len(tokenizer.start_ids)):
        return _NO_PREFIX
    if tokenizer is None:
        return Prefix(head)
    return Prefix(head, np.concatenate([tokenizer.start_ids, tokenizer.template(head)]))


def _unpooled(prompts: tuple[Prompt, ...], before: str, conventions: TextConventions, tokenizer: Tokenizer | None) -> tuple[Prompt, ...]:
    if conventions.pooled or not before or tokenizer is None:
        return prompts
    count = tokenizer.count_prompt(before)
    return tuple(replace(prompt, unpooled=count) for prompt in prompts)


def _checked(prompts: tuple[Prompt, ...]) -> tuple[Prompt, ...]:
    for index, prompt in enumerate(prompts):
        if prompt.tokens == 0:
            raise InvalidText(
                "is empty, and the model's tokenizer appends no end token, so there is nothing to embed",
                argument="texts",
                advice="Leave empty texts out",
                index=index,
            )
    return prompts


class PairPlanner:
    """Plans a reranker's prompts, slice after slice of one call.

    Pairs of equal queries share one `Prefix`, also across consecutive slices: engines know a shared prefix by its identity, and compute
    it once for a pass. Only the queries of the last slice are remembered.

    Args:
        instruction: The instruction of all pairs.
        separator: Separator between instruction, query and document.
        tokenizer: The model's tokenizer; None if the engine counts and cuts.
        max_tokens: Budget of a whole prompt, in tokens.
    """

    def __init__(self, instruction: str, separator: Separator, tokenizer: Tokenizer | None, max_tokens: int) -> None:
        self._instruction, self._separator, self._tokenizer, self._max_tokens = instruction, separator, tokenizer, max_tokens
        self._suffix = PromptPart(RERANK_SUFFIX, tokenizer.template(RERANK_SUFFIX) if tokenizer else None)
        self._prefixes: dict[str, Prefix] = {}

    def plan(self, pairs: Sequence[tuple[str, str]]) -> tuple[Prompt, ...]:
        """The prompts for pairs of query and document.

        Raises:
            PromptTooLong: If template, instruction and a query exceed the budget.
        """
        queries = dict.fromkeys(query for query, _ in pairs)
        new = self._new_prefixes([query for query in queries if query not in self._prefixes])
        self._prefixes = {query: self._prefixes.get(query) or new[query] for query in queries}
        prefixes = [self._prefixes[query] for query, _ in pairs]
        return _finish(prefixes, [rerank_body(document) for _, document in pairs], self._suffix, self._tokenizer, self._max_tokens)

    def _new_prefixes(self, queries: Sequence[str]) -> dict[str, Prefix]:
        texts = [rerank_query(query, self._instruction, self._separator) for query in queries]
        ids: Sequence[Ids | None] = [None] * len(texts)
        if self._tokenizer and texts:
            template = self._tokenizer.template(RERANK_PREFIX)
            ids = [np.concatenate([template, own]) for own in self._tokenizer.encode(texts)]
        return {
            query: Prefix(RERANK_PREFIX + text, own, query, self._instruction) for query, text, own in zip(queries, texts, ids, strict=True)
        }


def rerank_prompts(
    pairs: Sequence[tuple[str, str]], instruction: str, separator: Separator, tokenizer: Tokenizer | None, max_tokens: int
) -> tuple[Prompt, ...]:
    """A reranker's prompts for pairs of query and document, all at once; see `PairPlanner`.

    Raises:
        PromptTooLong: If template, instruction and a query exceed the budget.
    """
    return PairPlanner(instruction, separator, tokenizer, max_tokens).plan(pairs)


def _end(tokenizer: Tokenizer | None) -> PromptPart:
    """The end tokens; as text they are empty, since a server's own tokenizer appends them."""
    return PromptPart("", tokenizer.end_ids if tokenizer else None)


def _finish(
    prefixes: Sequence[Prefix], bodies: Sequence[str], suffix: PromptPart, tokenizer: Tokenizer | None, max_tokens: int
) -> tuple[Prompt, ...]:
    if tokenizer is None:
        return tuple(
            Prompt(prefix, PromptPart(body), suffix, literal=_is_literal(prefix, body, None))
            for prefix, body in zip(prefixes, bodies, strict=True)
        )
    prompts = []
    shared = all(prefix is prefixes[0] for prefix in prefixes)
    rooms = [_room(prefix, suffix, max_tokens) for prefix in prefixes]
    for prefix, (body, ids) in zip(prefixes, tokenizer.encode_beginnings(bodies, rooms), strict=True):
        try:
            prompts.append(fit_prompt(prefix, body, ids, suffix, tokenizer, max_tokens))
        except PromptTooLong as error:
            if shared:  # no single item is at fault, but their common query
                raise
            raise error.replace(index=len(prompts)) from None
    return tuple(prompts)


def _room(prefix: Prefix, suffix: PromptPart, max_tokens: int) -> int:
    """Tokens that are left for a body; 0 if there are none."""
    assert prefix.ids is not None
    assert suffix.ids is not None
    return max(max_tokens - len(prefix.ids) - len(suffix.ids), 0)


def fit_prompt(prefix: Prefix, body: str, ids: Ids, suffix: PromptPart, tokenizer: Tokenizer, max_tokens: int) -> Prompt:
    """A prompt whose body is cut so that the whole is at most `max_tokens` tokens.

    Args:
        prefix: With ids.
        body: The part that may be cut; of a text many times the budget a beginning is enough (see `Tokenizer.encode_beginnings`).
        ids: The body's ids.
        suffix: With ids.
        tokenizer: The model's tokenizer.
        max_tokens: Budget of the whole, in tokens.

    Raises:
        PromptTooLong: If prefix and suffix alone exceed the budget.
    """
    assert prefix.ids is not None
    assert suffix.ids is not None
    fixed = len(prefix.ids) + len(suffix.ids)
    if fixed > max_tokens:
        raise prompt_too_long(fixed, max_tokens)
    literal = _is_literal(prefix, body, tokenizer)
    if fixed + len(ids) <= max_tokens:
        return Prompt(prefix, PromptPart(body, ids), suffix, literal=literal)
    room = max_tokens - fixed
    beginning, same = tokenizer.cut(body, room)
    return Prompt(prefix, PromptPart(beginning, ids[:room]), suffix, truncated=True, literal=literal and same)


def _is_literal(prefix: Prefix, body: str, tokenizer: Tokenizer | None) -> bool:
    if tokenizer and tokenizer.lower_case and (text := prefix.text + body) != text.lower():
        return False  # a server may leave it as it is
    holds = tokenizer.reads_control_token if tokenizer else holds_control_token
    return not (holds(body) or holds(prefix.query or "") or holds(prefix.instruction or ""))


def prompt_too_long(tokens: int, max_tokens: int, index: int | None = None) -> PromptTooLong:
    """The error for a query and an instruction that exceed the budget, with both counts and the query's position in a list."""
    return PromptTooLong(
        f"template, instruction and query take {tokens} tokens, but max_tokens is {max_tokens}",
        tokens=tokens,
        max_tokens=max_tokens,
        advice="Shorten the query or the instruction, or raise max_tokens",
        index=index,
    )
