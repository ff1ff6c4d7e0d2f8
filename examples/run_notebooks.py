"""Run the notebooks top to bottom and keep their outputs, without widgets' state: `python examples/run_notebooks.py [NAME ...]`."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
WIDGET = "application/vnd.jupyter.widget-view+json"


def is_passing(output: nbformat.NotebookNode) -> bool:
    """Whether an output is a progress bar or a log, which is of no use after the run."""
    return output.get("name") == "stderr" or (WIDGET in output.get("data", {}) and "text/html" not in output.data)


def executed(path: Path) -> nbformat.NotebookNode:
    """A notebook with its outputs. Only the static form of a widget is kept, because code hosts can't show its state."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, store_widget_state=False, resources={"metadata": {"path": str(ROOT)}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not is_passing(output)]
            for output in cell.outputs:
                output.get("data", {}).pop(WIDGET, None)
    return notebook


def main() -> None:
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        if not sys.argv[1:] or any(name in path.stem for name in sys.argv[1:]):
            nbformat.write(executed(path), path)


if __name__ == "__main__":
    main()
