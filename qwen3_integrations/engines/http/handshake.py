"""The one-time check of a server by what it answers, so that a wrong server is an error and not a bad search."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

import numpy as np

from qwen3_integrations.core.planning import document_prompts, query_prompts, rerank_prompts
from qwen3_integrations.core.prompts import DEFAULT_INSTRUCTION, TextConventions
from qwen3_integrations.core.tokenizer import END_TOKEN, Tokenizer
from qwen3_integrations.core.types import Prompt, Rows, Task
from qwen3_integrations.engines.http.dialects import Answer
from qwen3_integrations.engines.http.family import is_known
from qwen3_integrations.engines.http.server_info import Counts, Proof, ServerInfo
from qwen3_integrations.errors import HandshakeFailed, RequestRefused, RouteNotServed, ServerFailed

log = logging.getLogger("qwen3_integrations")

Handshake = Literal["full", "counts", "off"]
"""`full` checks token counts and the order of scores or cosines; `counts` checks only token counts; `off` checks nothing."""

EASY = (
    ("How do I read a file?", "To read a file, open it and call its read method.", "The moon was bright and the night was cold."),
    (
        "How do I sort a list?",
        "Sort a list with its sort method, or get a sorted copy of the list.",
        "Wine is made from grapes in the south.",
    ),
    (
        "How do I parse JSON text?",
        "To parse JSON text, pass the text to the loads function of the json module.",
        "The king lived in a castle.",
    ),
)
"""Query, relevant document, irrelevant document: every correct model gives the relevant document the higher score."""

PUBLISHED_COUNTS = {"embed": 14, "rerank": 91, "bare": 20}
"""Tokens of the first easy pair with the published Qwen3 tokenizer: the relevant document with the end token, the
pair in the template, and query and document without template. Source: the genuine tokenizer; the tests count them again."""

OTHER_INSTRUCTION = "Given a sentence, find any sentence at all that has nothing whatsoever to do with it"
"""The opposite of the default, with another number of tokens: a server with an unchanged answer does not read instructions."""

SQUEEZED = (0.4995, 0.7315)
"""The range of the sigmoid of a probability, 0.5 to 0.7311, with some rounding. A right model scores an irrelevant document far below.
Source: node-llama-cpp's issue 617 has the figures of a server."""

MARGIN = 1e-3
"""Minimum difference between the scores of a relevant and an irrelevant document; 0 for a constant score."""

_BUDGET = 1024
"""Budget in tokens; an easy pair has far fewer."""

Ask = Callable[[Sequence[Prompt]], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Expected:
    """Token counts of the first easy pair.

    Attributes:
        whole: Tokens of the whole prompt.
        bare: Tokens of query and document without template.
        guessed: Whether the names of the model do not say that it has the published tokenizer.
    """

    whole: int
    bare: int
    guessed: bool = False


async def shake_hands(
    server: ServerInfo,
    task: Task,
    tokenizer: Tokenizer | None,
    conventions: TextConventions,
    mode: Handshake,
    width: int | None,
    ask: Ask,
) -> Proof:
    """Check that a server answers as the model must.

    Args:
        server: Its description of itself.
        task: `embed` or `rerank`.
        tokenizer: The model's tokenizer; None where it is not on this machine.
        conventions: What the model's folder declares about its texts.
        mode: `full` or `counts`.
        width: Width of the model's embeddings; None where it is not known.
        ask: Sends prompts in one request.

    Returns:
        The server's width, whether it reads instructions, and what its token counts showed.

    Raises:
        HandshakeFailed: For a server without template, with a second template, without end token, or with another width; or with scores or
            cosines that are constant or in the wrong order; or with scores that are no probabilities. A missing template or end token
            is only a warning where the names of the model do not say that it is a Qwen3 model.
        RouteNotServed: If the server has the model for the other task.
    """
    try:
        if task == "embed":
            found, counts = await _check_embedder(server, tokenizer, width, ask)
            if mode == "full":
                await _check_cosines(server, tokenizer, conventions, ask)
            return Proof(found, counts=counts, mode=mode)
        instructed, counts = await _check_reranker(server, tokenizer, mode, ask)
        return Proof(instructed=instructed, counts=counts, mode=mode)
    except RouteNotServed as error:
        other = "a reranker" if task == "embed" else "an embedding model, or not for scoring"
        raise RouteNotServed(
            f"{error.url} does not exist: the server runs {other}",
            url=error.url,
            status=error.status,
            advice=f"Serve {server.model} for {task}, or change base_url",
        ) from error


async def _check_embedder(server: ServerInfo, tokenizer: Tokenizer | None, width: int | None, ask: Ask) -> tuple[int, Counts]:
    answer = await ask(easy_prompts("embed", tokenizer))
    found = int(answer.rows.shape[1])
    if width is not None and found != width:
        raise _failed(server, f"its vectors have {found} dimensions, {server.model} has {width}: it serves another model")
    norm = float(np.linalg.norm(answer.rows[0]))
    if not 0.99 < norm < 1.01:
        log.warning("%s sends vectors of norm %.3f, not 1; they are normalised here", server.url, norm)
    expected = expected_counts("embed", server, tokenizer)
    if answer.tokens is None:
        return found, "not reported"
    end, name = (1, END_TOKEN) if tokenizer is None else (len(tokenizer.end_ids), tokenizer.end_text)
    if end and answer.tokens == expected.whole - end:
        _wrong_count(
            server,
            expected,
            f"it does not append the end token {name}, which the model needs",
            "Serve the model with its own tokenizer.json, not with one that lacks the post-processor",
        )
    elif answer.tokens != expected.whole and server.dialect.exact and not expected.guessed:  # other servers count differently
        raise _failed(server, f"it reads {answer.tokens} tokens where {server.model} has {expected.whole}: {_OTHER_TEXT}")
    return found, "right" if answer.tokens == expected.whole and not expected.guessed else "guessed"


async def _check_cosines(server: ServerInfo, tokenizer: Tokenizer | None, conventions: TextConventions, ask: Ask) -> None:
    """Every query must be nearer to its relevant document than to the irrelevant one. Another pooling or model fails for some."""
    queries = query_prompts([query for query, _, _ in EASY], None, tokenizer, _BUDGET, conventions)
    documents = document_prompts([text for _, *texts in EASY for text in texts], tokenizer, _BUDGET, conventions)
    rows = await _rows_of([*queries, *documents], server, ask)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = [
        (float(query @ near), float(query @ far))
        for query, near, far in zip(unit, unit[len(EASY) :: 2], unit[len(EASY) + 1 :: 2], strict=False)
    ]
    if any(near < far + MARGIN for near, far in cosines):
        shown = ", ".join(f"{near:.3f} against {far:.3f}" for near, far in cosines)
        raise _failed(
            server,
            f"cosines of queries with relevant against irrelevant texts are {shown}: another model, or it pools otherwise than the model",
        )


async def _rows_of(prompts: Sequence[Prompt], server: ServerInfo, ask: Ask) -> Rows:
    """The rows of some prompts; one request each, if the server refuses so many in one."""
    counts = server.caps.divided(prompts)
    parts = [prompts[end - count : end] for count, end in zip(counts, accumulate(counts), strict=True)]
    try:
        return np.concatenate([(await ask(part)).rows for part in parts])
    except (RequestRefused, ServerFailed):
        return np.concatenate([(await ask([prompt])).rows for prompt in prompts])


_OTHER_TEXT = "it applies a template to the text, or uses another tokenizer"


async def _check_reranker(server: ServerInfo, tokenizer: Tokenizer | None, mode: Handshake, ask: Ask) -> tuple[bool, Counts]:
    scores = []
    instructed = True
    counts: Counts = "not checked"
    for number in range(len(EASY)):
        first, second = easy_pairs(number, tokenizer)
        answer = await ask([first])
        if number == 0:
            counts = _check_count(server, answer.tokens, expected_counts("rerank", server, tokenizer))
            instructed = not server.dialect.has_own_template or await _reads_instructions(tokenizer, answer, ask)
            if mode == "counts":
                return instructed, counts
        scores.append((float(answer.rows[0]), float((await ask([second])).rows[0])))
    shown = ", ".join(f"{near:.3f} against {far:.3f}" for near, far in scores)
    flat = [score for pair in scores for score in pair]
    if min(flat) < -MARGIN or max(flat) > 1 + MARGIN:
        raise _failed(server, f"its scores are raw logits and no probabilities in [0, 1] ({shown})", _PROBABILITIES)
    if max(flat) - min(flat) < MARGIN:
        unread = "the classification head for yes and no was not loaded"
        raise _failed(server, f"it gives all documents nearly the same score ({shown}): {unread}", serving_advice(server))
    if any(near < far + MARGIN for near, far in scores):
        raise _failed(server, f"it scores relevant against irrelevant documents {shown}: {_wrong_order(server)}", serving_advice(server))
    if SQUEEZED[0] <= min(flat) and max(flat) <= SQUEEZED[1]:
        reason = f"all its scores are between 0.5 and 0.731 ({shown}): it applies a sigmoid to scores that are probabilities already"
        raise _failed(server, reason, _PROBABILITIES)
    return instructed, counts


async def _reads_instructions(tokenizer: Tokenizer | None, before: Answer, ask: Ask) -> bool:
    """Whether an instruction other than the default changes the number of tokens that the server reads, or its answer."""
    after = await ask([easy_pairs(0, tokenizer, OTHER_INSTRUCTION)[0]])
    if before.tokens is not None and after.tokens is not None:
        return after.tokens != before.tokens
    return bool(after.rows[0] != before.rows[0])


def _check_count(server: ServerInfo, tokens: int | None, expected: Expected) -> Counts:
    if tokens is None:
        return "not reported"
    counted = f"it reads {tokens} tokens where {server.model} in its template has {expected.whole}"
    if expected.bare <= tokens <= expected.bare + 4 or (tokens <= expected.bare + 4 and not expected.guessed):  # with separators
        reason = f"{counted}: it applies no chat template (plain concatenation of query and document)"
        _wrong_count(server, expected, reason, serving_advice(server))
    if expected.guessed:
        return "guessed"
    if tokens > expected.whole:
        raise _failed(server, f"{counted}: it applies a second template, or uses another tokenizer", serving_advice(server))
    if tokens < expected.whole:
        raise _failed(server, f"{counted}: it applies another template, or uses another tokenizer", serving_advice(server))
    return "right"


def _wrong_count(server: ServerInfo, expected: Expected, reason: str, advice: str) -> None:
    """An error where the model is known to have the published tokenizer, otherwise a warning."""
    if not expected.guessed:
        raise _failed(server, reason, advice)
    log.warning("%s may not answer as a Qwen3 model must: if %s is one, %s. %s", server.url, server.model, reason, advice)


_PROBABILITIES = "Let the server send the probability of yes, with one sigmoid or softmax (some servers have an option such as raw_scores)"


def _wrong_order(server: ServerInfo) -> str:
    """The likely cause of scores in the wrong order."""
    if server.dialect.has_own_template:
        return "it applies no template, or a wrong one"
    return "it serves another model, or the published model without the overrides for the classes no and yes"


def serving_advice(server: ServerInfo) -> str:
    """How to start a reranker's server so that its answers are right."""
    if server.dialect.has_own_template:
        return "Give the server the model's chat template, or use vLLM, whose /classify accepts the finished prompt"
    if server.dialect.name == "sglang":
        return "SGLang serves the published reranker without --is-embedding; its template is not used"
    return (
        """vLLM serves the published reranker with --runner pooling --hf-overrides '{"architectures": """
        """["Qwen3ForSequenceClassification"], "classifier_from_token": ["no", "yes"], "is_original_qwen3_reranker": true}'"""
    )


def _failed(server: ServerInfo, reason: str, advice: str | None = None) -> HandshakeFailed:
    return HandshakeFailed(reason, url=server.url, model=server.model, advice=advice)


def expected_counts(task: Task, server: ServerInfo, tokenizer: Tokenizer | None) -> Expected:
    """The correct token counts of the first easy pair: by the tokenizer, or by the published one.

    Whether the model has the published tokenizer is known from the names under which it is asked for, served and loaded, and from the
    name of an adapter's model.
    """
    if tokenizer is not None:
        ids = easy_prompts(task, tokenizer)[0].ids
        assert ids is not None
        return Expected(len(ids), sum(map(len, tokenizer.encode(EASY[0][:2]))))
    known = is_known(task, (server.asked, server.model, server.origin, server.base))
    return Expected(PUBLISHED_COUNTS[task], PUBLISHED_COUNTS["bare"], guessed=not known)


def easy_prompts(task: Task, tokenizer: Tokenizer | None) -> tuple[Prompt, ...]:
    """The prompts of the first easy pair: the relevant document to embed; or the relevant and the irrelevant one to score."""
    return document_prompts([EASY[0][1]], tokenizer, _BUDGET) if task == "embed" else easy_pairs(0, tokenizer)


def easy_pairs(number: int, tokenizer: Tokenizer | None, instruction: str = DEFAULT_INSTRUCTION) -> tuple[Prompt, ...]:
    """An easy query with the relevant and with the irrelevant document."""
    query, relevant, irrelevant = EASY[number]
    return rerank_prompts([(query, relevant), (query, irrelevant)], instruction, "\n", tokenizer, _BUDGET)
