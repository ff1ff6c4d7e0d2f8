"""A small server of a real model: PyTorch behind `/v1/models` and `/v1/embeddings`, with a list of models that a test sets."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np

from qwen3_integrations import Embedder
from qwen3_integrations.engines.torch.engine import TorchEngine
from tests.server.faults import Call, FaultsProxy


class StandIn(FaultsProxy):
    """Serves an embedder.

    Args:
        folder: The model.
        name: The served name.
        dtype: What it computes in.
        loaded_from: What it says it was loaded from; `""` for the folder.
        owned_by: What it says it is.
        context: The longest prompt that it says it takes.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str = "served",
        dtype: str = "float32",
        loaded_from: str | None = "",
        owned_by: str = "vllm",
        context: int = 1024,
    ) -> None:
        super().__init__(everywhere=self._answer)
        self._engine = TorchEngine("embed", str(folder), device="cpu", dtype=dtype)
        root = str(folder) if loaded_from == "" else loaded_from
        self._listed = {"data": [{"id": name, "owned_by": owned_by, "root": root, "max_model_len": context}]}

    def _answer(self, call: Call) -> None:
        if call.seen.path == "/v1/embeddings":
            embedder = Embedder(self._engine)
            rows = embedder.embed_documents(call.seen.body["input"])
            packed = call.seen.body.get("encoding_format") == "base64"
            data = [{"index": at, "embedding": _packed(row) if packed else row.tolist()} for at, row in enumerate(rows)]
            call.answer(200, json.dumps({"data": data, "usage": {"prompt_tokens": embedder.usage.tokens}}).encode())
        elif call.seen.path == "/v1/models":
            call.answer(200, json.dumps(self._listed).encode())
        else:
            call.answer(404, b"{}")

    def __exit__(self, *exc: object) -> None:
        super().__exit__(*exc)
        self._engine.close()


def _packed(row: np.ndarray) -> str:
    return base64.b64encode(np.asarray(row, "<f4").tobytes()).decode()
