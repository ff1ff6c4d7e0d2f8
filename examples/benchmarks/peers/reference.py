"""Plain transformers in fp32, one prompt at a time: the reference for all other sides."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Any

import numpy as np
from compare import Rows
from workbench import Workbench

from peers.prompts import pair_ids, text_ids, tokenizer

ITEMS = 24
"""Number of items of each work that are computed, from the first on."""


def embeddings(bench: Workbench, texts: Sequence[str], items: int = ITEMS) -> Rows | None:
    """Last hidden states of the first texts, shape (items, width); None with `--no-reference`."""
    if bench.options.no_reference:
        return None
    import torch

    model = _model(bench, "embed", "AutoModel")
    wanted = text_ids(bench.folder("embed"), list(texts)[:items])
    with torch.inference_mode():
        states = [model(input_ids=torch.tensor([ids], device=model.device)).last_hidden_state[0, -1] for ids in wanted]
    rows = [state.double().cpu().numpy() for state in states]
    del model
    _free_memory()
    return np.stack(rows)


def scores(bench: Workbench, pairs: Sequence[tuple[str, str]], instruction: str, items: int = ITEMS) -> Rows | None:
    """Probabilities of "yes" of the first pairs, shape (items,); None with `--no-reference`."""
    if bench.options.no_reference:
        return None
    import torch

    folder = bench.folder("rerank")
    no, yes = (tokenizer(folder).token_to_id(word) for word in ("no", "yes"))
    model = _model(bench, "rerank", "AutoModelForCausalLM")
    found = []
    with torch.inference_mode():
        for ids in pair_ids(folder, list(pairs)[:items], instruction):
            logits = model(input_ids=torch.tensor([ids], device=model.device), logits_to_keep=1).logits[0, -1]
            found.append(torch.sigmoid(logits[yes].double() - logits[no].double()).item())
    del model
    _free_memory()
    return np.asarray(found)


def _free_memory() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _model(bench: Workbench, task: str, kind: str) -> Any:
    import torch
    import transformers

    model = getattr(transformers, kind).from_pretrained(bench.folder(task), dtype=torch.float32, attn_implementation="sdpa")
    return model.to("cuda" if bench.device.startswith("cuda") else "cpu").eval()
