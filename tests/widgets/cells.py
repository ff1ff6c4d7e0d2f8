"""The cells of the notebook that shows every widget in every host."""

from __future__ import annotations

SETUP = """
import numpy as np
from qwen3_integrations import Embedder, FakeEngine, Reranker
from qwen3_integrations.notebook import EmbeddingExplorer, RankInspector, ServerPanel
words = "copy remove rename a file of the disk weather north wind sort list return new number csv reads".split()
rng = np.random.default_rng(0)
documents = [" ".join(rng.choice(words, rng.integers(3, 40))) for _ in range(24)]
documents[3] = "A long text. " * 90
reranker = Reranker(FakeEngine("rerank"))
other = reranker.rank("copy a file", documents, instruction="Find texts about the weather, please, and nothing else")
"""
INSPECTOR = """
inspector = RankInspector(reranker, "copy a file", documents, threshold=0.4)
inspector
"""
ALONE = """
alone = Reranker(FakeEngine("rerank")).rank("copy a file", documents[:12]).inspect(labels={0: 1, 1: 0, 2: 2})
alone
"""
"""Its reranker is gone, and few of its documents are judged."""

EXPLORER = """
topics = ["file management", "weather in the north", "lists"]
labels = [topics[i % 3] for i in range(26)]
explorer = EmbeddingExplorer(Embedder(FakeEngine("embed")), documents + documents[:2], labels=labels, query="copy a file")
explorer.wait()
explorer
"""
PANEL = """
panel = ServerPanel(task="embed", model="qwen3-tiny-demo", engine="vllm", dtype="float32", max_tokens=1024)
panel
"""
READY = """
panel = ServerPanel(task="embed", model="qwen3-tiny-demo", engine="vllm", dtype="float32", max_tokens=1024)
panel.info = {"name": "qwen3-embed-1", "task": "embed", "model": "qwen3-tiny-demo", "program": "vLLM",
    "url": "http://127.0.0.1:8001", "address": "http://127.0.0.1:8001/v1", "key": "known", "keep_running": False, "owned": True,
    "command": "vllm serve", "cli": "qwen3-integrations serve",
    "snippets": {"curl": "curl http://127.0.0.1:8001/v1/embeddings", "openai": "client = OpenAI()", "langchain": "x", "llama_index": "y"}}
panel.load = {"healthy": True, "running": 12, "waiting": 103, "requests": 1234567, "tokens": 10, "rates": [1.0, 45678.0, 123456.0],
    "up": "3 h 20 min", "pid": 1, "owner_pid": 2}
panel.tail = {"first": 0, "lines": ["INFO one", "WARNING two"], "path": "/home/someone/.local/state/qwen3/qwen3-embed-1.log"}
panel.state = "ready"
panel
"""
"""A panel as it is with a ready server, without one."""

CELLS = [SETUP, INSPECTOR, ALONE, EXPLORER, PANEL, READY]
