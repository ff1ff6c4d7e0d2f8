"""A panel that starts, monitors and stops a server: a thin layer over `qwen3_integrations.serving`."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import traitlets

from qwen3_integrations import serving
from qwen3_integrations.core.types import Task
from qwen3_integrations.core.validation import suggest
from qwen3_integrations.errors import ConfigError, Qwen3Error
from qwen3_integrations.notebook.panel_form import FIELDS, SECRET, changed, described, form_of, read_form
from qwen3_integrations.notebook.panel_meters import PolledServer
from qwen3_integrations.notebook.panel_views import load_view, other_view, preview_view, server_view, static_view
from qwen3_integrations.notebook.polling import PollingWidget
from qwen3_integrations.notebook.widget import assets
from qwen3_integrations.serving import Failed, Launched, Progress, Server, ServerOptions, StartResult, TimedOut
from qwen3_integrations.serving.preview import preview

STATES = ("stopped", "downloading", "starting", "loading", "compiling", "capturing", "answering", "ready", "failed")

_IDLE = ("stopped", "failed")
_STARTING_S, _READY_S, _IDLE_S = 0.5, 2.0, 4.0
"""Seconds between two polls: of a starting server, of a ready one, of free memory and other servers."""


class _Cancelled(BaseException):
    """Not an Exception, which the hubs' clients would retry."""


class ServerPanel(PollingWidget):
    """Start, monitor, use and stop a server from a notebook.

    The work is done by `qwen3_integrations.serving`: `panel.server` is the server that `start` returns, and the panel can attach to
    a server that another notebook or the command line started. The key is never in the panel's state, its static form or a saved
    notebook: it is sent to the browser's clipboard when a person clicks "Copy key".

    Closing the panel ends its thread, and a start in progress with its server. A running server continues: `panel.server.stop()` or
    the end of the kernel stops it; with `keep_running` only `stop()` does.

    Attributes:
        state: `stopped`, `downloading`, `starting`, `loading`, `compiling`, `capturing`, `answering`, `ready` or `failed`.
        note: One sentence about the state; may be empty.
        first_error: The line with the reason of a failure, or the first error in the log since the server was ready.

    Args:
        task: `embed` or `rerank`.
        server: A running server to attach to; the panel then shows its options.
        timeout_s: Seconds to wait until a started server is ready; downloading is not counted.
        options: As in `ServerOptions`. `api_key` and `env` can only be given here: the form does not show them.

    Raises:
        TypeError: For an unknown option; names the most similar one.
        ConfigError: For a value that can't work.
    """

    _esm, _css = assets("panel")

    state = traitlets.Enum(STATES, "stopped").tag(sync=True)
    note = traitlets.Unicode("").tag(sync=True)
    first_error = traitlets.Unicode("").tag(sync=True)
    progress = traitlets.Dict().tag(sync=True)
    fields: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    form = traitlets.Dict().tag(sync=True)
    wrong = traitlets.Dict().tag(sync=True)
    preview = traitlets.Dict().tag(sync=True)
    info = traitlets.Dict().tag(sync=True)
    load = traitlets.Dict().tag(sync=True)
    tail = traitlets.Dict().tag(sync=True)
    others: traitlets.List[dict[str, str]] = traitlets.List().tag(sync=True)

    def __init__(self, *, task: Task = "embed", server: Server | None = None, timeout_s: float = 900.0, **options: Any) -> None:
        self._cancelled = threading.Event()  # first: a panel whose constructor raises is closed too
        known = {*(field.name for field in FIELDS), *SECRET}
        for name in options:
            if name not in known:
                raise TypeError(f"ServerPanel has no argument {name!r}{suggest(name, known)}")
        self._timeout_s = timeout_s
        self._polled: PolledServer | None = None
        self._is_starting = False
        wanted = ServerOptions(task=task, **options)
        super().__init__(fields=described())
        self.options = wanted
        if server is not None:
            self._take(server)

    @property
    def server(self) -> Server | None:
        """The server, from its launch on, long before it is ready; None once it has ended."""
        polled = self._polled
        return polled.server if polled is not None and polled.server.is_running else None

    @property
    def options(self) -> ServerOptions:
        """The options in the form. May be assigned.

        Raises:
            ConfigError: If a value in the form can't work.
        """
        options, wrong = read_form(self.form, self._secrets)
        if options is None:
            raise next(iter(wrong.values()))
        return options

    @options.setter
    def options(self, options: ServerOptions) -> None:
        self._secrets: dict[str, Any] = {name: getattr(options, name) for name in SECRET}
        self.form, self.wrong = form_of(options), {}
        self._poll_soon()

    def start(self) -> None:
        """Start a server with these options in the background, or reuse a running one. Returns immediately.

        Raises:
            ConfigError: If the panel has a server already, or an option can't work.
        """
        self._refuse_a_second()
        self._launch(self.options)

    def cancel(self) -> None:
        """Cancel a start in progress, and end its server. Returns immediately."""
        if self._is_starting:
            self._cancelled.set()
            self.busy = "Cancelling"
        elif self.state not in (*_IDLE, "ready"):  # the wait is over, and the server is still starting
            self.stop()

    def stop(self) -> None:
        """End the server in the background, also an attached one; cancels a start in progress. Returns immediately."""
        server = self.server
        if self._is_starting:
            self.cancel()
        elif server is not None:
            self._begin("Stopping", asyncio.to_thread(server.stop), lambda _: self._leave("stopped", ""))

    def restart(self) -> None:
        """End the server and start it again with the same options, address and key. Returns immediately.

        Raises:
            ConfigError: If there is no server.
        """
        server = self.server
        if server is None or self._is_starting:
            raise ConfigError("this panel has no server to restart", advice="Start one")
        env = self._secrets["env"] if server.owned else None
        self._launch(replace(server.options, port=urlsplit(server.url).port or 0, env=env), server)

    def attach(self, name: str) -> None:
        """Attach to a running server, whichever process started it.

        Args:
            name: Its name or address.

        Raises:
            ConfigError: If no server has that name, or the panel has a server already.
        """
        self._refuse_a_second()
        self._take(serving.attach(name))

    def detach(self) -> None:
        """Show the form again; the server continues to run."""
        server = self.server
        if server is not None and not self._is_starting:
            self._leave("stopped", f"{server.name} runs on without this panel")

    def close(self) -> None:
        """End the panel's thread, and a start in progress with its server. A running server continues. May be called twice."""
        self._cancelled.set()
        super().close()

    def _actions(self) -> Mapping[str, Callable[..., None]]:
        return {
            "set": self._set,
            "start": self.start,
            "cancel": self.cancel,
            "stop": self.stop,
            "restart": self.restart,
            "attach": self.attach,
            "detach": self.detach,
            "keep": self._keep,
            "key": self._send_key,
            "show": self._show,
            "hide": self._hide,
        }

    def _set(self, name: str, value: object) -> None:
        self.form = changed(self.form, name, value)
        _, wrong = read_form(self.form, self._secrets)
        self.wrong = {name: str(error) for name, error in wrong.items()}
        self._poll_soon()

    def _keep(self, on: bool) -> None:
        if (server := self.server) is not None:
            server.keep_running = on
            self.info = self.info | {"keep_running": server.keep_running}

    def _send_key(self, view: str) -> None:
        """Send the key to the clicked view as a message: messages are not part of the state or of a saved notebook."""
        self.send({"view": view, "key": server.api_key if (server := self.server) is not None else None})

    def _refuse_a_second(self) -> None:
        if self._is_starting or self.server is not None:
            raise ConfigError("this panel has a server already", advice="Stop or detach it first")

    def _launch(self, options: ServerOptions, before: Server | None = None) -> None:
        self._cancelled = threading.Event()
        self._is_starting = True
        self.wrong, self.first_error, self.note, self.progress = {}, "", "", {}
        self.state = "starting"
        self._begin("", asyncio.to_thread(self._start, options, before, self._cancelled), self._started)
        self._start_polling()

    def _start(self, options: ServerOptions, before: Server | None, cancelled: threading.Event) -> StartResult | None:
        """In a thread of the background loop; None where the start was cancelled."""
        try:
            if before is not None:
                before.stop()
            outcome = serving.start(
                options,
                timeout_s=self._timeout_s,
                reuse=before is None,
                on_progress=lambda progress: self._tell(progress, cancelled),
                on_server=lambda server: self._hold(server, fresh=True),
                cancel=cancelled,
            )
            if not cancelled.is_set():
                return outcome
            if isinstance(outcome, Launched | TimedOut):  # cancelled too late for the start to see it
                outcome.server.stop()
            return None
        except _Cancelled:
            return None
        except Qwen3Error as error:
            self._leave("stopped", "")
            if isinstance(error, ConfigError) and error.option in self.form:
                self.wrong = {error.option: str(error)}
                return None
            raise
        except BaseException:
            self._leave("failed", "")
            raise
        finally:
            self._is_starting = False

    def _tell(self, progress: Progress, cancelled: threading.Event) -> None:
        if cancelled.is_set():  # the only way to cancel a download
            raise _Cancelled
        if progress.phase != "ready":  # shown with the result
            self.progress = {"fraction": progress.fraction, "detail": self._without_key(progress.detail), "elapsed_s": progress.elapsed_s}
            self.state = progress.phase

    def _started(self, outcome: StartResult | None) -> None:
        if outcome is None:
            if self._cancelled.is_set():
                self._leave("stopped", "the start was cancelled")
        elif isinstance(outcome, Failed):
            self.first_error = self._without_key(outcome.error)
            self._leave("failed", "it did not start" + (f" (exit code {outcome.exit_code})" if outcome.exit_code is not None else ""))
        elif isinstance(outcome, TimedOut):
            self.error = f"not ready after {outcome.seconds:.0f} s, and still {outcome.phase}: wait, or stop it"
        else:
            self._be_ready(f"started in {outcome.seconds:.0f} s" if isinstance(outcome, Launched) else "it ran already, with these options")

    def _take(self, server: Server) -> None:
        with contextlib.suppress(ConfigError):  # started by another version of this package
            self.options = server.options
        self.first_error, self.error, self.progress = "", "", {}
        self._hold(server, fresh=False)
        self.state, self.note = "starting", "attached"
        self._start_polling()
        self._poll_soon()

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

    def _pause_s(self) -> float:
        return _IDLE_S if self.state in _IDLE else _READY_S if self.state == "ready" else _STARTING_S

    def _poll_once(self) -> None:
        """Poll the server, or the preview; less while no view is visible."""
        polled = self._polled
        if polled is not None:
            self._see_server(polled)
        elif self._is_shown and not self._is_starting:
            self.others = [other_view(each) for each in serving.servers()]
            options, _ = read_form(self.form, self._secrets)
            self.preview = {} if options is None else preview_view(preview(options), options)

    def _see_server(self, polled: PolledServer) -> None:
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

    def _static_html(self) -> str:
        server = self.server
        status = server.status() if server is not None else None
        options, _ = read_form(self.form, self._secrets)
        needed = f"{self.preview['needed']} ({self.preview['detail']})" if self.preview.get("parts") else ""
        return static_view(self.state, self.first_error or self.error or self.note, options, status, needed)

    def __repr__(self) -> str:
        named = self._polled.server.name if self._polled is not None else self.form["model"] or self.form["task"]
        return f"ServerPanel({named!r}, state={self.state!r})"
