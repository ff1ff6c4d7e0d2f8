"""Run the notebooks top to bottom and keep their outputs, without widget state: `python examples/run_notebooks.py`."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent


def is_progress(output: nbformat.NotebookNode) -> bool:
    """A progress bar, drawn as text or as a widget."""
    return output.get("name") == "stderr" or "application/vnd.jupyter.widget-view+json" in output.get("data", {})


def main() -> None:
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(ROOT)}}).execute()
        notebook.metadata.pop("widgets", None)  # state breaks rendering on code hosts
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)
            if cell.cell_type == "code":  # progress bars say nothing once they are over
                cell.outputs = [output for output in cell.outputs if not is_progress(output)]
        nbformat.write(notebook, path)


if __name__ == "__main__":
    main()
