"""The benchmarks' harness: it compares results before it measures, measures alternately, and reports what it could not measure."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

FOLDER = Path(__file__).parent.parent.parent / "examples" / "benchmarks"
TOKENIZER = Path(__file__).parent.parent.parent / "qwen3_integrations" / "tiny" / "embedding" / "tokenizer.json"
VECTORS = np.eye(6, 8) + 0.1


@pytest.fixture
def module(monkeypatch):
    """Imports a module of the harness as `run.py` does; all of them, and the environment that it sets, are removed afterwards."""
    monkeypatch.syspath_prepend(str(FOLDER))
    before = set(sys.modules)
    with mock.patch.dict(os.environ):
        yield importlib.import_module
    for name in set(sys.modules) - before:
        found = getattr(sys.modules[name], "__file__", None) or ""
        if found.startswith(str(FOLDER)):
            del sys.modules[name]


@pytest.fixture
def run(module, tmp_path):
    """Runs one made-up row as the command line would; returns the recorded lines."""

    def ran(*bodies, words=(), code=0):
        rows = module("rows")
        names = [f"row-{number}" for number in range(len(bodies))]
        log = tmp_path / "results.jsonl"
        for name, body in zip(names, bodies, strict=True):
            rows.ROWS[name] = made_row(rows.Row, body)
        assert module("run").main([*names, "--small", "--out", str(log), *words]) == code
        return [json.loads(line) for line in log.read_text().splitlines()]

    return ran


def made_row(base, body):
    class Made(base):
        run = property(lambda _: body)

    return Made("made up", "", "", "alone", ())


def texts(module, count=6):
    return module("inputs").Texts(tuple(f"text {number}" for number in range(count)))


def side(module, name, result=VECTORS, **more):
    return module("compare").Side(name, lambda _: result, **more)


def test_sides_take_turns_and_never_see_the_same_words_twice(module):
    seen = []
    compare = module("compare")

    def noting(name):
        def run(work):
            seen.append((name, work.salt))
            return VECTORS

        return compare.Side(name, run)

    measured = compare.compare([noting("a"), noting("b")], texts(module), repeats=3)
    assert [name for name, _ in seen] == ["a", "b"] + ["a", "b"] * 3
    assert [salt for _, salt in seen[:2]] == [0, 0]  # all sides compare the same work
    assert len({salt for _, salt in seen[2:]}) == 6
    assert [len(numbers.seconds) for numbers in measured] == [3, 3]


def test_preparation_and_reset_happen_once_per_repeat(module):
    compare = module("compare")
    calls = []
    sides = [
        compare.Side(
            "a", lambda payload: calls.append("run") or VECTORS[: len(payload)], lambda work: calls.append("prepare") or list(work.texts),
            before=lambda: calls.append("before"),
        )
    ]  # fmt: skip
    compare.compare(sides, texts(module), repeats=2)
    assert calls == ["prepare", "before", "run"] * 3


def test_medians_and_spread(module):
    measured = module("compare").Measured("a", 100, [4.0, 1.0, 2.0])
    assert measured.to_dict() | {"seconds": 0} == {
        "name": "a", "items": 100, "seconds": 0, "median": 2.0, "min": 1.0, "max": 4.0, "rate": 50.0,
        "distance": 0.0, "reference_distance": None, "scores": False,
    }  # fmt: skip


def test_a_latency_is_the_median_of_single_calls(module):
    compare = module("compare")
    calls = []
    each = compare.Side("a", lambda text: calls.append(text) or VECTORS[0], lambda work: work.texts, each=True)
    (measured,) = compare.compare([each], texts(module), repeats=1)
    assert len(calls) == 12  # six compared, six timed
    assert measured.items == 1
    assert len(measured.seconds) == 1


def test_a_slow_side_does_its_share(module):
    compare = module("compare")
    sides = [compare.Side(name, lambda work: VECTORS[: len(work)], share=share) for name, share in (("a", 1.0), ("b", 0.5))]
    assert [numbers.items for numbers in compare.compare(sides, texts(module), repeats=1)] == [6, 3]


def test_other_vectors_are_refused_before_anything_is_timed(module):
    compare = module("compare")
    timed = []
    wrong = VECTORS.copy()
    wrong[4] = wrong[0]
    with pytest.raises(compare.Unequal, match=r"b and a: 1 - cosine is up to 0\.\d+ \(item 4; .*nothing was timed"):
        compare.compare([side(module, "a"), side(module, "b", wrong)], texts(module), on_time=lambda *_: timed.append(1))
    assert not timed


def test_other_scores_are_refused(module):
    compare = module("compare")
    scores = np.linspace(0, 1, 6)
    with pytest.raises(compare.Unequal, match=r"b and a: scores differ by up to 0\.5 \(item 2"):
        compare.compare([side(module, "a", scores), side(module, "b", scores + 0.5 * (np.arange(6) == 2))], texts(module))
    compare.compare([side(module, "a", scores), side(module, "b", scores + 0.001)], texts(module), repeats=1)


@pytest.mark.parametrize("wrong", [VECTORS * np.nan, np.zeros_like(VECTORS)], ids=["not a number", "nothing"])
def test_vectors_without_a_direction_are_refused(module, wrong):
    compare = module("compare")
    with pytest.raises(compare.Unequal):
        compare.compare([side(module, "a"), side(module, "b", wrong)], texts(module))


def test_missing_results_are_refused(module):
    compare = module("compare")
    with pytest.raises(compare.Unequal, match="b gave 5 results for 6 items"):
        compare.compare([side(module, "a"), side(module, "b", VECTORS[:5])], texts(module))


def test_every_side_is_held_against_the_reference(module):
    compare = module("compare")
    scores = np.full(6, 0.5)
    ours, peer = side(module, "ours", scores + 0.005), side(module, "peer", scores + 0.02)
    first, second = compare.compare([ours, peer], texts(module), reference=scores[:3], repeats=1)
    assert first.reference_distance == pytest.approx(0.005)
    assert second.reference_distance == pytest.approx(0.02)
    with pytest.raises(compare.Unequal, match="ours and the fp32 reference"):
        compare.compare([ours, peer], texts(module), reference=scores[:3] - 0.1)


def test_a_peer_that_breaks_is_left_out_and_ours_may_not_break(module):
    compare = module("compare")

    def breaks(_):
        raise MemoryError("too large\nand more")

    broken = {}
    measured = compare.compare([side(module, "a"), compare.Side("b", breaks), side(module, "c")], texts(module), repeats=1, broken=broken)
    assert [numbers.name for numbers in measured] == ["a", "c"]
    assert broken == {"b": "MemoryError: too large"}
    with pytest.raises(MemoryError):
        compare.compare([compare.Side("b", breaks), side(module, "a")], texts(module), broken=broken)


def test_a_client_without_results_is_timed_alone(module):
    compare = module("compare")
    _, bare = compare.compare([side(module, "a"), side(module, "b", 0, compared=False)], texts(module), repeats=2)
    assert bare.distance is None
    assert bare.items == 6
    assert len(bare.seconds) == 2


def test_texts_have_the_wanted_lengths(module):
    inputs = module("inputs")
    prose = inputs.Prose(TOKENIZER)
    for tokens in (32, 128, 2048):
        work = prose.texts(60, tokens)
        found = np.asarray(inputs.lengths(TOKENIZER, work.texts))
        assert found.mean() == pytest.approx(tokens, rel=0.15)
        assert 0.1 * tokens < found.std() < 0.35 * tokens
        assert len(set(work.items)) == 60
        alike = inputs.lengths(TOKENIZER, prose.texts(20, tokens, spread=0.0).texts)
        assert max(alike) <= tokens  # the whole context of a model is possible
        assert min(alike) > 0.5 * tokens
    work = prose.texts(8, 64)
    assert not set(work.salted(1).texts) & set(work.salted(2).texts)
    assert inputs.lengths(TOKENIZER, work.salted(1).texts) == inputs.lengths(TOKENIZER, work.salted(2).texts)
    searches = prose.searches(3, 5, instruction="")
    assert len(searches) == len(searches.pairs) == 15
    assert not {query for query, _ in searches.salted(1).searches} & {query for query, _ in searches.salted(2).searches}
    assert [len(documents) for _, documents in searches.part(7).items] == [5, 2]


def test_random_weights_are_read_by_the_package(module, tmp_path):
    from qwen3_integrations import Embedder, Reranker, open_engine

    weights = module("weights")
    spec = json.loads(TOKENIZER.read_text(encoding="utf-8"))
    small = {"num_hidden_layers": 1, "hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1}
    small |= {"head_dim": 32, "vocab_size": len(spec["model"]["vocab"]) + len(spec["added_tokens"]), "max_window_layers": 1}
    for kind in ("embedding", "reranker"):
        weights.write_model(tmp_path / kind, kind, spec, **small)
    with open_engine("embed", str(tmp_path / "embedding"), backend="torch", device="cpu") as engine:
        assert Embedder(engine).embed_documents(["a", "b"]).shape == (2, 64)
    with open_engine("rerank", str(tmp_path / "reranker"), backend="torch", device="cpu") as engine:
        scores = Reranker(engine).score([("a query", text) for text in ("one", "another", "a third")])
    assert ((scores > 0.05) & (scores < 0.95)).all()


def test_the_0_6b_shape_is_the_published_one(module):
    shape = module("weights").config("reranker")
    assert (shape["hidden_size"], shape["intermediate_size"], shape["num_hidden_layers"], shape["vocab_size"]) == (1024, 3072, 28, 151669)
    assert (shape["num_attention_heads"], shape["num_key_value_heads"], shape["head_dim"]) == (16, 8, 128)
    assert shape["max_position_embeddings"] == 40960


def test_every_target_belongs_to_a_row_that_is_listed(module, capsys):
    rows, targets = module("rows"), module("targets")
    assert {name for row in rows.ROWS.values() for name in row.measurements} == set(targets.TARGETS)
    assert module("run").main(["--list"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in rows.ROWS)
    assert "at least 2.2x of vLLM, token ids" in said


def test_every_row_can_be_imported(module):
    assert all(callable(row.run) for row in module("rows").ROWS.values())


def test_results_are_recorded_with_the_facts_to_interpret_them(module, run):
    def row(bench):
        bench.measure("embed-128", [side(module, "ours, torch engine"), side(module, "vLLM, token ids")], texts(module), missing={"x": "y"})

    *times, result = run(row, words=["--repeats", "2"])
    assert [(line["side"], line["repeat"]) for line in times] == [
        ("ours, torch engine", 0), ("vLLM, token ids", 0), ("ours, torch engine", 1), ("vLLM, token ids", 1),
    ]  # fmt: skip
    assert result["kind"] == "result"
    assert result["missing"] == {"x": "y"}
    assert result["versions"]["qwen3-integrations"]
    assert result["hardware"]["cores"] >= 1
    assert result["date"].endswith("+00:00")


def test_a_failed_row_is_recorded_and_the_next_one_runs(module, run, capsys):
    def fails(bench):
        bench.measure("embed-128", [side(module, "a"), side(module, "b", -VECTORS)], texts(module))

    def works(bench):
        bench.measure("embed-512", [side(module, "a")], texts(module))

    failed, *_, result = run(fails, works, code=1)
    assert failed["kind"] == "failed"
    assert "1 - cosine is up to 2" in failed["error"]
    assert result["measurement"] == "embed-512"
    assert "row-0 failed" in capsys.readouterr().out


def test_a_missing_peer_is_left_out_but_ours_must_be_there(module, run):
    def absent():
        raise ModuleNotFoundError("No module named 'x'")

    def row(bench):
        sides, missing = bench.sides(("ours", lambda: side(module, "ours")), ("x", absent), ("y", lambda: side(module, "y")))
        assert [each.name for each in sides] == ["ours", "y"]
        assert missing == {"x": "ModuleNotFoundError: No module named 'x'"}
        bench.sides(("ours", absent))

    (failed,) = run(row, code=1)
    assert "No module named" in failed["error"]


def test_only_some_peers(module, run):
    def row(bench):
        sides, _ = bench.sides(*((name, lambda name=name: side(module, name)) for name in ("ours", "vLLM, texts", "sentence-transformers")))
        assert [each.name for each in sides] == ["ours", "vLLM, texts"]
        bench.measure("embed-512", sides, texts(module))

    assert run(row, words=["--only", "vllm"])[-1]["kind"] == "result"


def test_open_objects_are_shared_and_closed_in_reverse_order(module, run):
    closed = []

    def row(bench):
        first = bench.opened("a", object, lambda _: closed.append("a"))
        assert bench.opened("a", object) is first
        bench.opened("b", object, lambda _: closed.append("b"))

    run(row, row)
    assert closed == ["b", "a"]


def result(rates, measurement="embed-128", **more):
    sides = [
        {"name": name, "items": 100, "seconds": [100 / rate], "median": 100 / rate, "min": 100 / rate, "max": 100 / rate, "rate": rate,
         "reference_distance": 1e-5, "scores": False, "of_ceiling": 0.5 if name.startswith("ours") else None}
        for name, rate in rates.items()
    ]  # fmt: skip
    return {
        "kind": "result", "measurement": measurement, "date": "2026-01-02T03:04:05+00:00", "small": False, "device": "cuda", "sides": sides,
        "unit": "texts/s", "hardware": {"gpu": "A GPU", "cpu": "A CPU", "cores": 16}, "versions": {"torch": "2"},
    } | more  # fmt: skip


RATES = {"ours, torch engine": 440.0, "vLLM, token ids": 200.0, "vLLM, texts": 200.0}


def test_the_report_shows_met_targets_and_the_margin_of_missed_ones(module):
    report = module("report")
    table = report.targets_table([result(RATES)]).splitlines()
    assert "| at least 2.2x of vLLM, token ids | 2.20x | met | A GPU, 16 cores of A CPU | 2026-01-02 |" in table[2]
    assert "| at least 3.5x of vLLM, texts | 2.20x | **37.1% short** |" in table[3]
    assert "| at least 60% of the ceiling | 50.0% | **16.7% short** |" in table[4]
    assert len(table) == 5  # sentence-transformers was not measured


def test_the_report_marks_results_of_ours_that_lie_too_far_from_fp32(module):
    line = result(RATES)
    for each in line["sides"]:
        each["reference_distance"] = 3e-4
    ours, peer, _ = module("report").rates_table([line]).splitlines()[2:]
    assert "**3.0e-04, beyond the bound**" in ours
    assert "| 3.0e-04 |" in peer


def test_the_newest_result_of_a_machine_counts_and_dry_runs_do_not(module):
    report = module("report")
    lines = [result(RATES), result(RATES | {"vLLM, texts": 100.0}), result(RATES, small=True), {"kind": "time"}]
    other = result(RATES, hardware={"gpu": "Another", "cpu": "A CPU", "cores": 16})
    found = report.newest([*lines, other])
    assert [line["hardware"]["gpu"] for line in found] == ["A GPU", "Another"]
    assert found[0]["sides"][2]["rate"] == 100.0


def test_tables_are_replaced_between_their_marks(module):
    report = module("report")
    text = "Before.\n\n<!-- table targets -->\nold\n<!-- end -->\n\nBetween.\n<!-- table rates --><!-- end -->\nAfter.\n"
    once = report.filled(text, [result(RATES)])
    assert re.sub(r"<!-- table.*?<!-- end -->", "", once, flags=re.DOTALL) == "Before.\n\n\n\nBetween.\n\nAfter.\n"
    assert "old" not in once
    assert report.filled(once, [result(RATES)]) == once
    with pytest.raises(ValueError, match="there is no table 'x'"):
        report.filled("<!-- table x --><!-- end -->", [])
    with pytest.raises(ValueError, match="has no end"):
        report.filled("<!-- table rates -->", [])


def test_limits_from_above(module):
    targets = module("targets")
    sides = [{"name": "import qwen3_integrations", "value": 0.3}, {"name": "first answer of the tiny pair, cold process", "value": 2.5}]
    slow, quick = targets.verdicts("startup", sides)
    assert (slow.met, quick.met) == (False, True)
    assert targets.in_words(slow) == "0.3 s; at most 0.2 s: missed, 50% short"
    assert targets.in_words(quick) == "2.5 s; at most 5 s: met, 50% to spare"


def test_results_and_their_marks_fit(module):
    document = FOLDER / "RESULTS.md"
    assert module("report").filled(document.read_text(encoding="utf-8"), [])


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are Linux' own")
def test_peaks_are_those_of_the_stretch_alone(module):
    peaks = module("peaks")
    with peaks.Peaks() as much:
        np.ones(16 << 20)
    with peaks.Peaks() as little:
        pass
    assert much.host - little.host > 100 * peaks.MIB
    assert little.to_dict() == {"host_mib": round(little.host / peaks.MIB)}


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are Linux' own")
def test_the_peak_of_another_process_is_its_own(module):
    peaks = module("peaks")
    held = np.ones(32 << 20)  # 256 MiB that the kernel would count as the child's
    small = peaks.peak_of([sys.executable, "-c", "import time; time.sleep(0.2)"])
    large = peaks.peak_of([sys.executable, "-c", "import time; x = bytearray(b'x') * (200 << 20); time.sleep(0.2)"])
    assert small < 100 * peaks.MIB < 200 * peaks.MIB <= large
    assert held.nbytes > small
    with pytest.raises(RuntimeError, match="ended with 3"):
        peaks.peak_of([sys.executable, "-c", "raise SystemExit(3)"])


def test_a_log_that_was_cut_off_can_be_read(module, tmp_path):
    log = tmp_path / "log"
    log.write_text('{"kind": "result"}\n{"kind": "resu', encoding="utf-8")
    assert module("record").read(log) == [{"kind": "result"}]


def test_the_tail_of_frames_is_the_median_of_the_repeats(module):
    frames = module("rows.frames")
    assert frames.p95([10.0] * 19 + [100.0]) < 20
    assert frames.p95([10.0] * 9 + [100.0]) > 50
    made = frames.side("inspector, 1,000", [[10.0] * 20, [20.0] * 20, [90.0] * 20])
    assert (made["value"], made["median"], made["longest"], made["frames"]) == (20.0, 20.0, 90.0, 60)
    (verdict,) = module("targets").verdicts("frames", [made])
    assert verdict.met


@pytest.mark.browser
@pytest.mark.slow
def test_frames_are_measured_in_a_real_browser(tmp_path):
    pytest.importorskip("playwright")
    pytest.importorskip("anywidget")
    log = tmp_path / "log"
    command = [sys.executable, str(FOLDER / "run.py"), "frames", "--small", "--repeats", "1", "--out", str(log)]
    subprocess.run(command, check=True, timeout=300)
    (line,) = map(json.loads, log.read_text(encoding="utf-8").splitlines())
    assert [side["name"] for side in line["sides"]] == ["inspector, 20", "explorer, 20", "inspector, 200", "explorer, 200"]
    assert all(side["frames"] > 5 and side["value"] > 0 for side in line["sides"])


def test_pictures_are_drawn(module, tmp_path):
    points = [result(RATES, "scaling-texts", x=x, peak={"host_mib": 1}) for x in (1, 10)]
    made = module("plots").drawn([result(RATES), *points], tmp_path)
    assert [path.name for path in made] == ["embed-128.png", "scaling-texts.png"]
    assert all(path.stat().st_size > 1000 for path in made)
