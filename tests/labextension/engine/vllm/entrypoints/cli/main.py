"""`python -m vllm.entrypoints.cli.main serve FOLDER --port N ...`: the routes of vLLM that this package asks, and lines of a log."""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

from qwen3_integrations import Embedder
from qwen3_integrations.engines.torch.engine import TorchEngine

OPEN = ("/health", "/ready")
"""Routes without a key, as with the guard that real servers load."""
METRICS = 'vllm:num_requests_running{engine="0"} 0\nvllm:num_requests_waiting{engine="0"} 0\nvllm:prompt_tokens_total{engine="0"} %d\n'


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path in OPEN:
            self._send(200, b"")
        elif not self._allowed():
            return
        elif self.path == "/metrics":
            self._send(200, (METRICS % self.server.tokens).encode())
        elif self.path != "/v1/models":
            self._send(404, b"{}")
        else:
            one = {"id": self.server.name, "owned_by": "vllm", "root": self.server.folder, "max_model_len": self.server.context}
            self._send(200, json.dumps({"data": [one]}).encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self._allowed():
            return
        if self.path != "/v1/embeddings":
            self._send(404, b"{}")
            return
        embedder = Embedder(self.server.engine)
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        rows = embedder.embed_documents(texts)
        self.server.tokens += embedder.usage.tokens
        packed = body.get("encoding_format") == "base64"
        data = [
            {"index": at, "embedding": base64.b64encode(np.asarray(row, "<f4").tobytes()).decode() if packed else row.tolist()}
            for at, row in enumerate(rows)
        ]
        usage = {"prompt_tokens": embedder.usage.tokens, "total_tokens": embedder.usage.tokens}
        self._send(200, json.dumps({"object": "list", "model": self.server.name, "data": data, "usage": usage}).encode())

    def _allowed(self) -> bool:
        key = os.environ.get("QWEN3_SERVER_KEY")
        if not key or self.headers.get("Authorization") == f"Bearer {key}":
            return True
        self._send(401, b'{"error": "Unauthorized"}')
        return False

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *about: object) -> None:
        """A client that did not wait is no error."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("command")
    parser.add_argument("folder")
    parser.add_argument("--port", type=int)
    parser.add_argument("--served-model-name")
    parser.add_argument("--max-model-len", type=int, default=1024)
    known, words = parser.parse_known_args()
    print(f"INFO engine arguments {words}", flush=True)
    if "--fail" in words:
        print("INFO loading", flush=True)
        sys.exit("RuntimeError: the engine was asked to fail")
    print("INFO Starting to load model", flush=True)
    server = Server(("127.0.0.1", known.port), Handler)
    server.folder, server.context, server.tokens = known.folder, known.max_model_len, 0
    server.name = known.served_model_name or known.folder
    server.engine = TorchEngine("embed", known.folder, device="cpu", dtype="float32")
    if "--slow" in words:
        time.sleep(600)
    print("INFO Application startup complete.", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
