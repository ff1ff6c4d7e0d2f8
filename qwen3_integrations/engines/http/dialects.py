"""The dialects of servers: for each dialect and task the routes, the bodies of requests, and how an answer is read. Pure functions.

To add a dialect, add a row to `DIALECTS`.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias

import numpy as np

from qwen3_integrations.core.types import Prompt, Rows, Task
from qwen3_integrations.engines.http.bodies import (
    EMBEDDING_FORMS,
    EXACT_FORMS,
    ID_FORMS,
    RERANK_FORMS,
    Body,
    Form,
    classify_body,
    document_of,
    embeddings_body,
    exact_body,
    ids_body,
    literal_body,
    literal_classify_body,
    rerank_body,
    score_body,
)
from qwen3_integrations.engines.http.numbers import brief, number, numbers, whole
from qwen3_integrations.errors import BadReply

__all__ = ["DIALECTS", "DIALECT_NAMES", "Answer", "Dialect", "DialectName", "document_of", "read_classes", "read_embeddings", "read_ranks"]

DialectName: TypeAlias = str
"""A `name` in `DIALECTS`."""


NESTED = "/services/rerank/text-rerank/text-rerank"
"""The route of DashScope's own format. Source: its API reference."""

PATHS = ("/reranks", NESTED)
"""DashScope's routes, which stand for `/rerank`."""

STANDARD = "standard"
"""The name of the first form of each dialect's body."""


class Misplaced(BadReply):
    """The results of an answer can't be matched with the prompts. No text is at fault: alone, each would seem to be right."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The content of a server's answer.

    Attributes:
        rows: float32, shape (prompts, width) or (prompts,), in the order of the request.
        tokens: Number of prompt tokens that the server reports; None where it reports none, or 0.
        indexed: False if the server's results have no index, and are taken in the order in which it sent them.
    """

    rows: Rows
    tokens: int | None
    indexed: bool = True


@dataclass(frozen=True, slots=True)
class Dialect:
    """The requests and answers of one kind of server for one task.

    Attributes:
        name: The dialect's name; one name may stand for several tasks.
        task: The task.
        path: The route, with a leading slash.
        body: Makes the JSON to post, from model and prompts. Servers that refuse it get one of `others`.
        read: Makes rows, from the JSON of the answer and the number of prompts.
        speaks: Whether a server has this dialect, from its entry in the list of models. The first row that matches is used.
        versioned: True if the path is under the server's `/v1`, False if it is at its root.
        takes_ids: Whether prompts may be sent as token ids.
        one_query: Whether all prompts of a request must have the same query.
        exact: Whether the server reads finished prompts as they are, counts their tokens as usage, and has `/tokenize`.
        literal: Whether the server reads every text as text, and takes only the finished prompts of its own template.
        prefers_ids: Whether prompts are sent as token ids wherever they have any, not only where text is not exact.
        one_prefix: Whether a request has the common prefix of its prompts once, so that prompts are grouped by it.
        needs_proof: Whether it is chosen only for a server that is proved to have it: its requests may end others.
        others: Other forms of the body, in the order in which they are tried.
        other_paths: Other routes, in the order in which they are tried, in the same place.
    """

    name: DialectName
    task: Task
    path: str
    body: Callable[[str, Sequence[Prompt]], Body]
    read: Callable[[Any, int], Answer]
    speaks: Callable[[Mapping[str, Any]], bool]
    versioned: bool = True
    takes_ids: bool = False
    one_query: bool = False
    exact: bool = False
    literal: bool = False
    prefers_ids: bool = False
    one_prefix: bool = False
    needs_proof: bool = False
    others: tuple[Form, ...] = ()
    other_paths: tuple[str, ...] = ()

    @property
    def forms(self) -> tuple[Form, ...]:
        """All forms of the body; the first is named `standard`."""
        return (Form(STANDARD, self.body), *self.others)

    @property
    def has_own_template(self) -> bool:
        """Whether the server joins query and document with its own template."""
        return self.task == "rerank" and not self.exact

    def sends_ids(self, prompt: Prompt) -> bool:
        """Whether a prompt is sent as token ids."""
        return self.takes_ids and (self.prefers_ids or not prompt.literal) and bool(prompt.tokens)


def read_embeddings(answer: Any, count: int) -> Answer:
    """Vectors by index: base64 of little-endian float32, or lists of floats from servers without base64."""
    items, indexed = _in_order(_listed(answer, ("data",)), count)
    values = [item.get("embedding") for item in items]
    rows = _block(values)
    return Answer(_rows(values) if rows is None else rows, _tokens(answer), indexed)


def read_classes(answer: Any, count: int) -> Answer:
    """Probabilities of "yes" by index: the only class, or the last of the classes no and yes."""
    items, indexed = _in_order(_listed(answer, ("data",)), count)
    try:
        scores = [number(item["probs"][-1]) for item in items]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise BadReply(f"the server's classes contain no probability: {type(error).__name__} {brief(error)}") from error
    return Answer(numbers(scores), _tokens(answer), indexed)


def read_ranks(answer: Any, count: int) -> Answer:
    """Scores by index, from a list, or from `results` or `data`; each is named `relevance_score` or `score`.

    DashScope's own format has the list in `output`.
    """
    content = answer["output"] if isinstance(answer, Mapping) and isinstance(answer.get("output"), Mapping) else answer
    items, indexed = _in_order(content if isinstance(content, list) else _listed(content, ("results", "data")), count)
    try:
        scores = [number(item["relevance_score"] if "relevance_score" in item else item["score"]) for item in items]
    except (KeyError, TypeError, ValueError) as error:
        raise BadReply(f"the server's ranking contains no score: {type(error).__name__} {brief(error)}") from error
    return Answer(numbers(scores), _tokens(answer), indexed)


def read_scores(answer: Any, count: int) -> Answer:
    """Probabilities of "yes" and "no" in the order of the prompts; they are one together. Source: SGLang's `/v1/score`."""
    scores = _listed(answer, ("scores",))
    if len(scores) != count:
        raise BadReply(f"the server sent {len(scores)} results for {count} prompts")
    try:
        pairs = [(number(yes), number(no)) for yes, no in scores]
    except (TypeError, ValueError) as error:
        raise BadReply(f"the server's scores are no probabilities of two tokens: {type(error).__name__} {brief(error)}") from error
    return Answer(numbers([yes for yes, _ in pairs]), _tokens(answer))


def is_vllm(entry: Mapping[str, Any]) -> bool:
    """Whether an entry in a list of models comes from vLLM."""
    return entry.get("owned_by") == "vllm"


def is_sglang(entry: Mapping[str, Any]) -> bool:
    """Whether an entry in a list of models comes from SGLang."""
    return entry.get("owned_by") == "sglang"


def is_own(entry: Mapping[str, Any]) -> bool:
    """Whether an entry in a list of models comes from the server of this package."""
    return entry.get("owned_by") == "qwen3-integrations"


def is_any(entry: Mapping[str, Any]) -> bool:  # noqa: ARG001
    """True: the dialect of every server that matches no row above."""
    return True


DIALECTS: tuple[Dialect, ...] = (
    Dialect("vllm", "embed", "/embeddings", exact_body, read_embeddings, is_vllm, takes_ids=True, exact=True, others=EXACT_FORMS),
    Dialect("vllm", "rerank", "/classify", classify_body, read_classes, is_vllm, versioned=False, takes_ids=True, exact=True),
    Dialect(
        "sglang",
        "embed",
        "/embeddings",
        ids_body,
        read_embeddings,
        is_sglang,
        takes_ids=True,
        exact=True,
        prefers_ids=True,
        needs_proof=True,
        others=ID_FORMS,
    ),
    Dialect(
        "sglang",
        "rerank",
        "/score",
        score_body,
        read_scores,
        is_sglang,
        takes_ids=True,
        exact=True,
        prefers_ids=True,
        one_prefix=True,
        needs_proof=True,
    ),
    Dialect("qwen3", "embed", "/embeddings", literal_body, read_embeddings, is_own, exact=True, literal=True),
    Dialect("qwen3", "rerank", "/classify", literal_classify_body, read_classes, is_own, versioned=False, exact=True, literal=True),
    Dialect("openai", "embed", "/embeddings", embeddings_body, read_embeddings, is_any, others=EMBEDDING_FORMS),
    Dialect("rerank", "rerank", "/rerank", rerank_body, read_ranks, is_any, one_query=True, others=RERANK_FORMS, other_paths=PATHS),
)
"""All dialects, in the order in which they are tried."""

DIALECT_NAMES = tuple(dict.fromkeys(dialect.name for dialect in DIALECTS))
"""Their names, in the same order."""


def _listed(answer: Any, names: Iterable[str]) -> list[Any]:
    for name in names:
        if isinstance(answer, Mapping) and isinstance(answer.get(name), list):
            found: list[Any] = answer[name]
            return found
    keys = brief(", ".join(map(str, islice(answer, 20)))) if isinstance(answer, Mapping) else type(answer).__name__
    raise BadReply(f"the server's answer has no list {' or '.join(names)}; its fields are: {keys}")


def _in_order(items: Sequence[Any], count: int) -> tuple[list[Mapping[str, Any]], bool]:
    """Items in the order of the request, by their index; each index must occur exactly once. If no item has an index: as they came.

    Returns:
        The items, and whether they have indexes.
    """
    if len(items) != count:
        raise BadReply(f"the server sent {len(items)} results for {count} prompts")
    if all(isinstance(item, dict) and item.get("index") is None for item in items):
        return list(items), False
    placed: dict[int, Mapping[str, Any]] = {}
    for item in items:
        sent = item.get("index") if isinstance(item, dict) else None
        index = _index(sent)
        if index is None or not 0 <= index < count:
            raise Misplaced(f"the server sent a result with index {brief(repr(sent))} for {count} prompts")
        if index in placed:
            raise Misplaced(f"the server sent two results with index {index}")
        placed[index] = item
    return [placed[index] for index in range(count)], True


def _index(sent: object) -> int | None:
    """An index as a server sent it: a whole number, also as `0.0` or `"0"`."""
    if isinstance(sent, str) and sent.isascii() and sent.isdigit() and len(sent) < 10:
        return int(sent)
    if isinstance(sent, float) and sent.is_integer():
        return int(sent)
    return sent if isinstance(sent, int) and not isinstance(sent, bool) else None


def _block(values: Sequence[Any]) -> Rows | None:
    """All vectors, decoded together; None if one of them is wrong: `_rows` then finds out which."""
    try:
        if all(isinstance(value, str) for value in values):
            raw = [binascii.a2b_base64(value, strict_mode=True) for value in values]
            if len(set(map(len, raw))) != 1:
                return None
            rows = np.frombuffer(b"".join(raw), dtype="<f4").reshape(len(raw), -1).astype(np.float32, copy=False)
        else:
            rows = numbers(values)
    except (binascii.Error, ValueError, TypeError):
        return None
    return rows if rows.ndim == 2 and rows.shape[1] and np.isfinite(rows).all() else None


def _rows(values: Sequence[Any]) -> Rows:
    """All vectors, decoded one by one, so that an error names the index."""
    vectors = [_vector(value, index) for index, value in enumerate(values)]
    widths = {len(vector) for vector in vectors}
    if len(widths) > 1:
        raise BadReply(f"the server sent vectors of different widths: {sorted(widths)}")
    return np.stack(vectors)


def _vector(value: Any, index: int) -> Rows:
    try:
        vector = np.frombuffer(binascii.a2b_base64(value, strict_mode=True), dtype="<f4") if isinstance(value, str) else numbers(value)
    except (binascii.Error, ValueError, TypeError) as error:
        raise BadReply(f"the server's vector can't be decoded: {brief(error)}", index=index) from error
    if vector.ndim != 1 or not len(vector):
        raise BadReply(f"the server's vector has the shape {vector.shape}, not (dimensions,)", index=index)
    if not np.isfinite(vector).all():
        raise BadReply("the server's vector is not finite", index=index)
    return vector.astype(np.float32, copy=False)


def _tokens(answer: Any) -> int | None:
    """Prompt tokens of an answer. Servers that do not count report nothing, or 0."""
    usage = answer.get("usage") if isinstance(answer, Mapping) else None
    if not isinstance(usage, Mapping):
        return None
    for name in ("prompt_tokens", "total_tokens"):
        tokens = whole(_index(usage.get(name)))
        if tokens:
            return tokens
    return None
