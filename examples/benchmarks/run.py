"""Benchmarks: one command for each row of the table of targets.

    python examples/benchmarks/run.py --list
    python examples/benchmarks/run.py embed latency embedded --device cuda --out results.jsonl
    python examples/benchmarks/run.py rerank --embedder Qwen/Qwen3-Embedding-0.6B --reranker Qwen/Qwen3-Reranker-0.6B
    python examples/benchmarks/run.py cpu-embed --texts corpus.jsonl
    python examples/benchmarks/run.py embed --small                 # a dry run on the bundled tiny pair, on any machine

All sides of a row run in one process, or against one server. Their results are compared first; then they are timed alternately. Without
models, random weights of the 0.6B architecture are made (weights.py). Rows of one command share their models and servers. `report.py`
makes tables from the results, `plots.py` makes pictures.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from pathlib import Path
from typing import Any


def parsed(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    from rows import ROWS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", choices=[*ROWS, []], metavar="ROW", help="see --list")
    parser.add_argument("--list", action="store_true", help="list the rows with their targets, and exit")
    parser.add_argument("--device", default="cpu", help="device of the sides that run in this process: cpu, cuda or cuda:0")
    parser.add_argument("--dtype", default=None, choices=["bfloat16", "float32"], help="default: bfloat16; float32 with --small on a CPU")
    parser.add_argument("--repeats", type=int, default=3, help="number of timed repeats per side")
    parser.add_argument("--out", type=Path, default=None, metavar="FILE", help="JSON lines are appended to it")
    parser.add_argument("--small", action="store_true", help="small numbers of items on the bundled tiny pair")
    parser.add_argument("--embedder", default=None, metavar="MODEL", help="a folder or a hub's name")
    parser.add_argument("--reranker", default=None, metavar="MODEL", help="a folder or a hub's name")
    parser.add_argument("--size", default="0.6B", choices=["0.6B", "4B", "8B"], help="shape of the random weights")
    parser.add_argument("--models", type=Path, default=None, metavar="DIR", help="folder of the random weights; they are made if missing")
    parser.add_argument("--tokenizer", type=Path, default=None, metavar="FILE", help="tokenizer.json for random weights")
    parser.add_argument("--texts", type=Path, default=None, metavar="FILE", help="cpu-embed: JSON lines with a field text")
    parser.add_argument("--tokens", type=int, action="append", default=[], help="embed: length of the texts; default: 128 and 512")
    parser.add_argument("--curve", action="append", default=[], help="scaling: texts, tokens, documents or callers; default: all")
    parser.add_argument(
        "--only", action="append", default=[], metavar="WORD", help="only peers whose name contains this word; our sides always run"
    )
    parser.add_argument("--no-reference", action="store_true", help="compare the sides only with each other, not with fp32")
    for name, whose in (
        ("torch", "our torch engine's"),
        ("engine", "our vLLM engine's"),
        ("vllm", "vLLM's own"),
        ("server", "the server's"),
    ):
        parser.add_argument(f"--{name}-option", type=_option, action="append", default=[], metavar="NAME=VALUE", help=f"{whose} option")
    return parser.parse_args(words)


def _option(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def listed() -> str:
    """The rows with their targets."""
    from rows import ROWS
    from targets import TARGETS

    lines = []
    for name, row in ROWS.items():
        lines.append(f"{name:18}{row.about}")
        for measurement in row.measurements:
            for target in TARGETS.get(measurement, ()):
                bound = {
                    "times": f"at least {target.bound:g}x of {target.against}",
                    "of the ceiling": f"at least {target.bound:.0%} of the measured matmul ceiling",
                    "at most": f"at most {target.bound:g} {target.unit}",
                }[target.kind]
                lines.append(f"{'':18}  {measurement}: {target.side}: {bound}")
    return "\n".join(lines)


def main(words: list[str] | None = None) -> int:
    """Run rows; 1 if one of them failed."""
    from workbench import Workbench, quiet_environment

    quiet_environment()
    options = parsed(words)
    if options.list or not options.rows:
        print(listed())
        return 0
    import record
    from compare import Unequal
    from rows import ROWS

    bench = Workbench(options)
    failed = []
    shares = None
    try:
        for name in options.rows:
            row = ROWS[name]
            if shares not in (None, row.shares):
                bench.close()
            shares = row.shares
            bench.show(f"{name}: {row.about}")
            started = time.perf_counter()
            try:
                row.run(bench)
            except Exception as error:  # noqa: BLE001 - the next row may still work
                failed.append(name)
                traceback.print_exc()
                words_of = f"{type(error).__name__}: {error}"
                bench.show(f"  {name} failed: {words_of}")
                if not isinstance(error, Unequal):
                    bench.close()  # an open engine may be broken
                bench.log.write(kind="failed", row=name, error=words_of, date=record.now(), small=bench.small)
            bench.show(f"  {name} took {time.perf_counter() - started:.1f} s")
    finally:
        bench.close()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
