"""Importing the package is cheap, and its names are its own."""

from __future__ import annotations

import subprocess
import sys

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
