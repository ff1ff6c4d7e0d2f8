"""The rows of the table: name, content and function of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from workbench import Workbench


@dataclass(frozen=True)
class Row:
    """One command.

    Attributes:
        about: What it measures.
        module, function: Module and name of its function; imported when it runs.
        shares: Consecutive rows with the same value share open engines and servers; otherwise they are closed before the row.
        measurements: The keys of `targets.TARGETS` that it measures.
    """

    about: str
    module: str
    function: str
    shares: str
    measurements: tuple[str, ...]

    @property
    def run(self) -> Callable[[Workbench], None]:
        """The function that measures and records."""
        found: Callable[[Workbench], None] = getattr(import_module(f"rows.{self.module}"), self.function)
        return found


ROWS = {
    "embed": Row("4,096 texts of ~128 tokens and 1,024 of ~512, in process", "embedding", "embed", "embed", ("embed-128", "embed-512")),
    "latency": Row("one short query at a time, in process: median of 50 calls", "embedding", "latency", "embed", ("latency",)),
    "embedded": Row("4,096 texts of ~128 tokens: embedded vLLM through our classes", "embedding", "embedded", "embed", ("embedded",)),
    "callers": Row("256 callers of one query each at once, embedded vLLM", "callers", "callers", "embed", ("callers",)),
    "rerank": Row("32 queries x 100 documents, in process", "reranking", "rerank", "rerank", ("rerank",)),
    "rerank-long-head": Row(
        "the same with 600 tokens of instruction and query", "reranking", "rerank_long_head", "rerank", ("rerank-long-head",)
    ),
    "fp8-embed": Row(
        "texts of ~128 tokens, bfloat16 and FP8 (--size)",
        "eight_bits",
        "fp8_embed",
        "embed",
        ("fp8-embed-0.6B", "fp8-embed-4B", "fp8-embed-8B"),
    ),
    "fp8-rerank": Row("32 queries x 100 documents, bfloat16 and FP8 (--size)", "eight_bits", "fp8_rerank", "rerank", ("fp8-rerank-4B",)),
    "remote-embed": Row("20,000 texts of ~128 tokens to one vllm serve", "remote", "remote_embed", "remote-embed", ("remote-embed",)),
    "remote-rerank": Row("32 queries x 100 documents to one vllm serve", "remote", "remote_rerank", "remote-rerank", ("remote-rerank",)),
    "cpu-rerank": Row("one query x 100 documents on the CPU", "processor", "cpu_rerank", "cpu-rerank", ("cpu-rerank",)),
    "cpu-embed": Row("256 abstracts on the CPU", "processor", "cpu_embed", "cpu-embed", ("cpu-embed",)),
    "startup": Row("import; first answers of the tiny pair in a cold process", "startup", "startup", "alone", ("startup",)),
    "frames": Row("p95 frame time of the widgets with 1,000 and 10,000 documents", "frames", "frames", "alone", ("frames",)),
    "memory": Row("host memory of the embed command, 10,000 and 100,000 texts", "memory", "memory", "memory", ("memory-host",)),
    "memory-gpu": Row("GPU memory against plan, at lengths up to 32,768", "memory", "memory_gpu", "memory-gpu", ("memory-gpu",)),
    "scaling": Row("curves over texts, tokens, documents a query and callers", "scaling", "scaling", "scaling", ()),
}
