"""What the README and the notebooks show is run: every Python block, and every notebook top to bottom."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent.parent
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def with_the_toy(code: str) -> str:
    """The same code with the bundled models, and addresses that nobody asks before the first text."""
    return re.sub(r"(Qwen3Embeddings?|Qwen3Rerank)\((?!model)", r'\1(model="qwen3-tiny-demo", ', code)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda code: code.strip().splitlines()[0][:50])
def test_the_readmes_code_runs(block):
    names = {}
    if "Qwen3Embeddings" in block and "import" not in block:
        exec("from qwen3_integrations.langchain import Qwen3Embeddings, Qwen3Rerank", names)
    if "llama_index" in block:
        from llama_index.core import Settings
        from llama_index.core.llms import MockLLM

        Settings.llm = MockLLM()
    exec(with_the_toy(block), names)
    assert len(names) > 2


def test_the_readme_has_code_for_both_frameworks():
    assert any("qwen3_integrations.langchain" in block for block in BLOCKS)
    assert any("qwen3_integrations.llama_index" in block for block in BLOCKS)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # the kernel's own libraries
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_top_to_bottom(path):
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(ROOT)}}).execute()
    shown = json.dumps(notebook)
    assert "probability" in shown
    assert "<table>" in shown


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_committed_notebook_holds_outputs_and_no_widget_state(path):
    content = json.loads(path.read_text())
    assert "widgets" not in content["metadata"]
    assert any(cell.get("outputs") for cell in content["cells"])
