"""Bodies of requests: the JSON that each dialect posts. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from qwen3_integrations.core.prompts import RERANK_PREFIX, RERANK_SUFFIX
from qwen3_integrations.core.tokenizer import neutral
from qwen3_integrations.core.types import Prompt

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Form:
    """One form of the body of a dialect's requests.

    Attributes:
        name: Its name.
        body: Makes the JSON to post, from model and prompts.
        instructed: Whether the instruction is in the body.
    """

    name: str
    body: Callable[[str, Sequence[Prompt]], Body]
    instructed: bool = True


def embeddings_body(model: str, prompts: Sequence[Prompt], encoding: str | None = "base64") -> Body:
    """`/v1/embeddings` with texts. Source: OpenAI's API reference."""
    return _encoded({"model": model, "input": [spoken(prompt) for prompt in prompts]}, encoding)


def exact_body(model: str, prompts: Sequence[Prompt], encoding: str | None = "base64") -> Body:
    """`/v1/embeddings` with texts or lists of token ids. Source: vLLM's API reference."""
    return _encoded({"model": model, "input": _inputs(prompts)}, encoding)


def ids_body(model: str, prompts: Sequence[Prompt], encoding: str | None = "base64") -> Body:
    """`/v1/embeddings` with lists of token ids, wherever prompts have ids: SGLang refuses texts that are blank.

    Source: SGLang's `entrypoints/openai/serving_embedding.py`, 0.5.9.
    """
    return _encoded({"model": model, "input": _inputs(prompts, literal=True)}, encoding)


def literal_body(model: str, prompts: Sequence[Prompt], encoding: str | None = "base64") -> Body:
    """`/v1/embeddings` of our own server: it reads texts as text, whatever they spell."""
    return _encoded({"model": model, "input": [prompt.text for prompt in prompts]}, encoding)


def literal_classify_body(model: str, prompts: Sequence[Prompt]) -> Body:
    """`/classify` of our own server: it takes the template for a template, and the texts in it as text."""
    return {"model": model, "input": [prompt.text for prompt in prompts]}


def score_body(model: str, prompts: Sequence[Prompt]) -> Body:
    """`/v1/score` of SGLang: the probabilities of tokens after `query` + item, as token ids where all prompts have ids, else as texts.

    The prefix that the prompts share is the query, so it is sent and computed once. Prompts with different prefixes are whole items.
    Source: SGLang's `managers/tokenizer_manager_multiitem_mixin.py`, 0.5.9.
    """
    rests: list[Any]
    whole = len({prompt.prefix.text for prompt in prompts}) > 1
    if all(prompt.tokens for prompt in prompts):
        first = prompts[0].prefix.ids
        assert first is not None
        rests = [_numbers(prompt, whole=whole) for prompt in prompts]
        return _scored(model, [] if whole else first.tolist(), rests)
    parts = [spoken_parts(prompt) for prompt in prompts]
    rests = ["".join(own if whole else own[1:]) for own in parts]
    return _scored(model, "" if whole else parts[0][0], rests)


def classify_body(model: str, prompts: Sequence[Prompt]) -> Body:
    """`/classify`: the finished prompt goes to the model as it is, whatever template the server has. Source: vLLM's API reference."""
    return {"model": model, "input": _inputs(prompts)}


def rerank_body(model: str, prompts: Sequence[Prompt], instruction: tuple[str, ...] = ("instruction", "instruct")) -> Body:
    """`/rerank` in the format of Cohere (v1) and Jina; the server applies its own template to query and documents.

    Args:
        model: The model's name.
        prompts: Prompts of one query.
        instruction: The names under which the instruction is sent. Source: the API references of vLLM and SiliconFlow (`instruction`), of
            SGLang and DashScope (`instruct`).
    """
    body = {**bare_rerank_body(model, prompts), "top_n": len(prompts), "return_documents": False}
    return body | dict.fromkeys(instruction, _instruction(prompts))


def bare_rerank_body(model: str, prompts: Sequence[Prompt]) -> Body:
    """`/rerank` with the fields that all servers have. Voyage has `top_k` for `top_n`, Cohere's second version no `return_documents`.

    Source: the API references of Cohere, Jina and Voyage: without a limit, all documents are returned.
    """
    return {"model": model, "query": _query(prompts), "documents": [document_of(prompt) for prompt in prompts]}


def texts_rerank_body(_: str, prompts: Sequence[Prompt]) -> Body:
    """`/rerank` of Text Embeddings Inference, which serves one model. Source: its API reference."""
    return {"query": _query(prompts), "texts": [document_of(prompt) for prompt in prompts], "raw_scores": False}


def nested_rerank_body(model: str, prompts: Sequence[Prompt]) -> Body:
    """DashScope's own format (`/api/v1/services/rerank/text-rerank/text-rerank`). Source: its API reference."""
    return {
        "model": model,
        "input": {"query": _query(prompts), "documents": [document_of(prompt) for prompt in prompts]},
        "parameters": {"top_n": len(prompts), "return_documents": False, "instruct": _instruction(prompts)},
    }


TEXTS = "texts only"
"""The beginning of the names of forms that send texts where the dialect's first form sends token ids."""

EMBEDDING_FORMS = (
    Form("float", partial(embeddings_body, encoding="float")),
    Form("no encoding", partial(embeddings_body, encoding=None)),
)
"""For servers without base64."""

EXACT_FORMS = (
    Form("float", partial(exact_body, encoding="float")),
    Form("no encoding", partial(exact_body, encoding=None)),
    Form(f"{TEXTS}, base64", embeddings_body),
    *(Form(f"{TEXTS}, {form.name}", form.body) for form in EMBEDDING_FORMS),
)
"""The last three are for servers that claim to be vLLM and refuse token ids."""

ID_FORMS = (
    Form("float", partial(ids_body, encoding="float")),
    Form("no encoding", partial(ids_body, encoding=None)),
    *EXACT_FORMS[2:],
)
"""As `EXACT_FORMS`, for servers that get token ids wherever there are any."""

RERANK_FORMS = (
    Form("instruction", partial(rerank_body, instruction=("instruction",))),
    Form("instruct", partial(rerank_body, instruction=("instruct",))),
    Form("plain", partial(rerank_body, instruction=()), instructed=False),
    Form("bare", bare_rerank_body, instructed=False),
    Form("texts", texts_rerank_body, instructed=False),
    Form("nested", nested_rerank_body),
)
"""For strict servers. Others ignore fields that they do not know, and get both names of the instruction."""


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


def _inputs(prompts: Sequence[Prompt], *, literal: bool = False) -> list[str] | list[list[int]]:
    """Texts; or token ids, if all prompts have ids and none is exact as text (`Prompt.literal`); with `literal`, also if some are."""
    ids = [prompt.ids for prompt in prompts if literal or not prompt.literal]
    if ids and all(own is not None for own in ids) and len(ids) == len(prompts):
        return [own.tolist() for own in ids if own is not None]
    return [spoken(prompt) for prompt in prompts]


def _numbers(prompt: Prompt, *, whole: bool) -> list[int]:
    """The token ids of a prompt with ids: all of them, or those behind the prefix."""
    parts = (prompt.prefix.ids, prompt.body.ids, prompt.suffix.ids)
    return [number for part in (parts if whole else parts[1:]) if part is not None for number in part.tolist()]


def _scored(model: str, query: str | list[int], items: list[Any]) -> Body:
    return {"model": model, "query": query, "items": items, "apply_softmax": True, "item_first": False}


def _encoded(body: Body, encoding: str | None) -> Body:
    return body if encoding is None else body | {"encoding_format": encoding}


def _query(prompts: Sequence[Prompt]) -> str:
    return neutral(prompts[0].prefix.query or "")


def _instruction(prompts: Sequence[Prompt]) -> str:
    return neutral(prompts[0].prefix.instruction or "")
