"""The dialects of servers: for each dialect and task the route, the body of a request, and how an answer is read. Pure functions.

To add a dialect, add a row to `DIALECTS`.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias

import numpy as np

from qwen3_integrations.core.prompts import RERANK_PREFIX, RERANK_SUFFIX
from qwen3_integrations.core.tokenizer import neutral
from qwen3_integrations.core.types import Prompt, Rows, Task
from qwen3_integrations.engines.http.numbers import brief, number, numbers, whole
from qwen3_integrations.errors import BadReply

DialectName: TypeAlias = str
"""A `name` in `DIALECTS`."""

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """The content of a server's answer.

    Attributes:
        rows: float32, shape (prompts, width) or (prompts,), in the order of the request.
        tokens: Number of prompt tokens that the server reports; None where it reports none.
    """

    rows: Rows
    tokens: int | None


@dataclass(frozen=True, slots=True)
class Dialect:
    """The requests and answers of one kind of server for one task.

    Attributes:
        name: The dialect's name; one name may stand for several tasks.
        task: The task.
        path: The route, with a leading slash.
        body: Makes the JSON to post, from model and prompts.
        read: Makes rows, from the JSON of the answer and the number of prompts.
        speaks: Whether a server has this dialect, from its entry in the list of models. The first row that matches is used.
        versioned: True if the path is under the server's `/v1`, False if it is at its root.
        takes_ids: Whether prompts may be sent as token ids.
        one_query: Whether all prompts of a request must have the same query.
        exact: Whether the server reads finished prompts as they are, counts their tokens as usage, and has `/tokenize`.
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

    @property
    def has_own_template(self) -> bool:
        """Whether the server joins query and document with its own template."""
        return self.task == "rerank" and not self.exact


def embeddings_body(model: str, prompts: Sequence[Prompt]) -> Body:
    """`/v1/embeddings` with texts. Source: OpenAI's API reference."""
    return {"model": model, "input": [spoken(prompt) for prompt in prompts], "encoding_format": "base64"}


def exact_embeddings_body(model: str, prompts: Sequence[Prompt]) -> Body:
    """`/v1/embeddings` with texts or lists of token ids. Source: vLLM's API reference."""
    return {"model": model, "input": _inputs(prompts), "encoding_format": "base64"}


def classify_body(model: str, prompts: Sequence[Prompt]) -> Body:
    """`/classify`: the finished prompt goes to the model as it is, whatever template the server has. Source: vLLM's API reference."""
    return {"model": model, "input": _inputs(prompts)}


def rerank_body(model: str, prompts: Sequence[Prompt]) -> Body:
    """`/rerank` in the format of Cohere and Jina; the server applies its own template to query and documents.

    The instruction is sent under both names that servers use (`instruct` for SGLang, `instruction` for vLLM), and
    the documents too (`documents`, and `texts` for Text Embeddings Inference).
    """
    documents = [document_of(prompt) for prompt in prompts]
    instruction = neutral(prompts[0].prefix.instruction or "")
    return {
        "model": model,
        "query": neutral(prompts[0].prefix.query or ""),
        "documents": documents,
        "texts": documents,
        "instruct": instruction,
        "instruction": instruction,
        "top_n": len(documents),
        "return_documents": False,
        "raw_scores": False,
    }


def read_embeddings(answer: Any, count: int) -> Answer:
    """Vectors by index: base64 of little-endian float32, or lists of floats from servers without base64."""
    items = _in_order(_listed(answer, ("data",)), count)
    values = [item.get("embedding") for item in items]
    rows = _block(values)
    return Answer(_rows(values) if rows is None else rows, _tokens(answer))


def read_classes(answer: Any, count: int) -> Answer:
    """Probabilities of "yes" by index: the only class, or the last of the classes no and yes."""
    items = _in_order(_listed(answer, ("data",)), count)
    try:
        scores = [number(item["probs"][-1]) for item in items]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise BadReply(f"the server's classes contain no probability: {type(error).__name__} {brief(error)}") from error
    return Answer(numbers(scores), _tokens(answer))


def read_ranks(answer: Any, count: int) -> Answer:
    """Scores by index, from a list, or from `results` or `data`; each is named `relevance_score` or `score`."""
    items = _in_order(answer if isinstance(answer, list) else _listed(answer, ("results", "data")), count)
    try:
        scores = [number(item["relevance_score"] if "relevance_score" in item else item["score"]) for item in items]
    except (KeyError, TypeError, ValueError) as error:
        raise BadReply(f"the server's ranking contains no score: {type(error).__name__} {brief(error)}") from error
    return Answer(numbers(scores), _tokens(answer))


def is_vllm(entry: Mapping[str, Any]) -> bool:
    """Whether an entry in a list of models comes from vLLM."""
    return entry.get("owned_by") == "vllm"


def is_any(entry: Mapping[str, Any]) -> bool:  # noqa: ARG001
    """True: the dialect of every server that matches no row above."""
    return True


DIALECTS: tuple[Dialect, ...] = (
    Dialect("vllm", "embed", "/embeddings", exact_embeddings_body, read_embeddings, is_vllm, takes_ids=True, exact=True),
    Dialect("vllm", "rerank", "/classify", classify_body, read_classes, is_vllm, versioned=False, takes_ids=True, exact=True),
    Dialect("openai", "embed", "/embeddings", embeddings_body, read_embeddings, is_any),
    Dialect("rerank", "rerank", "/rerank", rerank_body, read_ranks, is_any, one_query=True),
)
"""All dialects, in the order in which they are tried."""

DIALECT_NAMES = tuple(dict.fromkeys(dialect.name for dialect in DIALECTS))
"""Their names, in the same order."""


def document_of(prompt: Prompt) -> str:
    """The document of a reranker's prompt: without the template's blank, and with a blank in spelled control tokens."""
    return neutral(prompt.body.text[1:])


def spoken(prompt: Prompt) -> str:
    """A prompt as text, in which only the template's control tokens are control tokens."""
    return "".join(spoken_parts(prompt))


def spoken_parts(prompt: Prompt) -> tuple[str, str, str]:
    """Prefix, body and suffix as text; the users' parts contain no control token."""
    prefix, body, suffix = prompt.prefix.text, prompt.body.text, prompt.suffix.text
    if prompt.literal:
        return prefix, body, suffix
    template = RERANK_PREFIX if suffix == RERANK_SUFFIX else ""  # only a template has this suffix; another prefix may be a user's text
    return template + neutral(prefix[len(template) :]), neutral(body), suffix


def _inputs(prompts: Sequence[Prompt]) -> list[str] | list[list[int]]:
    """Texts; or token ids, if all prompts have ids and none is exact as text (`Prompt.literal`)."""
    ids = [prompt.ids for prompt in prompts if not prompt.literal]
    if ids and all(own is not None for own in ids) and len(ids) == len(prompts):
        return [own.tolist() for own in ids if own is not None]
    return [spoken(prompt) for prompt in prompts]


def _listed(answer: Any, names: Iterable[str]) -> list[Any]:
    for name in names:
        if isinstance(answer, Mapping) and isinstance(answer.get(name), list):
            found: list[Any] = answer[name]
            return found
    keys = brief(", ".join(map(str, islice(answer, 20)))) if isinstance(answer, Mapping) else type(answer).__name__
    raise BadReply(f"the server's answer has no list {' or '.join(names)}; its fields are: {keys}")


def _in_order(items: Sequence[Any], count: int) -> list[Mapping[str, Any]]:
    """Items in the order of the request, by their index; each index must occur exactly once."""
    if len(items) != count:
        raise BadReply(f"the server sent {len(items)} results for {count} prompts")
    placed: dict[int, Mapping[str, Any]] = {}
    for item in items:
        index = item.get("index") if isinstance(item, dict) else None
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < count:
            raise BadReply(f"the server sent a result with index {brief(repr(index))} for {count} prompts")
        if index in placed:
            raise BadReply(f"the server sent two results with index {index}")
        placed[index] = item
    return [placed[index] for index in range(count)]


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
    usage = answer.get("usage") if isinstance(answer, Mapping) else None
    if not isinstance(usage, Mapping):
        return None
    return whole(usage.get("prompt_tokens")) or whole(usage.get("total_tokens")) or None
