"""The part file: after any interruption, the next run continues the same file, or says why it can't."""

from __future__ import annotations

import io
import json
import os
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from qwen3_integrations.bulk.error_report import ErrorReport
from qwen3_integrations.bulk.formats import OutputFormat, make_format
from qwen3_integrations.bulk.part_file import PartFile
from qwen3_integrations.bulk.run import Summary, embed_records
from qwen3_integrations.bulk.sources import InputFormat, Lines
from qwen3_integrations.core.embedder import Embedder
from qwen3_integrations.engines.fake import FakeEngine
from qwen3_integrations.errors import EngineError, InputError

LINES = [json.dumps({"id": number, "text": f"text number {number} \n of the list"}) for number in range(40)]
SETTINGS = {"model": "fake", "dimensions": None}


class Stopping(FakeEngine):
    """Fails at a text."""

    def __init__(self, at: str | None, **settings) -> None:
        super().__init__("embed", **settings)
        self.at = at

    def run(self, job):
        if self.at and any(self.at in prompt.body.text for prompt in job.prompts):
            raise EngineError("stopped")
        return super().run(job)


def run(
    out: Path,
    lines: Sequence[str] = LINES,
    *,
    chosen: OutputFormat = OutputFormat.NPY,
    stop_at: str | None = None,
    settings=SETTINGS,
    dimensions: int = 32,
    chunk: int = 4,
    skip: bool = False,
    **options,
) -> Summary:
    report = ErrorReport(out.with_name(f"{out.name}.errors.jsonl"), skips=skip)
    source = Lines(io.BytesIO("".join(f"{line}\n" for line in lines).encode()), "in.jsonl", InputFormat.JSONL, report=report)
    with PartFile(out, make_format(chosen), settings, report=report, **options) as target:
        records = target.resume(source)
        return embed_records(Embedder(Stopping(stop_at, dimensions=dimensions)), source, records, target, chunk=chunk, report=report)


def stopped(out: Path, at: str = "number 22 ", **settings) -> None:
    with pytest.raises(EngineError, match="stopped"):
        run(out, stop_at=at, **settings)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("chosen", OutputFormat)
def test_only_the_whole_file_appears(tmp_path, chosen):
    out = tmp_path / "out"
    stopped(out, chosen=chosen)
    assert names(tmp_path) == {"out.part", "out.part.json"}
    summary = run(out, chosen=chosen)
    assert names(tmp_path) == {"out"}
    assert (summary.rows, summary.resumed) == (40, 20)


@pytest.mark.parametrize("chosen", OutputFormat)
def test_a_crash_at_any_byte_leads_to_the_same_file(tmp_path, chosen):
    run(tmp_path / "straight", chosen=chosen)
    expected = (tmp_path / "straight").read_bytes()
    out = tmp_path / "crashed" / "out"
    out.parent.mkdir()
    stopped(out, chosen=chosen)
    kept = {path: path.read_bytes() for path in out.parent.iterdir()}
    part = out.with_name("out.part")
    size = len(kept[part])
    offsets = [0, 1, 127, 128, 129, size - 1, size, *random.Random(3).sample(range(size), 25)]
    resumed = set()
    for offset in offsets:
        out.unlink(missing_ok=True)
        for path, content in kept.items():
            path.write_bytes(content)
        part.write_bytes(kept[part][:offset])
        resumed.add(run(out, chosen=chosen, chunk=3).resumed)
        assert out.read_bytes() == expected, offset
        assert names(out.parent) == {"out"}
    assert {0, 20} < resumed


def test_bytes_after_the_last_saved_state_are_dropped(tmp_path):
    run(tmp_path / "straight")
    out = tmp_path / "out"
    stopped(out)
    with out.with_name("out.part").open("ab") as file:
        file.write(b"\x01" * 1000)
    run(out)
    assert out.read_bytes() == (tmp_path / "straight").read_bytes()


def test_a_second_stop_and_a_lost_end_still_lead_there(tmp_path):
    run(tmp_path / "straight", chosen=OutputFormat.JSONL)
    out = tmp_path / "out"
    part = out.with_name("out.part")
    stopped(out, chosen=OutputFormat.JSONL)
    part.write_bytes(part.read_bytes()[:-3000])
    stopped(out, "number 15 ", chosen=OutputFormat.JSONL, chunk=1)
    assert json.loads(out.with_name("out.part.json").read_bytes())["rows"] == 15
    stopped(out, "number 33 ", chosen=OutputFormat.JSONL)
    assert run(out, chosen=OutputFormat.JSONL).resumed > 22
    assert out.read_bytes() == (tmp_path / "straight").read_bytes()


@pytest.mark.parametrize("change", ["before", "first", "shorter", "reordered", "field"])
def test_another_input_is_refused_and_spoils_nothing(tmp_path, change):
    out = tmp_path / "out"
    stopped(out)
    other = {
        "before": ['{"text": "new"}', *LINES],
        "first": [LINES[0].replace("text number", "texts number"), *LINES[1:]],
        "shorter": LINES[:10],
        "reordered": [*LINES[:4], *reversed(LINES[4:])],
        "field": [LINES[0].replace('"id": 0', '"id": 1'), *LINES[1:]],
    }[change]
    with pytest.raises(InputError, match=r"in\.jsonl does not begin with the 20 lines that .*out\.part was made from.*--restart"):
        run(out, other)
    assert run(out).resumed == 20
    expected = tmp_path / "expected"
    run(expected)
    assert out.read_bytes() == expected.read_bytes()


def test_lines_after_the_finished_ones_may_change(tmp_path):
    out = tmp_path / "out"
    broken = [*LINES[:22], "{broken", "", *LINES[22:]]
    with pytest.raises(InputError, match=r"in\.jsonl, line 23"):
        run(out, broken)
    assert run(out).resumed == 22

    second = tmp_path / "second"
    with pytest.raises(InputError, match=r"in\.jsonl, line 23"):
        run(second, broken)
    summary = run(second, broken, skip=True)
    assert (summary.rows, summary.resumed, summary.skipped) == (40, 22, 1)
    assert second.read_bytes() == out.read_bytes()


def test_other_settings_are_refused_by_name(tmp_path):
    out = tmp_path / "out"
    stopped(out)
    with pytest.raises(InputError, match=r"other settings \(dimensions was None and is 64; queries was None and is True\).*--restart"):
        run(out, settings=SETTINGS | {"dimensions": 64, "queries": True})
    assert run(out, settings=SETTINGS | {"dimensions": 64}, restart=True).resumed == 0


def test_a_model_of_another_width_is_refused(tmp_path):
    out = tmp_path / "out"
    stopped(out)
    with pytest.raises(InputError, match=r"started with another model.*width was 32 and is 64.*--restart"):
        run(out, dimensions=64)
    assert run(out).resumed == 20


def test_an_existing_output_is_kept_without_overwrite(tmp_path):
    out = tmp_path / "out"
    out.write_text("precious")
    with pytest.raises(InputError, match=r"out exists already.*--overwrite"):
        run(out)
    assert (out.read_text(), names(tmp_path)) == ("precious", {"out"})
    stopped(out, overwrite=True)
    assert out.read_text() == "precious"
    assert run(out, overwrite=True).resumed == 20
    assert out.read_bytes()[:6] == b"\x93NUMPY"


def test_a_part_file_of_unknown_origin_is_not_touched(tmp_path):
    out = tmp_path / "out"
    part = out.with_name("out.part")
    for note in (None, "no json", '{"other": 1}', "[" * 100_000):
        part.write_text("somebody's")
        if note:
            out.with_name("out.part.json").write_text(note)
        with pytest.raises(InputError, match=r"out\.part exists, but .*out\.part\.json does not say"):
            run(out)
        assert part.read_text() == "somebody's"
    run(out, restart=True)


@pytest.mark.parametrize(
    "damage",
    [
        *({"settings": value} for value in ([], "x", None)),
        *({name: value} for name in ("rows", "width", "lines") for value in ("3", -1, 3.0, True, None)),
        *({"digest": value} for value in (None, 7)),
    ],
    ids=str,
)
def test_a_damaged_state_is_reported(tmp_path, damage):
    out, note = tmp_path / "out", tmp_path / "out.part.json"
    stopped(out)
    note.write_text(json.dumps(json.loads(note.read_bytes()) | damage))
    with pytest.raises(InputError, match=r"does not say what it was made from.*--restart"):
        run(out)
    assert run(out, restart=True).resumed == 0


def test_a_name_that_is_too_long_is_reported(tmp_path):
    for length in (251, 254, 300):
        with pytest.raises(InputError, match="can't be written: File name too long"):
            run(tmp_path / ("x" * length))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the system shows no open files as paths")
def test_an_open_file_of_this_process_is_no_output(tmp_path):
    """`/dev/stdout` is a link to one: it would be replaced for all processes."""
    with (tmp_path / "redirected").open("w") as file:
        link = tmp_path / "stdout"
        link.symlink_to(f"/proc/self/fd/{file.fileno()}")
        for out in (link, Path(f"/proc/self/fd/{file.fileno()}")):
            with pytest.raises(InputError, match="leave --output out for standard output"):
                run(out, overwrite=True)
        assert link.is_symlink()


def test_nothing_is_left_where_nothing_was_done(tmp_path):
    stopped(tmp_path / "out", "number 0 ")
    assert names(tmp_path) == set()


def test_two_runs_do_not_write_one_file(tmp_path):
    out = tmp_path / "out"
    with PartFile(out, make_format(OutputFormat.NPY), SETTINGS), pytest.raises(InputError, match=r"another run is writing .*out\.part"):
        run(out)
    run(out)


def test_a_place_that_can_not_be_written_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere.out\.part can't be written: No such file"):
        run(tmp_path / "nowhere" / "out")


@pytest.mark.parametrize("chosen", OutputFormat)
def test_no_lines_give_a_valid_file(tmp_path, chosen):
    out = tmp_path / "out"
    assert run(out, [], chosen=chosen).rows == 0
    assert names(tmp_path) == {"out"}
    assert (out.stat().st_size == 0) == (chosen is OutputFormat.JSONL)


PREDICTABLE = ("out.part", "out.part.json", "out.part.json.new", "out.part.parquet")
"""Names that any user who can write to the folder can create first."""


@pytest.mark.parametrize("name", PREDICTABLE)
@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("restart", [False, True])
def test_nothing_is_written_through_an_existing_link(tmp_path, name, begun, restart):
    folder, target = tmp_path / "folder", tmp_path / "target"
    folder.mkdir()
    target.write_bytes(b"precious")
    out = folder / "out"
    if begun:
        stopped(out, chosen=OutputFormat.PARQUET)
        (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(target)
    if name == "out.part" or (name == "out.part.json" and begun and not restart):
        with pytest.raises(InputError, match="is a symbolic link, which is not followed: remove it"):
            run(out, chosen=OutputFormat.PARQUET, restart=restart)
    else:
        run(out, chosen=OutputFormat.PARQUET, restart=restart)
        assert names(folder) == {"out"}
        assert not out.is_symlink()
    assert target.read_bytes() == b"precious"


def test_a_dangling_link_makes_no_file(tmp_path):
    (tmp_path / "out.part").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="symbolic link"):
        run(tmp_path / "out")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("restart", [False, True])
def test_a_part_file_of_another_account_is_not_continued(tmp_path, restart):
    """Its owner could change the rows at any time, and would own the whole file."""
    if os.getuid():
        pytest.skip("only root can give files to a second account")
    out = tmp_path / "out"
    stopped(out)
    for name in ("out.part", "out.part.json"):
        os.chown(tmp_path / name, 65534, 65534)
        if name == "out.part" or not restart:
            with pytest.raises(InputError, match=rf"{name} belongs to another user \(65534\): remove it"):
                run(out, restart=restart)
        os.chown(tmp_path / name, os.getuid(), os.getgid())
    assert run(out, restart=restart).rows == 40


def test_a_part_file_with_a_second_name_is_not_continued(tmp_path):
    out = tmp_path / "out"
    stopped(out)
    os.link(tmp_path / "out.part", tmp_path / "backup")
    with pytest.raises(InputError, match="second name"):
        run(out)


def test_a_pipe_at_the_path_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "out.part")
    with pytest.raises(InputError, match="not a regular file"):
        run(tmp_path / "out")


def test_a_folder_that_is_a_link_can_be_written(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    out = tmp_path / "link" / "out"
    stopped(out)
    assert run(out).resumed == 20
    assert names(tmp_path / "real") == {"out"}
