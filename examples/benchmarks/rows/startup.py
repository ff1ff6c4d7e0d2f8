"""Time of the import and of the first answers of the bundled tiny pair, each in a new process."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from typing import Any

from workbench import Workbench

IMPORT = """
import time
started = time.perf_counter()
import qwen3_integrations
print(time.perf_counter() - started)
"""
ANSWERS = """
from qwen3_integrations import Embedder, Reranker, open_engine
with open_engine("embed", "qwen3-tiny-demo", backend="torch", device="cpu") as engine:
    assert Embedder(engine).embed_documents(["a text"]).shape[0] == 1
with open_engine("rerank", "qwen3-tiny-demo", backend="torch", device="cpu") as engine:
    assert len(Reranker(engine).rank("a query", ["a document", "another"])) == 2
"""
LEAST_REPEATS = 5


def startup(bench: Workbench) -> None:
    """Measure both alternately, each in a new process. From the second repeat on, files are in the system's cache."""
    times: dict[str, list[float]] = {"import qwen3_integrations": [], "first answer of the tiny pair, cold process": []}
    for _ in range(max(bench.repeats, bench.count(LEAST_REPEATS, 1))):
        times["import qwen3_integrations"].append(float(_ran(IMPORT)))
        started = time.perf_counter()
        _ran(ANSWERS)
        times["first answer of the tiny pair, cold process"].append(time.perf_counter() - started)
    sides: list[dict[str, Any]] = [
        {"name": name, "value": statistics.median(seconds), "unit": "s", "seconds": seconds, "min": min(seconds), "max": max(seconds)}
        for name, seconds in times.items()
    ]
    bench.write("startup", sides, device="cpu")


def _ran(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
