"""A hub on this machine: as much of the HTTP interfaces of Hugging Face and ModelScope as their clients use.

It serves what a test publishes, keeps a list of what it was asked, and fails where it is told to.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

Hub = Literal["huggingface", "modelscope"]
Kind = Literal["model", "list", "file", "other"]


class Asked(NamedTuple):
    hub: Hub
    kind: Kind
    model: str
    revision: str
    path: str = ""
    body: bool = True
    """False for a HEAD request."""
    start: int = 0
    """Of a file's bytes, the first that is asked for."""


@dataclass
class StandIn:
    """What is published, what was asked, and what goes wrong.

    Attributes:
        url: Its address.
        revisions: (model, branch or commit) -> commit.
        commits: Commit -> path -> content.
        asked: Every request, in order of arrival.
        refusals: (hub, kind) -> the status that all such requests get, and Hugging Face's word for it.
        cut: Paths whose next download breaks off in the middle.
        short: Paths of which less is sent than their own headers say.
        stale: Paths whose list still has them half as long again; their own headers are right.
    """

    url: str = ""
    revisions: dict[tuple[str, str], str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    refusals: dict[tuple[Hub, Kind], tuple[int, str]] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)
    short: set[str] = field(default_factory=set)
    stale: set[str] = field(default_factory=set)

    def reset(self) -> None:
        """Forget what was asked, and be well again."""
        for memory in (self.asked, self.refusals, self.cut, self.short, self.stale):
            memory.clear()

    def publish(self, model: str, files: Mapping[str, bytes], *branches: str) -> str:
        """Put a version of a model under these branches; gives its commit."""
        commit = hashlib.sha1(repr((model, sorted(files.items()))).encode()).hexdigest()
        self.commits[commit] = dict(files)
        for name in (*branches, commit):
            self.revisions[model, name] = commit
        return commit

    def paths(self, hub: Hub | None = None) -> list[str]:
        """The files that were downloaded."""
        return [asked.path for asked in self.asked if asked.kind == "file" and asked.body and hub in (None, asked.hub)]

    def refuse(self, hub: Hub, status: int, word: str = "", *, kinds: tuple[Kind, ...] = ("model", "list", "file")) -> None:
        """Answer a hub's requests of these kinds with a status."""
        self.refusals |= {(hub, kind): (status, word) for kind in kinds}


def machine_environment(home: Path, hub: str) -> dict[str, str]:
    """This process's environment, with both hubs at an address and their caches in a folder."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("HF_", "MODELSCOPE_", "TRANSFORMERS_")) and not name.lower().endswith("_proxy")
    }
    return kept | {
        "HOME": str(home),
        "HF_HOME": str(home / "huggingface"),
        "MODELSCOPE_CACHE": str(home / "modelscope"),
        "MODELSCOPE_HOME": str(home / "account"),
        "HF_ENDPOINT": hub,
        "MODELSCOPE_ENDPOINT": hub,
        # Its client waits between attempts; one attempt shows the same.
        "MODELSCOPE_REPO_TREE_PAGE_MAX_ATTEMPTS": "1",
        # tqdm draws no bars of Hugging Face into a file unless told so.
        "TQDM_POSITION": "-1",
    }


@contextmanager
def stand_in() -> Iterator[StandIn]:
    """A running stand-in for both hubs, on a free port."""
    hub = StandIn()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: StandIn
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(wanted[1]) if wanted else 0
        asked = _read(self.path)._replace(body=self.command != "HEAD", start=start)
        self.hub.asked.append(asked)
        if refusal := self.hub.refusals.get((asked.hub, asked.kind)):
            self._refuse(*refusal)
            return
        if asked.kind == "other":
            self._json({"Code": 200, "Data": {}})
            return
        if not any(model == asked.model for model, _ in self.hub.revisions):
            self._refuse(404, "RepoNotFound")
            return
        commit = self.hub.revisions.get((asked.model, asked.revision))
        if commit is None:
            self._refuse(404, "RevisionNotFound")
            return
        files = self.hub.commits[commit]
        if asked.kind == "file":
            self._file(asked, files[asked.path], commit)
        elif asked.hub == "modelscope":
            listed = [
                {"Path": path, "Type": "blob", "Size": self._size(path, content), "Sha256": _sha256(content)}
                for path, content in files.items()
            ]
            self._json({"Code": 200, "Success": True, "Data": {"Files": listed}})
        elif asked.kind == "list":
            self._json(
                [
                    {"type": "file", "path": path, "size": self._size(path, content), "oid": _sha256(content)}
                    for path, content in files.items()
                ]
            )
        else:
            self._json({"id": asked.model, "sha": commit, "siblings": [{"rfilename": path} for path in files]})

    do_HEAD = do_GET  # noqa: N815  the base's name

    def _file(self, asked: Asked, content: bytes, commit: str) -> None:
        path, start = asked.path, asked.start
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{_sha256(content)}"')
        self.send_header("X-Repo-Commit", commit)
        body = content[start:]
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if path in self.hub.short and self.command == "GET":
            body = body[: len(body) // 2]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if path in self.hub.cut:
            self.hub.cut.discard(path)
            body = body[: len(body) // 2]
            self.close_connection = True
        with suppress(ConnectionError):  # a client may hang up once it knows the size
            self.wfile.write(body)

    def _size(self, path: str, content: bytes) -> int:
        """A file's size as the list has it."""
        return len(content) * 3 // 2 if path in self.hub.stale else len(content)

    def _json(self, answer: object, status: int = 200, word: str = "") -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        if word:
            self.send_header("X-Error-Code", word)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, status: int, word: str) -> None:
        self._json({"Code": status, "Message": word or "refused", "error": word or "refused"}, status, word)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base's name
        """Say nothing: the list of requests is the log."""


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _read(address: str) -> Asked:
    """What a request asks for. Source: the requests of huggingface_hub 2.4 and modelscope_hub 0.5."""
    parts = urlsplit(address)
    path, query = unquote(parts.path), {name: values[0] for name, values in parse_qs(parts.query).items()}
    if found := re.fullmatch(r"/api/v1/models/([^/]+/[^/]+)/repo(/files)?", path):
        kind: Kind = "list" if found[2] else "file"
        return Asked("modelscope", kind, found[1], query["Revision"], query.get("FilePath", ""))
    if path.startswith("/api/v1/"):
        return Asked("modelscope", "other", "", "", path)
    if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
        return Asked("huggingface", "list", found[1], found[2])
    if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", path):
        return Asked("huggingface", "model", found[1], found[2] or "main")
    if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
        return Asked("huggingface", "file", found[1], found[2], found[3])
    return Asked("huggingface", "other", "", "", path)
