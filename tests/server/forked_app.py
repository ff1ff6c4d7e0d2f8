"""A web app for gunicorn, and tasks for Celery. Their components are made when the module is imported, which is before the fork."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

from celery import Celery
from langchain_core.documents import Document

from qwen3_integrations.langchain import Qwen3Embeddings, Qwen3Rerank

TEXTS = ["a text about files", "a text about the moon"]
QUERY = "How do I read a file?"
DOCUMENTS = ["The moon.", "To read a file, open it."]

MADE_IN = os.getpid()
SERVER = os.environ["QWEN3_TEST_SERVER"]
FOLDER = os.environ["QWEN3_TEST_FOLDER"]

embeddings = {used: Qwen3Embeddings(model="q", base_url=SERVER, engine_options={"timeout_s": 30 + used}) for used in (False, True)}
rerankers = {used: Qwen3Rerank(model="q", base_url=SERVER, engine_options={"timeout_s": 30 + used}) for used in (False, True)}
local = {
    used: Qwen3Embeddings(model="qwen3-tiny-demo", backend="torch", engine_options={"device": "cpu", "max_batch_tokens": 4096 + used})
    for used in (False, True)
}


def result(used: bool) -> dict[str, Any]:
    """What all components answer."""
    documents = [Document(page_content=text) for text in DOCUMENTS]
    return {
        "pid": os.getpid(),
        "sync": embeddings[used].embed_documents(TEXTS),
        "async": asyncio.run(embeddings[used].aembed_documents(TEXTS)),
        "best": rerankers[used].compress_documents(documents, QUERY)[0].page_content,
        "local": local[used].embed_documents(TEXTS),
    }


expected = result(True)  # before the fork


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """WSGI: `/?used=1` answers with the result of the components that were used before the fork."""
    used = parse_qs(environ["QUERY_STRING"])["used"] == ["1"]
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"made_in": MADE_IN, "expected": expected, "found": result(used)}).encode()]


celery = Celery(
    "forked",
    broker="filesystem://",
    backend=f"file://{FOLDER}/results",
    broker_transport_options={
        "data_folder_in": f"{FOLDER}/messages",
        "data_folder_out": f"{FOLDER}/messages",
        "control_folder": f"{FOLDER}/control",
    },
    broker_connection_retry_on_startup=True,
)


@celery.task
def ask(used: bool) -> dict[str, Any]:
    """A task with the same answer as the web app."""
    return {"made_in": MADE_IN, "expected": expected, "found": result(used)}
