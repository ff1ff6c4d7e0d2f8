"""Records from lines: texts, bad lines, and the position of the reading."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest

from qwen3_integrations.bulk.error_report import ErrorReport
from qwen3_integrations.bulk.sources import NO_LINES, InputFormat, Lines, open_lines
from qwen3_integrations.errors import InputError


def read(content: bytes, kind: InputFormat = InputFormat.JSONL, **settings) -> Lines:
    return Lines(io.BytesIO(content), "in.jsonl", kind, **settings)


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        (b"", []),
        (b"one\ntwo\n", ["one", "two"]),
        (b"one\ntwo", ["one", "two"]),
        (b"one\r\ntwo\r\n", ["one", "two"]),
        (b"\xef\xbb\xbfone\n\xef\xbb\xbftwo\n", ["one", "\ufefftwo"]),
        (b"\n  spaces stay \t\n\n", ["", "  spaces stay \t", ""]),
        ("one\u2028still one\x0b\x0c\x85\rstill\n".encode(), ["one\u2028still one\x0b\x0c\x85\rstill"]),
        ("标题 😀\n".encode(), ["标题 😀"]),
    ],
)
def test_a_text_line_is_its_text(content, texts):
    assert [record.text for record in read(content, InputFormat.TEXT)] == texts


def test_a_json_line_keeps_its_other_fields():
    first, second = read(b'\xef\xbb\xbf{"id": 7, "body": "one", "tags": ["a"]}\r\n\n  \n{"body": ""}\n', field="body")
    assert first.text == "one"
    assert first.fields == {"id": 7, "body": "one", "tags": ["a"]}
    assert (second.text, second.line) == ("", 4)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"text": "x"', "is not JSON"),
        (b'["x"]', "is not a JSON object but"),
        (b'"x"', "is not a JSON object but"),
        (b'{"body": "x", "id": 1}', "has no field 'text'; its fields are: 'body', 'id'"),
        (b"{}", "has no field 'text'; its fields are: none"),
        (b'{"text": 3}', "has a field 'text' that is not a string but 3"),
        (b'{"text": null}', "has a field 'text' that is not a string but null"),
        (b'{"text": "a\\ud83d"}', "the lone surrogate U+D83D"),
        (b'{"text": "a", "id": "\\udc00"}', "the lone surrogate U+DC00"),
        (b'{"text": "a", "n": NaN}', "NaN is not a JSON number"),
        (b'{"text": "a", "n": 1e999}', "exceeds 64 bits"),
        (b'{"text": "a\xff"}', "is not UTF-8 (byte 0xff at 11)"),
        (b'{"text": ' + b"[" * 100_000, "is nested too deeply"),
        (b'{"text": ' + b"9" * 5000 + b"}", "Exceeds the limit"),
    ],
)
def test_a_bad_line_is_named_and_can_be_skipped(line, said):
    content = b'{"text": "one"}\n' + line + b'\n{"text": "three"}\n'
    lines = read(content)
    records = iter(lines)
    assert next(records).text == "one"
    with pytest.raises(InputError) as caught:
        next(records)
    assert "in.jsonl, line 2: " in str(caught.value)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 300
    assert lines.mark().lines == 1

    lenient = read(content, report=(report := ErrorReport(None, skips=True)))
    assert [(record.text, record.line) for record in lenient] == [("one", 1), ("three", 3)]
    report.write()
    assert report.count == 1
    assert said in report.first


def test_a_pair_of_surrogates_is_a_character():
    (record,) = read(b'{"text": "\\ud83d\\ude00"}\n')
    assert record.text == "😀"


def test_marks_depend_on_the_lines_and_not_on_their_endings():
    def marks(content):
        lines = read(content, InputFormat.TEXT)
        return [lines.mark().digest] + [lines.mark().digest for _ in lines]

    plain = marks(b"one\ntwo\nthree")
    assert plain[0] == NO_LINES
    assert len(set(plain)) == 4
    assert marks(b"\xef\xbb\xbfone\r\ntwo\r\nthree\r\n") == plain
    assert marks(b"one\ntwo\nother\n")[:3] == plain[:3]
    assert marks(b"one\ntwo\nother\n")[3] != plain[3]
    assert marks(b"onet\nwo\nthree")[2] != plain[2]


def test_lines_after_the_last_record_are_not_in_the_mark():
    lines = read(b'{"text": "one"}\n\n\nbad\n', report=ErrorReport(None, skips=True))
    assert len(list(lines)) == 1
    assert lines.mark().lines == 1


@pytest.mark.parametrize(
    ("name", "texts"),
    [("in.jsonl", ["x"]), ("in.ndjson", ["x"]), ("in.json", ["x"]), ("in.txt", [' {"text": "x"}']), ("in", [' {"text": "x"}'])],
)
@pytest.mark.parametrize("packed", [False, True])
def test_the_suffix_determines_the_kind_of_lines(tmp_path, name, texts, packed):
    path = tmp_path / (name + ".gz" if packed else name)
    content = b' {"text": "x"}\n'
    path.write_bytes(gzip.compress(content) if packed else content)
    with open_lines(str(path)) as lines:
        assert [record.text for record in lines] == texts
        assert lines.mark().position == lines.size == path.stat().st_size


def test_json_lines_without_the_option_are_refused_and_not_read_as_text(tmp_path):
    path = tmp_path / "in.txt"
    path.write_text('{"text": "x"}\n')
    with pytest.raises(InputError, match=r"in\.txt looks like JSON lines. Pass --input-format jsonl"):
        _read_all(path)
    with open_lines(str(path), InputFormat.TEXT) as lines:
        assert [record.text for record in lines] == ['{"text": "x"}']
    path.write_text('{not json\n{"text": "x"}\n')
    assert _read_all(path) == 2


def test_a_file_that_can_not_be_read_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.txt can't be read: No such file"), open_lines(str(tmp_path / "nowhere.txt")):
        pass
    with pytest.raises(InputError, match="can't be read: Is a directory"), open_lines(str(tmp_path)):
        pass


def _read_all(path: Path) -> int:
    with open_lines(str(path)) as lines:
        return sum(1 for _ in lines)


@pytest.mark.parametrize("damage", ["cut", "torn", "foreign"])
def test_a_damaged_gzip_file_is_an_input_error(tmp_path, damage):
    packed = gzip.compress("".join(f"line {number}\n" for number in range(100_000)).encode())
    middle = len(packed) // 2
    torn = packed[:middle] + bytes(100) + packed[middle + 100 :]
    path = tmp_path / "in.txt.gz"
    path.write_bytes({"cut": packed[:-2000], "torn": torn, "foreign": b"text\n"}[damage])
    with pytest.raises(InputError, match=r"in\.txt\.gz can't be read after line \d+"):
        _read_all(path)
