"""Two rerankers side by side in a browser: `python examples/gradio_compare.py --right Qwen/Qwen3-Reranker-0.6B --right-url http://host:8001`.

Needs gradio (pip install 'qwen3-integrations[gradio]'). By default both are the bundled toy model; then compare two instructions.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # set before the import; otherwise gradio sends usage data

import gradio as gr

from qwen3_integrations import DEFAULT_INSTRUCTION, INSTRUCTIONS, Reranker, open_engine
from qwen3_integrations.analysis.metrics import kendall_tau

DOCUMENTS = "shutil.copyfile copies the contents of a file.\nos.remove deletes a file.\ncsv.reader reads the rows of a table."


def build(left: Reranker, right: Reranker) -> gr.Blocks:
    """The page. Its function ranks with both rerankers and shows how similar the orders are."""

    async def compare(query: str, documents: str, left_instruction: str, right_instruction: str) -> tuple[str, str, str]:
        texts = [line for line in documents.splitlines() if line.strip()]
        if not query.strip() or not texts:
            raise gr.Error("a query and at least one document are needed", print_exception=False)
        a = await left.arank(query, texts, instruction=left_instruction)
        b = await right.arank(query, texts, instruction=right_instruction)
        tau = kendall_tau([hit.index for hit in a], [hit.index for hit in b]) if len(texts) > 1 else 1.0
        return a._repr_html_(), b._repr_html_(), f"Kendall's tau of the two orders: **{tau:.2f}** (1: equal, -1: reversed)"

    with gr.Blocks(title="Two rerankers", analytics_enabled=False) as page:
        query = gr.Textbox("how do I copy a file", label="Query")
        documents = gr.Textbox(DOCUMENTS, label="Documents, one per line", lines=6)
        with gr.Row():
            instructions = [
                gr.Dropdown(list(INSTRUCTIONS.values()), value=DEFAULT_INSTRUCTION, allow_custom_value=True, label=f"Instruction, {where}")
                for where in ("left", "right")
            ]
        button = gr.Button("Rank", variant="primary")
        alike = gr.Markdown()
        with gr.Row():
            tables = [gr.HTML(label=reranker.engine.model) for reranker in (left, right)]
        gr.on([button.click, query.submit], compare, [query, documents, *instructions], [*tables, alike], api_name="compare")
    return page


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    for side in ("left", "right"):
        options.add_argument(f"--{side}", default="qwen3-tiny-demo", metavar="MODEL")
        options.add_argument(f"--{side}-url", metavar="URL", help="the address of its server; default: this machine")
    chosen = options.parse_args()
    engines = open_engine("rerank", chosen.left, base_url=chosen.left_url), open_engine("rerank", chosen.right, base_url=chosen.right_url)
    build(*map(Reranker, engines)).launch()


if __name__ == "__main__":
    main()
