"""Seconds from the `serve` command to the first answer of its server, and where they go.

    python examples/benchmarks/server_start.py [--model qwen3-tiny-demo] [--engine torch] [--repeats 5] [-- more words for serve]

Each start is a command of its own, as a user types it: `serve embed MODEL --keep-running`, and then one request of one text.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

from qwen3_integrations import Embedder
from qwen3_integrations.serving import attach

COMMAND = [sys.executable, "-m", "qwen3_integrations.cli"]


def main() -> None:
    """Measure and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="qwen3-tiny-demo")
    parser.add_argument("--engine", default="torch")
    parser.add_argument("--repeats", type=int, default=5)
    known, more = parser.parse_known_args()
    words = ["serve", "embed", known.model, "--engine", known.engine, "--keep-running", "--no-reuse", "--json", *more]
    found: dict[str, list[float]] = {"command to first answer": [], "of it: start to ready": []}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["QWEN3_SERVERS_DIR"] = folder
        for _ in range(known.repeats):
            begin = time.perf_counter()
            done = subprocess.run([*COMMAND, *words], check=True, capture_output=True, text=True)
            shown = json.loads(done.stdout)
            server = attach(shown["name"])
            try:
                with server.engine() as engine:
                    Embedder(engine).embed_documents(["The first text."])
                found["command to first answer"].append(time.perf_counter() - begin)
                found["of it: start to ready"].append(shown["seconds"])
            finally:
                server.stop()
    print(f"{known.model} on {shown['engine']}, {known.repeats} starts, {os.cpu_count()} CPU cores")
    for name, seconds in found.items():
        print(f"  {name:28}{statistics.median(seconds):7.2f} s ({min(seconds):.2f} to {max(seconds):.2f})")


if __name__ == "__main__":
    main()
