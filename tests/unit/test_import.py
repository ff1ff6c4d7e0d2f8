"""Importing the package is cheap, and its names are its own."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import qwen3_integrations

FRAMEWORKS = {
    *("langchain", "langchain_core", "llama_index", "vllm", "torch", "transformers", "ipywidgets", "openai", "pandas", "pydantic"),
    *("huggingface_hub", "modelscope", "modelscope_hub"),
}


@pytest.mark.parametrize("statement", ["import qwen3_integrations", "from qwen3_integrations import *"])
def test_no_framework_is_imported(statement):
    code = f"{statement}\nimport sys\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not set(loaded) & FRAMEWORKS
    assert ("numpy" in loaded) == ("*" in statement)


def test_public_names_are_sorted_and_there():
    names = qwen3_integrations.__all__
    constants = [name for name in names if name.isupper()]
    assert names == sorted(constants) + sorted(set(names) - set(constants))
    assert all(getattr(qwen3_integrations, name) is not None for name in names)
    assert set(names) <= set(dir(qwen3_integrations))
    with pytest.raises(AttributeError, match="no attribute 'Embeder'"):
        qwen3_integrations.Embeder  # noqa: B018


def test_only_two_modules_find_an_upper_layer_by_name():
    """Import-linter can't see `import_module`; the layers' contract in pyproject.toml names these two exceptions."""
    package = Path(qwen3_integrations.__file__).parent
    found = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "import_module":
                words = [part.value for part in ast.walk(node.args[0]) if isinstance(part, ast.Constant) and isinstance(part.value, str)]
                found |= {(str(path.relative_to(package)), word) for word in words if word.startswith("qwen3_integrations")}
    assert found == {("core/results.py", "qwen3_integrations.notebook"), ("serving/server.py", "qwen3_integrations.langchain")}
