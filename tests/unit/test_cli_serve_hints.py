"""Flags of vLLM, SGLang and other programs: `serve` says what to write instead."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from qwen3_integrations.cli import app
from qwen3_integrations.serving.flag_hints import hint_for
from qwen3_integrations.serving.options import OPTIONS

TASK, MODEL = "not needed: the task is the first word", "not needed: the model is the word after the task"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("serve Qwen/Qwen3-Embedding-0.6B --task embed", TASK),
        ("serve embed --task embed", TASK),
        ("serve --task=embed Qwen/Qwen3-Embedding-0.6B", TASK),
        ("serve embed --model x", MODEL),
        ("serve embed --model-path x --engine sglang", MODEL),
        ("serve embed --model-id x", MODEL),
        ("serve embed --max-model-len 512", "Use --max-tokens"),
        ("serve embed --max_model_len=512", "Use --max-tokens"),
        ("serve embed --context-length 512", "Use --max-tokens"),
        ("serve embed --served-model-name x", "Use --name"),
        ("serve embed -tp 2", "Use --tensor-parallel-size"),
        ("serve embed --tp-size 2", "Use --tensor-parallel-size"),
        ("serve embed -q fp8", "Use --quantization"),
        ("serve embed --mem-fraction-static 0.5", "Use --gpu-memory-utilization"),
        ("serve embed --no-enable-prefix-caching", "Use --no-prefix-caching"),
        ("serve embed --enable-prefix-caching", "It is the default; --no-prefix-caching turns it off"),
        ("serve embed --disable-cuda-graph", "Use --enforce-eager"),
        ("serve embed --detach", "Use --keep-running"),
        ("serve embed --no-key", "Use --without-key"),
        ("serve embed --trust-remote-code", "It can't be given: Qwen3 models need no code"),
        ("serve embed --runner pooling", "It can't be given: the option task sets it"),
        ("serve rerank --hf-overrides {}", "It can't be given: prompts and scores depend on it"),
    ],
)
def test_a_flag_of_another_program_gets_a_hint(words, says):
    done = CliRunner().invoke(app, words.split())
    assert done.exit_code == 2
    assert "No such option: -" in done.stderr
    assert says in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


@pytest.mark.vllm
@pytest.mark.parametrize("flag", ["--seed", "--block-size", "--no-enable-chunked-prefill"])
def test_other_flags_of_the_installed_program_are_written_behind_two_hyphens(flag):
    done = CliRunner().invoke(app, ["serve", "embed", flag])
    assert f"It is a flag of vLLM: write it behind --, as in: serve embed MODEL -- {flag}" in " ".join(done.stderr.split())


@pytest.mark.parametrize(("flag", "says"), [("--max-token", "--max-tokens"), ("--nothing-like-it", "--nothing-like-it")])
def test_other_words_are_refused_as_by_every_command(flag, says):
    done = CliRunner().invoke(app, ["serve", "embed", flag])
    assert done.exit_code == 2
    assert says in done.stderr


def test_every_flag_of_an_option_leads_to_it():
    for option in OPTIONS:
        for spellings in option.flags.values():
            for spelling in spellings:
                hint = hint_for(spelling if spelling.startswith("-") else f"--{spelling}")
                assert option.name in ("task", "model") or option.cli in hint, (spelling, hint)


def test_the_magic_gives_the_hint_too():
    from IPython.core.error import UsageError
    from IPython.core.interactiveshell import InteractiveShell

    from qwen3_integrations.notebook.magics import Qwen3Magics

    shell = InteractiveShell.instance()
    shell.register_magics(Qwen3Magics)
    with pytest.raises(UsageError, match="--max-model-len: Use --max-tokens"):
        shell.run_line_magic("qwen3_serve", "embed --max-model-len 512")
