"""sentence-transformers, in this process."""

from __future__ import annotations

from typing import Any

from compare import Side
from targets import CROSS_ENCODER, SENTENCE_TRANSFORMERS
from workbench import Workbench

from peers.prompts import PREFIX, SUFFIX

BATCH = 256
CROSS_BATCH = 32
"""`CrossEncoder.predict`'s own default; the model card's batch too."""

CHAT_TEMPLATE = (
    PREFIX
    + "<Instruct>: {{ messages | selectattr('role', 'eq', 'system') | map(attribute='content') | first }}\n"
    + "<Query>: {{ messages | selectattr('role', 'eq', 'query') | map(attribute='content') | first }}\n"
    + "<Document>: {{ messages | selectattr('role', 'eq', 'document') | map(attribute='content') | first }}"
    + SUFFIX.rstrip("\n")
    + "{{ '\\n\\n' }}"
)
"""The model card's prompt as a template for the roles of `CrossEncoder`. Jinja removes a final newline, so it is an expression."""


def embed(bench: Workbench, device: str | None = None, batch: int = BATCH) -> Side:
    """`SentenceTransformer.encode`."""
    from sentence_transformers import SentenceTransformer

    place = device or bench.device

    def opened() -> Any:
        return SentenceTransformer(str(bench.folder("embed")), device=place, model_kwargs=_dtype(bench), local_files_only=True)

    model = bench.opened(f"sentence-transformers on {place}", opened)
    name = SENTENCE_TRANSFORMERS if batch == BATCH else f"sentence-transformers, batch {batch}"
    return Side(name, lambda texts: model.encode(texts, batch_size=batch, show_progress_bar=False), lambda work: work.texts)


def rerank(bench: Workbench, device: str | None = None, batch: int = CROSS_BATCH) -> Side:
    """`CrossEncoder.predict` on the original checkpoint, with the model card's prompt."""
    from sentence_transformers import CrossEncoder

    place = device or bench.device

    def opened() -> Any:
        model = CrossEncoder(str(bench.folder("rerank")), device=place, model_kwargs=_dtype(bench), local_files_only=True)
        model.tokenizer.chat_template = CHAT_TEMPLATE
        return model

    model = bench.opened(f"CrossEncoder on {place}", opened)

    def run(given: tuple[list[tuple[str, str]], str]) -> Any:
        pairs, instruction = given
        return model.predict(pairs, prompt=instruction, batch_size=batch, show_progress_bar=False)

    return Side(CROSS_ENCODER, run, lambda work: (work.pairs, work.instruction))


def _dtype(bench: Workbench) -> dict[str, Any]:
    import torch

    return {"dtype": getattr(torch, bench.dtype), "attn_implementation": "sdpa"}
