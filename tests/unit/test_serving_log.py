"""Reading a log: lines of vLLM 0.24, vLLM 0.32 and SGLang 0.5."""

from __future__ import annotations

import pytest

from qwen3_integrations.serving.log import LogReader, first_error, message_of, phase_of, tail_of


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("(Worker pid=1) INFO 11-25 13:14:51 [cpu_model_runner.py:68] Starting to load model /m...", ("loading", None)),
        ("Loading safetensors checkpoint shards:  50% Completed | 1/2 [00:01<00:01,  1.2s/it]", ("loading", 0.5)),
        ("(EngineCore pid=1) INFO 06-01 10:00:00 [backends.py:1] Dynamo bytecode transform time: 5.06 s", ("compiling", None)),
        ("(EngineCore pid=1) INFO 06-01 10:00:00 [monitor.py:1] torch.compile takes 28.05 s in total", ("compiling", None)),
        ("Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):  67%|######7   | 34/51 [00:01<00:00]", ("capturing", 0.67)),
        ("(APIServer pid=1) INFO 11-25 13:14:53 [entry.py:140] Starting vLLM server on http://127.0.0.1:1", ("answering", None)),
        ("INFO:     Application startup complete.", ("answering", None)),
        ("[2025-12-01 10:00:00 TP0] Load weight begin. avail mem=78.5 GB", ("loading", None)),
        ("INFO loading /models/qwen3", ("loading", None)),
        ("INFO listening at 127.0.0.1:8000", None),
        ("INFO ready", ("answering", None)),
        ("[2025-12-01 10:00:00] The server is fired up and ready to roll!", ("answering", None)),
        ("(APIServer pid=1) WARNING 11-25 13:14:35 [vllm.py:1703] Enforce eager set, disabling torch.compile, CUDAGraphs", None),
        ("(APIServer pid=1) INFO 11-25 13:14:35 [model.py:2152] Using max model len 1024", None),
    ],
)
def test_phases(line, seen):
    assert phase_of(line) == seen


def test_the_prefix_of_a_log_line_is_removed():
    assert message_of("(EngineCore pid=12) ERROR 11-25 13:14:35 [core.py:1] ValueError: no") == "ValueError: no"
    assert message_of("[2025-12-01 10:00:00 DP1 TP0] Scheduler hit an exception") == "Scheduler hit an exception"
    assert message_of("    raise ValueError(x)") == "raise ValueError(x)"


FAILED = """\
(APIServer pid=1) INFO 11-25 13:14:35 [model.py:2152] Using max model len 1024
(EngineCore pid=2) ERROR 11-25 13:14:43 [core.py:900] EngineCore failed to start.
(EngineCore pid=2) ERROR 11-25 13:14:43 [core.py:900] Traceback (most recent call last):
(EngineCore pid=2) ERROR 11-25 13:14:43 [core.py:900]   File "core.py", line 1, in run
(EngineCore pid=2) ERROR 11-25 13:14:43 [core.py:900]     raise ValueError(
(EngineCore pid=2) ERROR 11-25 13:14:43 [core.py:900] ValueError: To serve at least one request, 2 GiB are needed
(APIServer pid=1) Traceback (most recent call last):
(APIServer pid=1)   File "api_server.py", line 1, in <module>
(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""


@pytest.mark.parametrize(
    ("log", "error"),
    [
        (FAILED, "ValueError: To serve at least one request, 2 GiB are needed"),
        (
            "usage: api_server.py [-h]\napi_server.py: error: argument --port: invalid int value: 'x'\n",
            "argument --port: invalid int value: 'x'",
        ),
        (
            "INFO loading /m\nERROR /m is quantised, which the torch engine does not support\n",
            "/m is quantised, which the torch engine does not support",
        ),
        ("Usage: python -m qwen3_integrations.server [OPTIONS]\n\nError: No such option: --seed\n", "No such option: --seed"),
        ("error: there is no key. Set QWEN3_API_KEY\n", "there is no key. Set QWEN3_API_KEY"),
        ("(Worker pid=3) ERROR 11-25 13:14:43 [x.py:1] no disk space\nINFO more\n", "no disk space"),
        (
            "a\ntorch.OutOfMemoryError: CUDA out of memory. Tried\nRuntimeError: later\n",
            "torch.OutOfMemoryError: CUDA out of memory. Tried",
        ),
        (FAILED[: FAILED.index("    raise")], None),
        ("OSError: [Errno 98] Address already in use\n", "OSError: [Errno 98] Address already in use"),
        ("all is well\n(APIServer pid=1) INFO 11-25 13:14:35 [x.py:2] ErrorHandler: installed\n", None),
    ],
)
def test_the_first_error_is_found(log, error):
    assert first_error(log.splitlines()) == error


def test_a_growing_log_is_read_in_whole_lines(tmp_path):
    path = tmp_path / "log"
    reader = LogReader(path)
    assert reader.lines() == []
    path.write_bytes(b"one\ntw")
    assert reader.lines() == ["one"]
    with path.open("ab") as file:
        file.write("o\r\n 10%\r 20%\r\n\nhalf a ü".encode()[:-1])
    assert reader.lines() == ["two", " 10%", " 20%"]
    with path.open("ab") as file:
        file.write("ü\n".encode()[1:])
    assert reader.lines() == ["half a ü"]


def test_the_tail_of_a_long_log(tmp_path):
    path = tmp_path / "log"
    path.write_text("".join(f"line {number}\n" for number in range(10_000)))
    assert tail_of(path, 3) == ["line 9997", "line 9998", "line 9999"]
    assert tail_of(path, 0) == []
    assert tail_of(tmp_path / "none", 3) == []


INVALID_FIELD = """\
(APIServer pid=1) Traceback (most recent call last):
(APIServer pid=1)   File "api_server.py", line 1, in <module>
(APIServer pid=1) pydantic_core._pydantic_core.ValidationError: 1 validation error for VllmConfig
(APIServer pid=1) scheduler_config.max_num_seqs
(APIServer pid=1)   Input should be greater than or equal to 1 [type=greater_than_equal, input_value=0, input_type=int]
(APIServer pid=1)     For further information visit https://errors.pydantic.dev/2.12/v/greater_than_equal
"""
INVALID_WHOLE = """\
pydantic_core._pydantic_core.ValidationError: 1 validation error for VllmConfig
  Value error, max_num_batched_tokens (16) is smaller than max_model_len (512). This effectively limits
the maximum sequence length [type=value_error, input_value=ArgsKwargs((), {}), input_type=ArgsKwargs]
    For further information visit https://errors.pydantic.dev/2.12/v/value_error
"""
LISTED = """\
(EngineCore pid=2) ERROR 11-25 13:14:43 [core.py:900] ValueError: Couldn't instantiate the backend tokenizer from one of:
(EngineCore pid=2) (1) a `tokenizers` library serialization file,
(EngineCore pid=2) (2) a slow tokenizer class. You need sentencepiece or tiktoken.
(APIServer pid=1) INFO 11-25 13:14:43 [x.py:1] more
"""


@pytest.mark.parametrize(
    ("log", "error"),
    [
        (INVALID_FIELD, "ValidationError: VllmConfig: scheduler_config.max_num_seqs: Input should be greater than or equal to 1"),
        (
            INVALID_WHOLE,
            (
                "ValidationError: VllmConfig: max_num_batched_tokens (16) is smaller than max_model_len (512). This effectively limits the "
                "maximum sequence length"
            ),
        ),
        (INVALID_FIELD.partition("scheduler")[0] + "\n", "pydantic_core._pydantic_core.ValidationError: 1 validation error for VllmConfig"),
        (
            LISTED,
            (
                "ValueError: Couldn't instantiate the backend tokenizer from one of: (1) a `tokenizers` library serialization file, "
                "(2) a slow tokenizer class. You need sentencepiece or tiktoken."
            ),
        ),
        ("ValueError: none of:\nTraceback (most recent call last):\n", "ValueError: none of:"),
        ("x.py: error: the following are needed:\n  --model\n", "the following are needed: --model"),
    ],
)
def test_a_line_that_announces_the_reason_is_joined_with_it(log, error):
    assert first_error(log.splitlines()) == error


@pytest.mark.parametrize(
    "written",
    [
        "\x1b[1;31mValueError\x1b[0m: \x1b[38;5;9mno\x1b[m",
        "\x1b[35mValueError\x1b[39m\x1b[K: no\x1b[0K",
        "\x1b]8;;http://x\x1b\\ValueError\x1b]8;;\x07: no",
        "\x1b[2J\x1b(B\x1b[?25lValueError: \x1b7no\x1b[?25h\x1b8\x1bM",
        "\x9b31mValueError: no\x9bm",
    ],
)
def test_escape_sequences_are_stripped(written, tmp_path):
    path = tmp_path / "log"
    path.write_text(f"\x1b[32mINFO\x1b[0m fine\n{written}\n")
    lines = LogReader(path).lines()
    assert lines == tail_of(path, 2) == ["INFO fine", "ValueError: no"]
    assert first_error(lines) == "ValueError: no"


def test_an_escape_sequence_without_an_end_hides_nothing(tmp_path):
    path = tmp_path / "log"
    path.write_text("\x1b]0;title ValueError: no\n\x1b[12\n")
    assert LogReader(path).lines() == [r"\x1b]0;title ValueError: no", r"\x1b[12"]
