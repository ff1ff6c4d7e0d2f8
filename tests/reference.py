"""The independent reference: plain transformers, the model cards' own steps, one text at a time, fp32.

Nothing of the package is used here. Texts are read as data, by a tokenizer that has been told of no control
tokens; the templates' own control tokens are added by id.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import tokenizers
import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"
SYSTEM = (
    "Judge whether the Document meets the requirements based on the Query and the Instruct provided. "
    'Note that the answer can only be "yes" or "no".'
)


@cache
def _plain(folder: Path) -> tokenizers.Tokenizer:
    spec = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    return tokenizers.Tokenizer.from_str(json.dumps({**spec, "added_tokens": [], "post_processor": None}))


@cache
def _control(folder: Path) -> dict[str, int]:
    spec = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    return {token["content"]: token["id"] for token in spec["added_tokens"]}


def text_ids(folder: Path, text: str) -> list[int]:
    """Ids of a text, in which nothing is a control token."""
    return list(_plain(folder).encode(text, add_special_tokens=False).ids)


def card_query(query: str, instruction: str = INSTRUCTION) -> str:
    """`get_detailed_instruct` of the embedding card."""
    return f"Instruct: {instruction}\nQuery:{query}"


def embedding_ids(folder: Path, text: str, max_tokens: int = 8192) -> list[int]:
    """The text's ids, cut from behind, and the end token."""
    return [*text_ids(folder, text)[: max_tokens - 1], _control(folder)["<|endoftext|>"]]


def rerank_ids(
    folder: Path, query: str, document: str, instruction: str = INSTRUCTION, max_tokens: int = 8192, joint: str = "\n"
) -> list[int]:
    """`process_inputs` of the reranker card: prefix + the pair, cut from behind + suffix."""
    added = _control(folder)

    def ids(text: str) -> list[int]:
        return text_ids(folder, text)

    start, end = added["<|im_start|>"], added["<|im_end|>"]
    prefix = [start, *ids(f"system\n{SYSTEM}"), end, *ids("\n"), start, *ids("user\n")]
    suffix = [end, *ids("\n"), start, *ids("assistant\n"), added["<think>"], *ids("\n\n"), added["</think>"], *ids("\n\n")]
    pair = ids(f"<Instruct>: {instruction}{joint}<Query>: {query}{joint}<Document>: {document}")
    return prefix + pair[: max_tokens - len(prefix) - len(suffix)] + suffix


@cache
def _embedder(folder: Path) -> torch.nn.Module:
    return AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


@cache
def _reranker(folder: Path) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


@torch.inference_mode()
def reference_embeddings(folder: Path, texts: Sequence[str], dimensions: int | None = None, max_tokens: int = 8192) -> np.ndarray:
    """Unit vectors of the texts as they stand, shape (texts, dimensions). For queries pass `card_query(...)`."""
    rows = []
    for text in texts:
        ids = torch.tensor([embedding_ids(folder, text, max_tokens)])
        last = _embedder(folder)(input_ids=ids).last_hidden_state[0, -1][:dimensions]
        rows.append(torch.nn.functional.normalize(last, dim=0).numpy())
    return np.stack(rows)


@torch.inference_mode()
def reference_scores(
    folder: Path,
    pairs: Sequence[tuple[str, str]],
    instruction: str = INSTRUCTION,
    max_tokens: int = 8192,
    joint: str = "\n",
    words: tuple[str, str] = ("no", "yes"),
) -> np.ndarray:
    """Probability of "yes" for each (query, document), shape (pairs,): softmax over the logits of no and yes."""
    no, yes = (text_ids(folder, word)[0] for word in words)
    scores = []
    for query, document in pairs:
        ids = torch.tensor([rerank_ids(folder, query, document, instruction, max_tokens, joint)])
        logits = _reranker(folder)(input_ids=ids).logits[0, -1]
        scores.append(torch.log_softmax(logits[[no, yes]], dim=0)[1].exp().item())
    return np.asarray(scores, dtype=np.float32)


@cache
def _classifier(folder: Path) -> torch.nn.Module:
    return AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


@torch.inference_mode()
def reference_logits(folder: Path, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """The logits of a sequence-classification conversion, shape (pairs, labels), in the order of its labels; without a `score.bias`."""
    rows = [
        _classifier(folder)(input_ids=torch.tensor([rerank_ids(folder, query, document)])).logits[0].numpy() for query, document in pairs
    ]
    return np.stack(rows)
