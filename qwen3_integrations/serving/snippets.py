"""Ready-made code for a server's clients. The key is never in it: it is read from QWEN3_API_KEY."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path

from qwen3_integrations.core.prompts import MODEL_CARD, TextConventions
from qwen3_integrations.core.types import Task
from qwen3_integrations.engines.http.address import UNIX
from qwen3_integrations.engines.secrets import KEY_VARIABLE

SAMPLES = ("What is the capital of China?", "The capital of China is Beijing.")


def snippets(
    task: Task, model: str, url: str, *, has_key: bool, conventions: TextConventions = MODEL_CARD, folder: Path | None = None
) -> dict[str, str]:
    """Code by client: `curl`, `openai` (only for embeddings), `langchain`, `llama_index`.

    Args:
        task: `embed` or `rerank`.
        model: The model's name for clients.
        url: The server's address; for a Unix socket `unix:///path`.
        has_key: Whether clients must send a key.
        conventions: What the model's folder declares about its texts.
        folder: The model's folder, which tells this package's clients the prompts; None where it is not known, or not needed.
    """
    before = conventions.before_document
    made = {"curl": _curl(task, model, url, before, has_key=has_key)}
    if task == "embed":
        made["openai"] = _openai(model, url, conventions, has_key=has_key)
    return made | _components(task, model, url, folder, has_key=has_key)


def _curl(task: Task, model: str, url: str, before: str, *, has_key: bool) -> str:
    path = _socket_path(url)
    root, socket = (url, "") if path is None else ("http://localhost", f" --unix-socket {shlex.quote(path)}")
    key = f' -H "Authorization: Bearer ${KEY_VARIABLE}"' if has_key else ""
    bodies: Mapping[Task, Mapping[str, object]] = {
        "embed": {"model": model, "input": [before + SAMPLES[1]]},
        "rerank": {"model": model, "query": SAMPLES[0], "documents": [SAMPLES[1]]},
    }
    route = {"embed": "/v1/embeddings", "rerank": "/v1/rerank"}[task]
    body = shlex.quote(json.dumps(bodies[task]))
    return f"curl{socket} {shlex.quote(root + route)}{key} -H 'Content-Type: application/json' \\\n  -d {body}"


def _openai(model: str, url: str, conventions: TextConventions, *, has_key: bool) -> str:
    key = f'os.environ["{KEY_VARIABLE}"]' if has_key else '"none"'
    path = _socket_path(url)
    if path is None:
        imports, client = "from openai import OpenAI", f"OpenAI(base_url={_literal(f'{url}/v1')}, api_key={key})"
    else:
        imports = _SOCKET_IMPORTS
        client = (
            f'OpenAI(base_url="http://localhost/v1", api_key={key},\n'
            f"    http_client=DefaultHttpxClient(transport=httpx.HTTPTransport(uds={_literal(path)})))"
        )
    return (
        ("import os\n" if has_key else "") + f"{imports}\n\nclient = {client}\n"
        f"{_texts(conventions)}\n"
        f"answer = client.embeddings.create(model={_literal(model)}, input=[{_literal(conventions.before_document + SAMPLES[1])}])\n"
        "vector = answer.data[0].embedding"
    )


def _texts(conventions: TextConventions) -> str:
    """A comment: how texts are sent."""
    if conventions.facts is None:
        return '# a query is sent with its instruction: f"Instruct: {instruction}\\nQuery:{query}"; a document is sent unchanged'
    query, document = (_literal(text) for text in (conventions.before_query(), conventions.before_document))
    return f"# a query is sent as {query} + query, a document as {document} + document"


_SOCKET_IMPORTS = """import openai
from openai import DefaultHttpxClient, OpenAI

if openai.__version__.startswith("2."):
    import httpx
else:  # since version 3, openai is built on httpx2
    import httpx2 as httpx"""
"""The transport must be of the library that the client uses; with the other one, openai raises an AssertionError without a message."""


def _components(task: Task, model: str, url: str, folder: Path | None, *, has_key: bool) -> dict[str, str]:
    key = f"  # the key: {KEY_VARIABLE}" if has_key else ""
    words = f"model={_literal(model)}, base_url={_literal(url)}"
    if folder is not None:
        words += f", engine_options={{'tokenizer': {_literal(str(folder))}}}"
    if task == "embed":
        return {
            "langchain": f"from qwen3_integrations.langchain import Qwen3Embeddings\n\nembeddings = Qwen3Embeddings({words}){key}",
            "llama_index": f"from qwen3_integrations.llama_index import Qwen3Embedding\n\nembed_model = Qwen3Embedding({words}){key}",
        }
    return {
        "langchain": f"from qwen3_integrations.langchain import Qwen3Rerank\n\nreranker = Qwen3Rerank({words}, top_n=5){key}",
        "llama_index": f"from qwen3_integrations.llama_index import Qwen3Rerank\n\nreranker = Qwen3Rerank({words}, top_n=5){key}",
    }


def _socket_path(url: str) -> str | None:
    return url.removeprefix(UNIX) if url.startswith(UNIX) else None


def _literal(text: str) -> str:
    """A text as Python code."""
    return json.dumps(text, ensure_ascii=False)
