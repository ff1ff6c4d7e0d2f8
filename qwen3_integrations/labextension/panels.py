"""Server panels without a kernel: the notebook's `ServerPanel` in the Jupyter server's process, seen by pages over HTTP."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import anywidget
import traitlets

from qwen3_integrations.core.types import Task
from qwen3_integrations.labextension.kernels import KernelPython, python_with
from qwen3_integrations.notebook.panel import ServerPanel
from qwen3_integrations.serving import ServerOptions
from qwen3_integrations.serving.options import EngineChoice

_UNSEEN_S = 600.0
"""Seconds after which a panel that no page reads is closed; the panel of a server that this process started stays."""

_NOT_FOR_PAGES = {*anywidget.AnyWidget.class_traits(sync=True), "_esm", "_css", "_anywidget_id"}


class RemotePanel(ServerPanel):
    """A `ServerPanel` whose pages read its traits over HTTP, each page since the revision that it knows.

    Args:
        pythons: The interpreters of the kernels, which the form offers.
        kernel: The kernelspec of the active notebook.
        task, server: As in `ServerPanel`.
    """

    def __init__(self, pythons: Sequence[KernelPython] = (), kernel: str | None = None, **words: Any) -> None:
        self._changed_at: dict[str, int] = {}
        self._revision = 0
        self._replies: list[dict[str, Any]] = []
        self._acting = threading.Lock()
        self._pythons, self._kernel, self._chosen = tuple(pythons), kernel, ""
        self.seen_at = time.monotonic()
        super().__init__(**words)
        self._exposed = [name for name in self.trait_names(sync=True) if name not in _NOT_FOR_PAGES]
        self.fields = [self._with_kernels(field) for field in self.fields]
        if self.server is None:
            self._choose_python()
        self.observe(self._note_change, self._exposed)

    @property
    def is_needed(self) -> bool:
        """Whether a page reads it, or it has a server that this process started."""
        server = self.server
        return time.monotonic() - self.seen_at < _UNSEEN_S or self._is_starting or (server is not None and server.owned)

    def changes(self, since: int) -> dict[str, Any]:
        """The traits that changed after a revision, and the present revision.

        Args:
            since: The revision that the page knows; 0 for all traits.
        """
        self.seen_at = time.monotonic()
        revision = self._revision
        names = [name for name in self._exposed if not since or self._changed_at.get(name, 0) > since]
        return {"revision": max(revision, 1), "traits": {name: getattr(self, name) for name in names}}

    def act(self, content: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Do what a person clicked, and return the messages for the page that asked: a key is in no other answer."""
        self.seen_at = time.monotonic()
        with self._acting:
            self._replies = []
            self._receive(self, dict(content), [])
            return self._replies

    def send(self, content: Any, buffers: Any = None) -> None:  # noqa: ARG002  ipywidgets' signature
        """Keep a message for the page whose action is being done."""
        self._replies.append(content)

    def to_dict(self) -> dict[str, Any]:
        """A few facts for a list of servers; no key."""
        form = self.form
        server = self.server
        return {
            "server": None if server is None else server.name,
            "task": form["task"],
            "model": form["model"] or ServerOptions(task=form["task"]).model_name,
            "state": self.state,
            "fraction": self.progress.get("fraction"),
            "detail": self.progress.get("detail", ""),
            "first_error": self.first_error or self.error,
        }

    def _note_change(self, change: Any) -> None:
        self._revision = max(self._revision, 1) + 1
        self._changed_at[change["name"]] = self._revision

    def _set(self, name: str, value: object) -> None:
        super()._set(name, value)
        if name == "engine" and self.form["python"] == self._chosen:
            self._choose_python()

    def _choose_python(self) -> None:
        engine = self.form["engine"]
        if engine in get_args(EngineChoice):
            self._chosen = python_with(engine, self._pythons, self._kernel) or ""
            self.form = {**self.form, "python": self._chosen}

    def _with_kernels(self, field: dict[str, Any]) -> dict[str, Any]:
        if field["name"] != "python" or not self._pythons:
            return field
        paths = [each.path for each in self._pythons]
        kernels = "; ".join(f"{each.title}: {each.path}" for each in self._pythons)
        tasks: tuple[Task, ...] = ("embed", "rerank")
        both = {"choices": dict.fromkeys(tasks, paths), "empty": dict.fromkeys(tasks, "the Jupyter server's")}
        return field | both | {"kind": "model", "group": "", "help": f"The Python interpreter that has the engine. Kernels: {kernels}"}

    @traitlets.validate("info")
    def _with_owner(self, proposal: Any) -> dict[str, Any]:
        info: dict[str, Any] = proposal["value"]
        return info | {"owner": "this Jupyter server"} if info.get("owned") else info


class Panels:
    """The panels of this process, by id; all pages share them."""

    def __init__(self) -> None:
        self._panels: dict[str, RemotePanel] = {}
        self._lock = threading.Lock()

    def open(
        self, *, server: str | None = None, task: Task = "embed", pythons: Sequence[KernelPython] = (), kernel: str | None = None
    ) -> str:
        """Open a panel, and return its id: of a running server the panel that it has already, otherwise a new form.

        Args:
            server: A running server's name; None for a new form.
            task: The form's task.
            pythons, kernel: As in `RemotePanel`.

        Raises:
            ConfigError: If no server has that name.
        """
        with self._lock:
            self._close_unneeded()
            for name, panel in self._panels.items():
                if server is not None and (there := panel.server) is not None and there.name == server:
                    return name
            made = RemotePanel(pythons, kernel, task=task)
            try:
                if server is not None:
                    made.attach(server)
            except BaseException:
                made.close()
                raise
            name = secrets.token_urlsafe(9)
            self._panels[name] = made
            return name

    def get(self, name: str) -> RemotePanel | None:
        """The panel with this id."""
        return self._panels.get(name)

    def of(self, server: str) -> RemotePanel | None:
        """The panel of a server."""
        return next((panel for panel in self._panels.values() if (there := panel.server) is not None and there.name == server), None)

    def close(self, name: str) -> None:
        """Close a panel; a running server continues, and keeps its panel if this process started it."""
        with self._lock:
            panel = self._panels.get(name)
            if panel is not None and not (panel._is_starting or ((there := panel.server) is not None and there.owned)):
                del self._panels[name]
                panel.close()

    def starts(self) -> dict[str, RemotePanel]:
        """The panels with a start in progress, one that failed, or a server, by id."""
        return {name: panel for name, panel in list(self._panels.items()) if panel.state != "stopped"}

    def _close_unneeded(self) -> None:
        for name, panel in list(self._panels.items()):
            if not panel.is_needed:
                del self._panels[name]
                panel.close()
