"""An option of a server is declared once; the command line, the form and argv are made from the declaration."""

from __future__ import annotations

import filecmp
import inspect
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import qwen3_integrations
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.checkpoint import read_model
from qwen3_integrations.serving import ServerOptions
from qwen3_integrations.serving.command import build_command
from qwen3_integrations.serving.installed import Installed
from qwen3_integrations.serving.option_fields import option, options_of
from qwen3_integrations.serving.options import OPTIONS
from tests.models import TINY

PACKAGE = Path(qwen3_integrations.__file__).parent
NEW = '    block_size: int | None = _memory(None, help="Tokens in a block of the cache.", empty="16", vllm="block-size")\n'
PLACES = """
import contextlib, io, json, sys
from typer.testing import CliRunner
from qwen3_integrations.cli import app
from qwen3_integrations.models.checkpoint import read_model
from qwen3_integrations.models.hub import find_model
from qwen3_integrations.notebook.panel_form import changed, described, form_of, read_form
from qwen3_integrations.serving import ServerOptions
from qwen3_integrations.serving.command import build_command
from qwen3_integrations.serving.installed import Installed

options = ServerOptions(task="embed", model="qwen3-tiny-demo", block_size=32)
files = read_model(find_model("qwen3-tiny-demo", "embed", source="auto", revision=None), "embed")
vllm, sglang = (Installed(name, "1.0", name, "python3", frozenset()) for name in ("vllm", "sglang"))

def refusal(work):
    try:
        work()
    except Exception as error:
        return str(error)

run = lambda *words: CliRunner().invoke(app, ["serve", *words], env={"COLUMNS": "200"}).output
argv = lambda installed, **more: build_command(ServerOptions(**dict(task="embed", **more)), files, installed, port=1, api_key=None).argv
print(json.dumps({
    "help": run("--help"),
    "dry run": run("embed", "qwen3-tiny-demo", "--block-size", "32", "--dry-run"),
    "cli refuses": run("embed", "--block-size", "0"),
    "argv": argv(vllm, block_size=32),
    "argv at the default": argv(vllm),
    "another engine": refusal(lambda: argv(sglang, engine="sglang", block_size=32)),
    "extra flag": refusal(lambda: argv(vllm, extra_args=("--block-size=32",))),
    "field": next(each for each in described() if each["name"] == "block_size"),
    "form": form_of(options)["block_size"],
    "read": read_form(changed(form_of(options), "block_size", "64"), {})[0].block_size,
    "wrong": {name: str(error) for name, error in read_form(changed(form_of(options), "block_size", "many"), {})[1].items()},
    "words": options.to_words(),
    "record": options.to_dict()["block_size"],
    "documented": "block_size: Tokens in a block" in ServerOptions.__doc__,
}))
"""


def copy_of_the_package(folder: Path) -> Path:
    """A copy whose large files are links."""
    copy = folder / "qwen3_integrations"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("tiny", "__pycache__"))
    (copy / "tiny").symlink_to(PACKAGE / "tiny")
    return copy


def changed_files(copy: Path) -> list[str]:
    names = [str(path.relative_to(copy)) for path in copy.rglob("*.py")]
    return [name for name in names if not filecmp.cmp(copy / name, PACKAGE / name, shallow=False)]


@pytest.mark.vllm
def test_a_new_option_is_one_line_in_one_file(tmp_path):
    copy = copy_of_the_package(tmp_path)
    path = copy / "serving" / "options.py"
    text = path.read_text()
    path.write_text(text.replace("    quantization: str", f"{NEW}    quantization: str", 1))
    assert changed_files(copy) == ["serving/options.py"]
    assert len(path.read_text().splitlines()) == len(text.splitlines()) + 1
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", PLACES], capture_output=True, text=True, check=False, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert "--block-size" in seen["help"]
    assert "Tokens in a block of the cache." in seen["help"]
    assert "--block-size 32" in seen["dry run"]
    assert "greater than or equal to 1" in seen["cli refuses"]
    assert seen["argv"][seen["argv"].index("--block-size") + 1] == "32"
    assert "--block-size" not in seen["argv at the default"]
    assert seen["another engine"] == "block_size has no equivalent in SGLang. Leave it out, or use engine='vllm'"
    assert seen["extra flag"] == "extra_args can't contain --block-size: use the option block_size"
    assert seen["field"] == {
        "name": "block_size",
        "label": "Block size",
        "kind": "number",
        "group": "Memory",
        "help": "Tokens in a block of the cache.",
        "choices": [],
        "default": "",
        "empty": "16",
    }
    assert (seen["form"], seen["read"], seen["record"], seen["documented"]) == ("32", 64, 32, True)
    assert seen["wrong"] == {"block_size": "block_size must be a whole number of at least 1, or None, not 'many'"}
    assert seen["words"] == ["qwen3-integrations", "serve", "embed", "qwen3-tiny-demo", "--block-size", "32"]


def test_every_option_is_declared_and_explained():
    assert [each.name for each in OPTIONS] == list(inspect.signature(ServerOptions).parameters)
    assert all(each.help.strip() for each in OPTIONS)
    assert all(each.empty for each in OPTIONS if each.default is None and each.name not in ("task", "env"))
    assert {engine for each in OPTIONS for engine in each.flags} <= {"vllm", "sglang", "torch"}


def test_the_flags_of_a_third_engine_have_their_column():
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Own:
        width: int = option(8, help="A width.", torch="rows", vllm=("width", "-w"))
        share: bool = option(True, help="A switch.", torch="no-share")

    width, share = options_of(Own)
    assert (width.flag("torch"), width.flag("vllm"), width.flag("sglang")) == ("rows", "width", None)
    assert (share.kind, share.flag("torch"), share.flag("vllm")) == ("switch", "no_share", None)


@pytest.mark.parametrize("flag", sorted({flag for each in OPTIONS for flags in each.flags.values() for flag in flags}))
def test_the_flag_of_an_option_is_no_extra_flag(flag):
    word = flag if flag.startswith("-") else f"--{flag}"
    options = ServerOptions(task="embed", model="m", extra_args=(word,))
    with pytest.raises(ConfigError, match=r"extra_args can't contain --[\w-]+: use the option \w+"):
        build_command(
            options,
            read_model(TINY / "embedding", "embed"),
            Installed("vllm", "1", "vllm", "python3", frozenset()),
            port=1,
            api_key=None,
        )


def test_the_command_line_and_the_options_agree(monkeypatch):
    """What `to_words` prints is read back as the same options."""
    from typer.testing import CliRunner

    from qwen3_integrations import serving
    from qwen3_integrations.cli import app

    seen = []
    monkeypatch.setattr(serving, "prepare", lambda options, _: seen.append(options) or (_ for _ in ()).throw(ConfigError("enough")))
    for options in (
        ServerOptions(task="embed", without_key=True),
        ServerOptions(task="rerank", model="qwen3-tiny-demo", engine="sglang", port=8001, prefix_caching=False, enforce_eager=True),
        ServerOptions(task="embed", gpu_memory_utilization=0.5, served_name="n", dtype="float32", api_server_count=2),
        ServerOptions(task="embed", uds="/run/a.sock", python="py", revision="v1", source="huggingface", extra_args=("--seed", "1")),
    ):
        words = list(options.to_words()[1:])
        at = words.index("--") if "--" in words else len(words)
        CliRunner().invoke(app, [*words[:at], "--dry-run", *words[at:]])
        assert seen.pop() == options
