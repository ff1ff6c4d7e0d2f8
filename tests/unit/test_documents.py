"""The code of README, docs and notebooks runs: every Python block, and every notebook from top to bottom. Links lead somewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [
    pytest.param(code, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, code in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL))
]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def with_the_toy(code: str) -> str:
    """The same code with the bundled models, and addresses that nobody asks before the first text."""
    small = 'ServerOptions(model="qwen3-tiny-demo", engine="vllm", dtype="float32", max_tokens=1024, enforce_eager=True, '
    code = code.replace("ServerOptions(task", f"{small}task")
    return re.sub(r"(Qwen3Embeddings?|Qwen3Rerank)\((?!model|engine)", r'\1(model="qwen3-tiny-demo", ', code)


@pytest.mark.parametrize("block", BLOCKS)
def test_the_code_of_a_page_runs(block, tmp_path, monkeypatch):
    monkeypatch.setenv("QWEN3_SERVERS_DIR", str(tmp_path))
    names = {}
    exec(with_the_toy(block), names)
    assert len(names) > 2


def test_the_readme_has_code_for_both_frameworks():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "from qwen3_integrations.langchain" in readme
    assert "from qwen3_integrations.llama_index" in readme


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_lines_are_short_and_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if len(line) > 160 and not line.startswith("|")] == []
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert [link for link in links if link and not (page.parent / link).exists()] == []


SHOWN = {
    "01_quickstart": ("<table>", "RankInspector(", "EmbeddingExplorer(", "Ranking('how do I copy a file', 2 of 3 documents"),
    "02_langchain_rag": ("(the fake model's words)", "Question: How do I copy a file?", "Qwen3Rerank", "RankInspector("),
    "03_llamaindex_query_engine": ("Given the context information", "retrieved with 0.", "Qwen3Embedding", "RankInspector("),
    "04_servers": ("needs 1.", "Launched(server=Server('rerank-qwen3-tiny-demo", "ServerPanel(", "'stopped'"),
    "05_instructions_and_dimensions": ("nDCG@10", "something else", "bytes a text", "EmbeddingExplorer(24 texts"),
}
"""What a reader sees in each notebook's outputs, among other things."""

WIDGET = "application/vnd.jupyter.widget-view+json"


def outputs_of(notebook):
    return [output for cell in notebook["cells"] for output in cell.get("outputs", ())]


def run_notebook(path, tmp_path, monkeypatch, first=""):
    """The notebook with its outputs, run in the repository's root; `first` runs before it."""
    monkeypatch.setenv("QWEN3_SERVERS_DIR", str(tmp_path))
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[:0] = [nbformat.v4.new_code_cell(first)] if first else []
    NotebookClient(notebook, timeout=400, resources={"metadata": {"path": str(ROOT)}}).execute()
    return notebook


def params(path):
    server = [pytest.mark.server, pytest.mark.vllm, pytest.mark.timeout(1200)] if path.stem == "04_servers" else []
    return pytest.param(path, id=path.stem, marks=server)


def test_every_notebook_is_known():
    assert [path.stem for path in NOTEBOOKS] == sorted(SHOWN)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # the kernel's own libraries
@pytest.mark.parametrize("path", [params(path) for path in NOTEBOOKS])
def test_a_notebook_runs_top_to_bottom(path, tmp_path, monkeypatch):
    notebook = run_notebook(path, tmp_path, monkeypatch)
    outputs = json.dumps(outputs_of(notebook), ensure_ascii=False)
    for words in SHOWN[path.stem]:
        assert words in outputs, words
    widgets = [output["data"] for output in outputs_of(notebook) if WIDGET in output.get("data", {})]
    ours = [data for data in widgets if re.search("RankInspector|ServerPanel|EmbeddingExplorer", data["text/plain"])]
    assert ours
    assert all("<table" in data["text/html"] for data in ours)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_without_vllm_the_notebook_on_servers_says_so_and_goes_on(tmp_path, monkeypatch):
    """Where vLLM is missing, `installed` says no; here it is told to."""
    told = "import qwen3_integrations.core.extras as extras\nasked = extras.installed\n"
    told += "extras.installed = lambda module: module != 'vllm' and asked(module)"
    notebook = run_notebook(ROOT / "notebooks" / "04_servers.ipynb", tmp_path, monkeypatch, told)
    outputs = json.dumps(outputs_of(notebook))
    assert "vLLM is not installed, so no server is started here." in outputs
    assert "Ranking('How do I copy a file?', 3 of 3 documents" in outputs
    assert "there was none" in outputs


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_committed_notebook_holds_outputs_and_no_widget_state(path):
    content = json.loads(path.read_text())
    assert "widgets" not in content["metadata"]
    outputs = outputs_of(content)
    shown = json.dumps(outputs, ensure_ascii=False)
    assert all(words in shown for words in SHOWN[path.stem])
    assert not any(WIDGET in output.get("data", {}) for output in outputs)  # nothing could draw it: the static form is there instead
    assert {output["output_type"] for output in outputs} <= {"execute_result", "display_data", "stream"}
    assert str(ROOT) not in path.read_text()
    assert [cell["execution_count"] for cell in content["cells"] if cell["cell_type"] == "code"] == list(
        range(1, 1 + sum(cell["cell_type"] == "code" for cell in content["cells"]))
    )
