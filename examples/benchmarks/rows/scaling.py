"""Curves of rates and memory over the number of texts, their length, the documents per query, and the callers."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from inputs import lengths
from peers import vllm
from peers.prompts import INSTRUCTION, pair_ids
from targets import VLLM_IDS
from workbench import Workbench

from rows import callers, ours

TEXTS = (1, 10, 100, 1_000, 10_000, 100_000)
TOKENS = (16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096, 8_192)
DOCUMENTS = (1, 3, 10, 30, 100, 300, 1_000)
CALLERS = (1, 4, 16, 64, 256)
CALLS = 512
WORK = 262_144
"""Tokens at each point of the curve over lengths."""
ON_CPU = 16_384
"""Largest number of tokens at a point of a curve on a CPU; points with more are left out."""
PEERS_UP_TO = 1_400_000
"""With more tokens than this, only our own side runs, and only once."""
CHECKED = 64


def scaling(bench: Workbench) -> None:
    """All curves, or those named by `--curve`; `documents` is the last, because it needs the other model."""
    curves: dict[str, Callable[[Workbench], None]] = {
        "texts": _texts,
        "tokens": _tokens,
        "callers": _callers,
        "documents": _documents,
    }
    chosen = bench.options.curve or list(curves)
    for name in chosen:
        if name not in curves:
            raise SystemExit(f"there is no curve {name!r}: {', '.join(curves)}")
    for name in (name for name in curves if name in chosen):
        if name == "documents":
            bench.close()
        curves[name](bench)


def _texts(bench: Workbench) -> None:
    for count in _affordable(bench, TEXTS, 128):
        _embedded(bench, "scaling-texts", count, 128, x=count)


def _tokens(bench: Workbench) -> None:
    total = min(WORK, _most(bench))
    for tokens in TOKENS:
        if tokens <= total and tokens <= bench.count(8_192, 512):
            _embedded(bench, "scaling-tokens", max(1, total // tokens), tokens, x=tokens)


def _embedded(bench: Workbench, measurement: str, count: int, tokens: int, x: int) -> None:
    work = bench.prose.texts(count, tokens, seed=tokens, spread=0.0 if measurement == "scaling-tokens" else 0.2)
    large = count * tokens > PEERS_UP_TO
    openers = [("ours", lambda: ours.embed(bench)), (VLLM_IDS, lambda: vllm.embed_ids(bench))]
    sides, missing = bench.sides(*openers[: 1 if large else 2])
    bench.measure(
        measurement,
        sides,
        work,
        missing=missing,
        check=work.part(CHECKED),
        tokens=lengths(bench.tokenizer("embed"), work.texts),
        repeats=1 if large else None,
        x=x,
    )


def _documents(bench: Workbench) -> None:
    for count in _affordable(bench, DOCUMENTS, 160):
        work = bench.prose.searches(1, count, instruction=INSTRUCTION, seed=count)
        sides, missing = bench.sides(("ours", lambda: ours.rerank(bench)), (VLLM_IDS, lambda: vllm.classify_ids(bench)))
        bench.measure(
            "scaling-documents",
            sides,
            work,
            missing=missing,
            check=work.part(CHECKED),
            tokens=[len(ids) for ids in pair_ids(bench.folder("rerank"), work.pairs, work.instruction)],
            task="rerank",
            unit="pairs/s",
            x=count,
        )


def _callers(bench: Workbench) -> None:
    for count in CALLERS:
        work = bench.prose.texts(bench.count(max(CALLS // 4, min(CALLS * 2, count * 8)), 32), callers.QUERY_TOKENS, seed=count)
        sides = [callers.threads(bench, count), callers.tasks(bench, count)]
        bench.measure("scaling-callers", sides, work, check=work.part(CHECKED), unit="calls/s", x=count)


def _most(bench: Workbench) -> int:
    if bench.small:
        return 2_048
    return ON_CPU if bench.device == "cpu" else 1 << 60


def _affordable(bench: Workbench, points: Iterable[int], tokens: int) -> list[int]:
    return [count for count in points if count * tokens <= _most(bench)]
