"""Ready-made code for a server's clients. The key is never in it: it is read from QWEN3_API_KEY."""

from __future__ import annotations

import json
from collections.abc import Mapping

from qwen3_integrations.core.types import Task
from qwen3_integrations.engines.registry import KEY_VARIABLE

SAMPLES = ("What is the capital of China?", "The capital of China is Beijing.")


def snippets(task: Task, model: str, url: str, *, has_key: bool) -> dict[str, str]:
    """Code by client: `curl`, `openai` (embeddings alone), `langchain`, `llama_index`.

    Args:
        task: `embed` or `rerank`.
        model: The name under which it is served.
        url: The server's address; of a Unix socket, `unix:///path`.
        has_key: Whether the server wants a key.
    """
    made = {"curl": _curl(task, model, url, has_key=has_key)}
    if task == "embed":
        made["openai"] = _openai(model, url, has_key=has_key)
    return made | _components(task, model, url, has_key=has_key)


def _curl(task: Task, model: str, url: str, *, has_key: bool) -> str:
    root, socket = ("http://localhost", f" --unix-socket {url.removeprefix('unix://')}") if url.startswith("unix://") else (url, "")
    key = f' -H "Authorization: Bearer ${KEY_VARIABLE}"' if has_key else ""
    bodies: Mapping[Task, Mapping[str, object]] = {
        "embed": {"model": model, "input": [SAMPLES[1]]},
        "rerank": {"model": model, "query": SAMPLES[0], "documents": [SAMPLES[1]]},
    }
    path = {"embed": "/v1/embeddings", "rerank": "/v1/rerank"}[task]
    return f"curl{socket} {root}{path}{key} -H 'Content-Type: application/json' \\\n  -d '{json.dumps(bodies[task])}'"


def _openai(model: str, url: str, *, has_key: bool) -> str:
    key = f'os.environ["{KEY_VARIABLE}"]' if has_key else '"none"'
    if url.startswith("unix://"):
        client = (
            f'OpenAI(base_url="http://localhost/v1", api_key={key},\n'
            f'    http_client=DefaultHttpxClient(transport=httpx.HTTPTransport(uds="{url.removeprefix("unix://")}")))'
        )
        imports = "import httpx\nfrom openai import DefaultHttpxClient, OpenAI"
    else:
        client, imports = f'OpenAI(base_url="{url}/v1", api_key={key})', "from openai import OpenAI"
    return (
        ("import os\n" if has_key else "") + f"{imports}\n\nclient = {client}\n"
        '# a query goes behind its instruction: f"Instruct: {instruction}\\nQuery:{query}"; a document as it is\n'
        f'answer = client.embeddings.create(model="{model}", input=["{SAMPLES[1]}"])\n'
        "vector = answer.data[0].embedding"
    )


def _components(task: Task, model: str, url: str, *, has_key: bool) -> dict[str, str]:
    key = f"  # the key: {KEY_VARIABLE}" if has_key else ""
    words = f'model="{model}", base_url="{url}"'
    if task == "embed":
        return {
            "langchain": f"from qwen3_integrations.langchain import Qwen3Embeddings\n\nembeddings = Qwen3Embeddings({words}){key}",
            "llama_index": f"from qwen3_integrations.llama_index import Qwen3Embedding\n\nembed_model = Qwen3Embedding({words}){key}",
        }
    return {
        "langchain": f"from qwen3_integrations.langchain import Qwen3Rerank\n\nreranker = Qwen3Rerank({words}, top_n=5){key}",
        "llama_index": f"from qwen3_integrations.llama_index import Qwen3Rerank\n\nreranker = Qwen3Rerank({words}, top_n=5){key}",
    }
