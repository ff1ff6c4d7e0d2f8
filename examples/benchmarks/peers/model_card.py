"""The reranker's model card, as published: left padding, the logits of the whole vocabulary at every position, batches of 32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from compare import Side
from targets import MODEL_CARD, MODEL_CARD_LAST
from workbench import Workbench

from peers.prompts import PREFIX, SUFFIX, pair_text

BATCH = 32
MAX_TOKENS = 8192


def rerank(bench: Workbench, device: str | None = None) -> Side:
    """The card's code."""
    return Side(MODEL_CARD, _Card(bench, device, keep=0, batch=BATCH), lambda work: (work.pairs, work.instruction))


def rerank_last(bench: Workbench, device: str | None = None, batch: int = 128) -> Side:
    """The card's code with one improvement: logits of the last position only."""
    return Side(MODEL_CARD_LAST, _Card(bench, device, keep=1, batch=batch), lambda work: (work.pairs, work.instruction))


class _Card:
    """The card's functions with a loaded model.

    Args:
        keep: Positions whose logits are computed; 0 for all, as the card does.
    """

    def __init__(self, bench: Workbench, device: str | None, keep: int, batch: int) -> None:
        place = device or bench.device
        self._model, self._tokenizer = bench.opened(f"the model card's code on {place}", lambda: _load(bench, place))
        self._device, self._keep, self._batch = place, keep, batch
        known = self._tokenizer
        self._prefix, self._suffix = (known.encode(text, add_special_tokens=False) for text in (PREFIX, SUFFIX))
        self._no, self._yes = (known.convert_tokens_to_ids(word) for word in ("no", "yes"))

    def __call__(self, given: tuple[list[tuple[str, str]], str]) -> list[float]:
        pairs, instruction = given
        scores: list[float] = []
        for begin in range(0, len(pairs), self._batch):
            texts = [pair_text(query, document, instruction) for query, document in pairs[begin : begin + self._batch]]
            scores += self._logits(self._inputs(texts))
        return scores

    def _inputs(self, texts: Sequence[str]) -> Any:
        room = MAX_TOKENS - len(self._prefix) - len(self._suffix)
        known = self._tokenizer
        inputs = known(texts, padding=False, truncation="longest_first", return_attention_mask=False, max_length=room)
        inputs["input_ids"] = [self._prefix + ids + self._suffix for ids in inputs["input_ids"]]
        return known.pad(inputs, padding=True, return_tensors="pt", max_length=MAX_TOKENS).to(self._device)

    def _logits(self, inputs: Any) -> list[float]:
        import torch

        with torch.no_grad():
            kept = {"logits_to_keep": self._keep} if self._keep else {}
            scores = self._model(**inputs, **kept).logits[:, -1, :]
            both = torch.stack([scores[:, self._no], scores[:, self._yes]], dim=1)
            return list(torch.nn.functional.log_softmax(both, dim=1)[:, 1].exp().tolist())


def _load(bench: Workbench, device: str) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = bench.folder("rerank")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, bench.dtype), attn_implementation="sdpa")
    return model.to(device).eval(), AutoTokenizer.from_pretrained(folder, padding_side="left")
