"""A panel that starts, monitors and stops a server: a thin layer over `qwen3_integrations.serving`."""

from __future__ import annotations

import asyncio
import contextlib
import threading
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
from qwen3_integrations.notebook.panel_live import IDLE, LiveServerWidget
from qwen3_integrations.notebook.panel_views import other_view, preview_view, static_view
from qwen3_integrations.notebook.widget import assets
from qwen3_integrations.serving import Failed, Launched, Progress, Server, ServerOptions, StartResult, TimedOut
from qwen3_integrations.serving.preview import preview


class _Cancelled(BaseException):
    """A BaseException: the clients of the hubs would retry after an Exception."""


class ServerPanel(LiveServerWidget):
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

    fields: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    form = traitlets.Dict().tag(sync=True)
    wrong = traitlets.Dict().tag(sync=True)
    preview = traitlets.Dict().tag(sync=True)
    others: traitlets.List[dict[str, str]] = traitlets.List().tag(sync=True)

    def __init__(self, *, task: Task = "embed", server: Server | None = None, timeout_s: float = 900.0, **options: Any) -> None:
        self._cancelled = threading.Event()  # set first, because a panel whose constructor raises is closed too
        known = {*(field.name for field in FIELDS), *SECRET}
        for name in options:
            if name not in known:
                raise TypeError(f"ServerPanel has no argument {name!r}{suggest(name, known)}")
        self._timeout_s = timeout_s
        wanted = ServerOptions(task=task, **options)
        super().__init__(fields=described())
        self.options = wanted
        if server is not None:
            self._attach_to(server)

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
        self._refuse_second_server()
        self._launch(self.options)

    def cancel(self) -> None:
        """Cancel a start in progress, and end its server. Returns immediately."""
        if self._is_starting:
            self._cancelled.set()
            self.busy = "Cancelling"
        elif self.state not in (*IDLE, "ready"):  # the wait is over, and the server is still starting
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
        self._refuse_second_server()
        self._attach_to(serving.attach(name))

    def detach(self) -> None:
        """Show the form again; the server continues to run."""
        server = self.server
        if server is not None and not self._is_starting:
            self._leave("stopped", f"{server.name} continues to run without this panel")

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

    def _refuse_second_server(self) -> None:
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
        """Start the server; runs in a thread of the background loop. Returns None if the start was cancelled."""
        try:
            if before is not None:
                before.stop()
            outcome = serving.start(
                options,
                timeout_s=self._timeout_s,
                reuse=before is None,
                on_progress=lambda progress: self._report(progress, cancelled),
                on_server=lambda server: self._hold(server, fresh=True),
                cancel=cancelled,
            )
            if not cancelled.is_set():
                return outcome
            if isinstance(outcome, Launched | TimedOut):  # the start had finished before it saw the cancellation
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

    def _report(self, progress: Progress, cancelled: threading.Event) -> None:
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
            self._be_ready(
                f"started in {outcome.seconds:.0f} s"
                if isinstance(outcome, Launched)
                else "reused: it was already running with these options"
            )

    def _attach_to(self, server: Server) -> None:
        with contextlib.suppress(ConfigError):  # started by another version of this package
            self.options = server.options
        self.first_error, self.error, self.progress = "", "", {}
        self._hold(server, fresh=False)
        self.state, self.note = "starting", "attached"
        self._start_polling()
        self._poll_soon()

    def _poll_once(self) -> None:
        """Poll the server, or the preview; less while no view is visible."""
        polled = self._polled
        if polled is not None:
            self._poll_server(polled)
        elif self._is_shown and not self._is_starting:
            self.others = [other_view(each) for each in serving.servers()]
            options, _ = read_form(self.form, self._secrets)
            self.preview = {} if options is None else preview_view(preview(options), options)

    def _static_html(self) -> str:
        server = self.server
        status = server.status() if server is not None else None
        options, _ = read_form(self.form, self._secrets)
        needed = f"{self.preview['needed']} ({self.preview['detail']})" if self.preview.get("parts") else ""
        return static_view(self.state, self.first_error or self.error or self.note, options, status, needed)

    def __repr__(self) -> str:
        named = self._polled.server.name if self._polled is not None else self.form["model"] or self.form["task"]
        return f"ServerPanel({named!r}, state={self.state!r})"
