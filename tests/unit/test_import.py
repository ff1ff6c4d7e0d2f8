"""Importing the package is cheap, and its names are its own."""

from __future__ import annotations

import subprocess
import sys

import qwen3_integrations

FRAMEWORKS = (
    "langchain",
    "langchain_core",
    "llama_index",
    "vllm",
    "torch",
    "transformers",
    "ipywidgets",
    "openai",
    "pandas",
    "huggingface_hub",
)


def test_no_framework_is_imported():
    code = "import sys, qwen3_integrations; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not set(loaded) & set(FRAMEWORKS)


def test_public_names_are_sorted_and_there():
    names = qwen3_integrations.__all__
    constants = [name for name in names if name.isupper()]
    assert names == sorted(constants) + sorted(set(names) - set(constants))
    assert all(hasattr(qwen3_integrations, name) for name in names)
