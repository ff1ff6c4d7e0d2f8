"""Tables of the records of `run.py`, for RESULTS.md.

    python examples/benchmarks/report.py results.jsonl                                     # print them
    python examples/benchmarks/report.py results.jsonl --into examples/benchmarks/RESULTS.md

In the file, each table between `<!-- table NAME -->` and `<!-- end -->` is replaced; the other text is unchanged. If one measurement has
several results on the same hardware, the newest is used.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import record
from compare import ours_within
from targets import OURS_FP8, TARGETS, Verdict, verdicts

Line = dict[str, Any]


def newest(lines: Sequence[Line], *, small: bool = False) -> list[Line]:
    """Results only, the newest of each measurement, point and hardware, in the order of the targets.

    Args:
        lines: Lines of one or several logs.
        small: Return results of dry runs instead.
    """
    found: dict[tuple[Any, ...], Line] = {}
    for line in lines:
        if line.get("kind") == "result" and bool(line.get("small")) == small:
            found[line["measurement"], line.get("x"), machine(line)] = line
    order = list(TARGETS)
    return sorted(found.values(), key=lambda line: order.index(line["measurement"]) if line["measurement"] in order else len(order))


def machine(line: Line) -> str:
    """The hardware in a few words; the GPU first if there is one."""
    about = line["hardware"]
    cpu = f"{about['cores']} cores of {about['cpu']}"
    on_gpu = about["gpu"] and str(line["device"]).startswith("cuda")
    return f"{about['gpu']}, {cpu}" if on_gpu else cpu


def targets_table(lines: Sequence[Line]) -> str:
    """One line per target: figure, verdict, hardware and date."""
    judged = [(line, verdict) for line in lines for verdict in verdicts(line["measurement"], line["sides"])]
    rows = [
        [line["measurement"], made.target.side, _against(made), _figure(made), _result(made), machine(line), line["date"][:10]]
        for line, made in judged
    ]
    return _table(["measurement", "side", "target", "measured", "", "hardware", "date"], rows)


def rates_table(lines: Sequence[Line]) -> str:
    """One line per side: median rate, spread of the repeats, share of the ceiling, distance from fp32."""
    rows: list[list[str]] = []
    for line in lines:
        if not line["measurement"].startswith("scaling"):
            rows += ([line["measurement"], side["name"], *_numbers(side, line)] for side in line["sides"])
            rows += ([line["measurement"], name, "not measured", reason, "", ""] for name, reason in (line.get("missing") or {}).items())
    distance = "1 - cosine, or score difference, to fp32"
    return _table(["measurement", "side", "median", "seconds: median (least to most)", "of the matmul ceiling", distance], rows)


def scaling_table(lines: Sequence[Line]) -> str:
    """One line per point of a curve."""
    rows = []
    curves = [line for line in lines if line["measurement"].startswith("scaling")]
    for line in sorted(curves, key=lambda line: (line["measurement"], machine(line), line["x"])):
        peak = line.get("peak", {})
        memory = f"{peak['gpu_reserved_mib']:,} MiB GPU" if "gpu_reserved_mib" in peak else f"{peak.get('host_mib', 0):,} MiB host"
        for side in line["sides"]:
            name = re.sub(r"^\d+ ", "", side["name"])
            rows.append(
                [line["measurement"].removeprefix("scaling-"), f"{line['x']:,}", name, f"{side['rate']:,.4g} {line['unit']}", memory]
            )
    return _table(["curve", "at", "side", "median", "peak of this process"], rows)


def provenance_table(lines: Sequence[Line]) -> str:
    """Versions, hardware and date of each measurement."""
    rows = []
    for line in lines:
        said = ", ".join(f"{name} {version}" for name, version in line["versions"].items())
        rows.append([line["measurement"], machine(line), said, line["date"]])
    seen: dict[tuple[str, str], list[list[str]]] = {}
    for row in rows:
        seen.setdefault((row[1], row[2]), []).append(row)
    merged = []
    for (hardware, said), group in seen.items():
        dates = sorted(row[3] for row in group)
        names = list(dict.fromkeys(row[0] for row in group))
        span = dates[0] if dates[0][:16] == dates[-1][:16] else f"{dates[0]} to {dates[-1]}"
        merged.append([", ".join(names), hardware, said, span])
    return _table(["measurements", "hardware", "versions", "date (UTC)"], merged)


TABLES: dict[str, Callable[[Sequence[Line]], str]] = {
    "targets": targets_table,
    "rates": rates_table,
    "scaling": scaling_table,
    "provenance": provenance_table,
}


def filled(text: str, lines: Sequence[Line]) -> str:
    """A document with its tables rewritten.

    Raises:
        ValueError: For a mark with an unknown table, or without an end.
    """

    def table(match: re.Match[str]) -> str:
        name = match[1]
        if name not in TABLES:
            raise ValueError(f"there is no table {name!r}: {', '.join(TABLES)}")
        return f"<!-- table {name} -->\n\n{TABLES[name](lines)}\n\n<!-- end -->"

    if len(re.findall(r"<!-- table ", text)) != len(re.findall(r"<!-- end -->", text)):
        raise ValueError("the mark of a table has no end: write <!-- end --> after the table")
    return re.sub(r"<!-- table (\S+) -->.*?<!-- end -->", table, text, flags=re.DOTALL)


def _against(verdict: Verdict) -> str:
    target = verdict.target
    if target.kind == "times":
        return f"at least {target.bound:g}x of {target.against}"
    return f"at least {target.bound:.0%} of the ceiling" if target.kind == "of the ceiling" else f"at most {target.bound:g} {target.unit}"


def _figure(verdict: Verdict) -> str:
    target = verdict.target
    if target.kind == "times":
        return f"{verdict.figure:.2f}x"
    return f"{verdict.figure:.1%}" if target.kind == "of the ceiling" else f"{verdict.figure:.3g} {target.unit}"


def _result(verdict: Verdict) -> str:
    return "met" if verdict.met else f"**{abs(verdict.margin):.1%} short**"


def _numbers(side: Line, line: Line) -> list[str]:
    if "rate" not in side:
        spread = f"{side['min']:.3g} to {side['max']:.3g}" if "min" in side else ""
        return [f"{side['value']:.4g} {side.get('unit', '')}", spread, "", ""]
    rate = f"{side['median'] * 1e3:.3g} ms a call" if line.get("calls") else f"{side['rate']:,.4g} {line['unit']}"
    seconds = f"{side['median']:.3g} ({side['min']:.3g} to {side['max']:.3g})"
    share = f"{side['of_ceiling']:.1%}" if side.get("of_ceiling") is not None else ""
    apart = side.get("reference_distance")
    distance = "" if apart is None else f"{max(apart, 0.0):.1e}"
    if apart is not None and side["name"].startswith("ours") and side["name"] != OURS_FP8 and not ours_within(apart, scores=side["scores"]):
        distance = f"**{distance}, beyond the bound**"
    return [rate, seconds, share, distance]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    return "\n".join([line(head), "|" + "---|" * len(head), *map(line, rows)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logs", nargs="+", type=Path, metavar="FILE", help="JSON lines of run.py")
    parser.add_argument("--into", type=Path, default=None, metavar="FILE", help="a Markdown file with marks; default: print the tables")
    parser.add_argument("--small", action="store_true", help="use the results of dry runs")
    chosen = parser.parse_args()
    lines = newest([line for log in chosen.logs for line in record.read(log)], small=chosen.small)
    if chosen.into:
        chosen.into.write_text(filled(chosen.into.read_text(encoding="utf-8"), lines), encoding="utf-8")
        return
    for name, table in TABLES.items():
        print(f"## {name}\n\n{table(lines)}\n")


if __name__ == "__main__":
    main()
