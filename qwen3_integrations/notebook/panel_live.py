"""The panel's server: its state, its log and its load, polled while it runs."""

from __future__ import annotations

import time

import traitlets

from qwen3_integrations.notebook.panel_meters import PolledServer
from qwen3_integrations.notebook.panel_views import load_view, server_view
from qwen3_integrations.notebook.polling import PollingWidget
from qwen3_integrations.serving import Server

STATES = ("stopped", "downloading", "starting", "loading", "compiling", "capturing", "answering", "ready", "failed")

IDLE = ("stopped", "failed")
_STARTING_S, _READY_S, _IDLE_S = 0.5, 2.0, 4.0
"""Seconds between two polls: of a starting server, of a ready one, of free memory and other servers."""


class LiveServerWidget(PollingWidget):
    """Base of the panel: a widget that shows one server from its launch to its end.

    Attributes:
        state: `stopped`, `downloading`, `starting`, `loading`, `compiling`, `capturing`, `answering`, `ready` or `failed`.
        note: One sentence about the state; may be empty.
        first_error: The line with the reason of a failure, or the first error in the log since the server was ready.
    """

    state = traitlets.Enum(STATES, "stopped").tag(sync=True)
    note = traitlets.Unicode("").tag(sync=True)
    first_error = traitlets.Unicode("").tag(sync=True)
    progress = traitlets.Dict().tag(sync=True)
    info = traitlets.Dict().tag(sync=True)
    load = traitlets.Dict().tag(sync=True)
    tail = traitlets.Dict().tag(sync=True)

    _polled: PolledServer | None = None
    _is_starting = False

    @property
    def server(self) -> Server | None:
        """The server, from its launch on, long before it is ready; None once it has ended."""
        polled = self._polled
        return polled.server if polled is not None and polled.server.is_running else None

    def _keep(self, on: bool) -> None:
        if (server := self.server) is not None:
            server.keep_running = on
            self.info = self.info | {"keep_running": server.keep_running}

    def _send_key(self, view: str) -> None:
        """Send the key to the clicked view as a message: messages are not part of the state or of a saved notebook."""
        self.send({"view": view, "key": server.api_key if (server := self.server) is not None else None})

    def _hold(self, server: Server, *, fresh: bool) -> None:
        self._polled = PolledServer(server, fresh=fresh)
        self.tail, self.load, self.info = {}, {}, server_view(server)

    def _be_ready(self, note: str) -> None:
        if self._polled is not None:
            self._read_log(self._polled)
            self._polled.log.error = ""  # errors before the first answer did no harm
            self.info = server_view(self._polled.server)
        self.state, self.note, self.progress, self.first_error = "ready", note, {}, ""
        self._poll_soon()

    def _leave(self, state: str, note: str) -> None:
        """Leave the server, which has ended or continues without the panel; its log stays visible."""
        if self._polled is not None:
            self._read_log(self._polled)
        self._polled = None
        if state == "stopped":
            self.first_error = ""
        self.info, self.load, self.progress = {}, {}, {}
        self.state, self.note = state, note
        self._poll_soon()

    @property
    def _is_needed(self) -> bool:
        return self._is_shown or self._polled is not None or self._is_starting

    def _pause_s(self) -> float:
        return _IDLE_S if self.state in IDLE else _READY_S if self.state == "ready" else _STARTING_S

    def _poll_server(self, polled: PolledServer) -> None:
        self._read_log(polled)
        if self._is_left(polled):
            return
        server = polled.server
        if not server.is_running:
            self._leave(*polled.ending())
        elif self._is_shown or self.state != "ready":
            status = server.status()
            if self._is_left(polled):
                return
            polled.meter.add(status.load.prompt_tokens, time.monotonic())
            self.load = load_view(status, polled.meter)
            if status.state == "ready" and self.state != "ready":
                self.error = ""
                self._be_ready(self.note)

    def _is_left(self, polled: PolledServer) -> bool:
        """Whether the server was left, stopped or restarted during the poll."""
        return polled is not self._polled or self._is_starting or bool(self.busy)

    def _read_log(self, polled: PolledServer) -> None:
        if tail := polled.gained():
            self.tail = tail
            self.first_error = self.first_error or polled.without_key(polled.log.error)

    def _without_key(self, text: str) -> str:
        return self._polled.without_key(text) if self._polled is not None else text
