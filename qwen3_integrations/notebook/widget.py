"""The base of all widgets: assets from files, messages, background work, errors under the widget, a static form."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import anywidget
import traitlets

from qwen3_integrations.core.event_loop import BackgroundLoop
from qwen3_integrations.errors import EngineClosed, Qwen3Error

log = logging.getLogger("qwen3_integrations")

T = TypeVar("T")
SAVED = "application/vnd.qwen3.widget+json"
"""MIME type that marks an output for JupyterLab's extension: without the widget's kernel it shows the HTML beside it."""

STATIC = Path(__file__).parent / "static"


def assets(name: str) -> tuple[str, str]:
    """A widget's module and styles: `shared.js` and `shared.css`, then its own. They are read from files; nothing is built or fetched.

    Args:
        name: The name of its files in `static/`, without suffix. Files named `name-*.js` are parts of the module and come before it.

    Returns:
        The ES module and the style sheet, as text.
    """
    parts = ["shared", *(path.stem for path in sorted(STATIC.glob(f"{name}-*.js"))), name]
    script = "\n".join((STATIC / f"{part}.js").read_text(encoding="utf-8") for part in parts)
    style = "\n".join((STATIC / f"{part}.css").read_text(encoding="utf-8") for part in ("shared", name))
    return script, style


class Widget(anywidget.AnyWidget):
    """Base of the widgets.

    Traits carry state to the browser. The browser sends a person's actions back as messages `{"do": name, ...}`; `_actions` maps each
    name to a function. Long work runs on an event loop in a thread of the widget's own, so that the kernel stays free.

    Running a cell again makes a new widget; `close()` ends the old one and its thread.

    Attributes:
        busy: The present work, in a few words; empty if there is none.
        error: The last error; shown under the widget, never raised into the notebook's log.
    """

    busy = traitlets.Unicode("").tag(sync=True, exported=False)
    error = traitlets.Unicode("").tag(sync=True, exported=False)

    # Here and not in the constructor: a widget whose constructor raises is closed too, when it is deleted.
    _background: BackgroundLoop | None = None
    _running: Future[Any] | None = None
    _is_closed = False

    def __init__(self, **traits: Any) -> None:
        unknown = [name for name in traits if not self.has_trait(name) or name.startswith("_")]
        if unknown:
            raise TypeError(f"{type(self).__name__} has no argument {unknown[0]!r}")
        self._turn = threading.RLock()
        self._at_work: dict[BackgroundLoop, int] = {}
        super().__init__(**traits)
        self.on_msg(self._receive)

    def _actions(self) -> Mapping[str, Callable[..., None]]:
        """The actions of the browser: name -> function of the message's other fields."""
        return {}

    def _receive(self, _: Any, content: Any, __: Any) -> None:
        try:
            words = dict(content)
            act = self._actions().get(words.pop("do", ""))
            if act is not None:
                act(**words)
        except Exception as error:  # noqa: BLE001  no caller would catch the error of a click
            self._fail(error)

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """Take traits from the browser. A refused value is reset there, and the error is shown under the widget."""
        refused = [name for name, value in sync_data.items() if self.has_trait(name) and not self._accepts(name, value)]
        super().set_state({name: value for name, value in sync_data.items() if name not in refused})
        if refused:
            self.send_state(refused)

    def _accepts(self, name: str, value: Any) -> bool:
        try:
            read = self.trait_metadata(name, "from_json", self._trait_from_json)
            self.traits()[name]._validate(self, read(value, self))
        except (Qwen3Error, traitlets.TraitError, TypeError, ValueError) as error:
            self._fail(error)
            return False
        return True

    def _begin(self, what: str, work: Coroutine[Any, Any, T], then: Callable[[T], None]) -> Future[T]:
        """Start work in the background; earlier work is cancelled.

        Args:
            what: The text shown while it runs.
            work: The work.
            then: Called with its result, in the background thread.

        Returns:
            The work's future, which is done before `then` is called.
        """
        self._cancel()
        self.error, self.busy = "", what
        running = self._running = self._in_background(work)

        def done(future: Future[T]) -> None:
            if self._running is not running:  # newer work has started
                return
            try:
                then(future.result())
            except CancelledError:
                pass
            except Exception as error:  # noqa: BLE001  as in _receive
                if not python_ends():  # else the work failed because its threads have ended
                    self._fail(error)
            finally:
                self._end(running)

        running.add_done_callback(done)
        return running

    def _end(self, running: Future[Any] | None) -> None:
        """Clear `busy`, unless newer work has started."""
        with self._turn:
            if self._running is running:
                self._running, self.busy = None, ""

    def _in_background(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start work on the widget's own loop, beside that of `_begin`; `close()` cancels it.

        The loop's thread ends with its last work: a cell that runs again leaves a widget behind, but no thread.
        """
        with self._turn:
            if self._is_closed:
                work.close()
                raise EngineClosed(f"this {type(self).__name__} is closed", advice="Make a new one")
            if self._background is None:
                self._background = BackgroundLoop(f"the {type(self).__name__}")
            background = self._background
            self._at_work[background] = self._at_work.get(background, 0) + 1
            future = background.submit(work)
        future.add_done_callback(lambda _: self._rest(background))
        return future

    def _rest(self, background: BackgroundLoop) -> None:
        """End a loop after its last work."""
        with self._turn:
            self._at_work[background] -= 1
            if self._at_work[background]:
                return
            del self._at_work[background]
            if self._background is background:
                self._background = None
        background.close(_nothing, idle=True)

    def _cancel(self) -> None:
        """Cancel the running work, if there is any."""
        running = self._running
        if running is not None:
            running.cancel()
            self._end(running)

    def _fail(self, error: BaseException) -> None:
        if not isinstance(error, Qwen3Error | TypeError | ValueError):
            log.exception("a widget's action failed", exc_info=error)
        self.error = str(error) or type(error).__name__

    def close(self) -> None:
        """End the background work and its thread, and remove the widget from the page. May be called twice."""
        self._is_closed = True
        self._running = None  # the work is cancelled with its loop
        background, self._background = self._background, None
        if background is not None:
            background.close(_nothing)
        super().close()

    def _page_state(self) -> dict[str, Any]:
        """The traits of a page without a kernel, as JSON values: each trait's tag `exported` decides.

        True: the present value. False: the default, because the trait has no meaning without a kernel. No tag: the page does not have it.
        """
        kept: dict[str, Any] = self.get_state(self.trait_names(exported=True))
        return kept | {name: trait.default() for name, trait in self.traits(exported=False).items()}

    def _static_html(self) -> str:
        """The widget as HTML without scripts: for exported notebooks, and hosts that run no widgets."""
        raise NotImplementedError

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is not None:
            data = bundle[0] if isinstance(bundle, tuple) else bundle
            data["text/html"] = self._static_html()
            data |= self._saved_form()
        return bundle

    def _saved_form(self) -> dict[str, Any]:
        """What JupyterLab's extension shows without the widget's kernel: MIME type -> content."""
        return {SAVED: {"version": 1}}


async def _nothing() -> None:
    pass


def python_ends() -> bool:
    """Whether the interpreter is shutting down: its thread pools take no more work."""
    try:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(int).result()
    except RuntimeError:
        return True
    return False
