"""Pictures of the records of `run.py`, one per measurement and curve.

python examples/benchmarks/plots.py results.jsonl --folder docs/images/benchmarks
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import record
from report import Line, machine, newest

OURS = "#0b6e4f"
PEERS = ("#5b6770", "#8a97a0", "#b4bec5", "#3f4a52", "#a0522d")
CURVES = {
    "scaling-texts": "texts in one call (~128 tokens each)",
    "scaling-tokens": "tokens of a text",
    "scaling-documents": "documents of one query",
    "scaling-callers": "callers at once",
}
MEMORY = "memory-gpu"


def bars(line: Line, path: Path) -> None:
    """One measurement: one bar per side with its median rate, and whiskers from the slowest to the fastest repeat."""
    plt = _pyplot()
    sides = [side for side in line["sides"] if "rate" in side]
    figure, axes = plt.subplots(figsize=(8, 0.6 + 0.5 * len(sides)))
    for place, side in enumerate(sides):
        rate = side["rate"]
        slow, fast = side["items"] / side["max"], side["items"] / side["min"]
        axes.barh(place, rate, color=_colour(side["name"], place), xerr=[[rate - slow], [fast - rate]], ecolor="#222", capsize=3)
        axes.text(fast, place, f"  {rate:,.4g}", va="center", fontsize=9)
    axes.set_yticks(range(len(sides)), [side["name"] for side in sides], fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.15 * max(side["items"] / side["min"] for side in sides))
    axes.set_xlabel(line["unit"])
    _finish(figure, axes, f"{line['measurement']}: {machine(line)}, {line['date'][:10]}", path)


def curve(lines: Sequence[Line], path: Path) -> None:
    """One curve on two logarithmic axes: one line per side, and below it the peak memory."""
    plt = _pyplot()
    lines = sorted(lines, key=lambda line: line["x"])
    figure, (axes, below) = plt.subplots(2, 1, figsize=(8, 6), sharex=True, height_ratios=[3, 1])
    names = list(dict.fromkeys(_kind(side["name"]) for line in lines for side in line["sides"]))
    for place, name in enumerate(names):
        points = [(line["x"], side["rate"]) for line in lines for side in line["sides"] if _kind(side["name"]) == name]
        axes.plot(*zip(*points, strict=True), "o-", color=_colour(name, place), label=name)
    axes.set_yscale("log")
    axes.set_ylabel(lines[0]["unit"])
    axes.legend(frameon=False)
    kind = "gpu_reserved_mib" if "gpu_reserved_mib" in lines[0].get("peak", {}) else "host_mib"
    below.plot([line["x"] for line in lines], [line.get("peak", {}).get(kind, 0) for line in lines], "o-", color=OURS)
    below.set_ylim(0, 1.15 * max(1, *(line.get("peak", {}).get(kind, 0) for line in lines)))
    below.set_ylabel("peak, MiB\nGPU" if kind.startswith("gpu") else "peak, MiB\nhost")
    below.set_xscale("log")
    below.set_xticks([line["x"] for line in lines], [f"{line['x']:,}" for line in lines])
    below.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axes.yaxis.set_minor_formatter(_sparse)
    below.set_xlabel(CURVES.get(lines[0]["measurement"], "x"))
    below.grid(visible=True, alpha=0.3)
    _finish(figure, axes, f"{lines[0]['measurement']}: {machine(lines[0])}, {lines[0]['date'][:10]}", path)


def memory(line: Line, path: Path) -> None:
    """Peak GPU memory at every length, against the plan."""
    plt = _pyplot()
    sides = [side for side in line["sides"] if "tokens" in side]
    figure, axes = plt.subplots(figsize=(8, 4))
    lengths = [side["tokens"] for side in sides]
    axes.plot(lengths, [side["value"] for side in sides], "o-", color=OURS, label="held by the process")
    axes.plot(lengths, [side["plan_mib"] for side in sides], "-", color=PEERS[4], label="plan")
    axes.set_xscale("log", base=2)
    axes.set_xticks(lengths, [f"{length:,}" for length in lengths])
    axes.minorticks_off()
    axes.set_ylim(0, 1.15 * max(*(side["value"] for side in sides), sides[0]["plan_mib"]))
    axes.set_xlabel("tokens of a text")
    axes.set_ylabel("MiB")
    axes.legend(frameon=False)
    _finish(figure, axes, f"{line['measurement']}: {machine(line)}, {line['date'][:10]}", path)


def drawn(lines: Sequence[Line], folder: Path) -> list[Path]:
    """All pictures of these results.

    Returns:
        The files; several kinds of hardware have files of their own, with a number.
    """
    folder.mkdir(parents=True, exist_ok=True)
    groups: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        groups.setdefault((line["measurement"], machine(line)), []).append(line)
    made: list[Path] = []
    for (measurement, _), group in groups.items():
        path = folder / f"{measurement}.png"
        number = 2
        while path in made:
            path = folder / f"{measurement}-{number}.png"
            number += 1
        if measurement.startswith("scaling"):
            curve(group, path)
        elif measurement == MEMORY:
            memory(group[-1], path)
        elif any("rate" in side for side in group[-1]["sides"]):
            bars(group[-1], path)
        else:
            continue
        made.append(path)
    return made


def _sparse(value: float, _: int) -> str:
    """Labels between the powers of ten: at 2 and 5 only."""
    return f"{value:,.10g}" if f"{value:e}"[0] in "25" else ""


def _kind(name: str) -> str:
    """A side's name without the number of callers, so that all points of a curve have the same name."""
    return re.sub(r"^\d+ (?=threads|tasks)", "", name)


def _colour(name: str, place: int) -> str:
    return OURS if name.startswith("ours") or (name.endswith(("threads", "tasks")) and place == 0) else PEERS[place % len(PEERS)]


def _finish(figure: Any, axes: Any, title: str, path: Path) -> None:
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, axis="both" if axes.get_yscale() == "log" else "x", alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=120, metadata={"Software": None})
    _pyplot().close(figure)


def _pyplot() -> Any:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logs", nargs="+", type=Path, metavar="FILE", help="JSON lines of run.py")
    parser.add_argument("--folder", type=Path, default=Path("docs/images/benchmarks"))
    parser.add_argument("--small", action="store_true", help="use the results of dry runs")
    chosen = parser.parse_args()
    lines = newest([line for log in chosen.logs for line in record.read(log)], small=chosen.small)
    for path in drawn(lines, chosen.folder):
        print(path)


if __name__ == "__main__":
    main()
