"""The examples in docstrings run, on the bundled tiny pair."""

from __future__ import annotations

import doctest
import importlib

import pytest

MODULES = {
    "core.embedder": {"Embedder"},
    "core.reranker": {"Reranker"},
    "langchain": {"Qwen3Embeddings", "Qwen3Rerank"},
    "adapters.reranking_retriever": {"RerankingRetriever"},
    "llama_index": {"Qwen3Embedding", "Qwen3Rerank"},
}
"""Modules of public classes, and the classes that must have an example."""


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    module = importlib.import_module(f"qwen3_integrations.{name}")
    found = {test.name.rpartition(".")[2]: test for test in doctest.DocTestFinder(exclude_empty=False).find(module)}
    assert {cls for cls in MODULES[name] if not found[cls].examples} == set()
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for test in found.values():
        runner.run(test)
    assert runner.summarize(verbose=False) == doctest.TestResults(0, runner.tries)
