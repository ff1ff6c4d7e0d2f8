"""From settings to an open engine: which backend, with which options, and shared within the process."""

from __future__ import annotations

import inspect
import json
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Literal, get_args

from qwen3_integrations.engines.http.address import has_credentials, shown_url
from qwen3_integrations.engines.protocol import Engine
from qwen3_integrations.errors import ConfigError, EngineClosed
from qwen3_integrations.extras import installed
from qwen3_integrations.fingerprint import Fingerprint, fingerprint_of
from qwen3_integrations.html import engine_facts, facts_table
from qwen3_integrations.jobs import Job, Reply, Task
from qwen3_integrations.models import checked_model
from qwen3_integrations.options import check_options, suggest
from qwen3_integrations.tokens import Tokenizer

log = logging.getLogger("qwen3_integrations")

Backend = Literal["auto", "vllm", "torch", "http", "fake"]
URL_VARIABLES: Mapping[Task, str] = {"embed": "QWEN3_EMBEDDING_URL", "rerank": "QWEN3_RERANKER_URL"}
KEY_VARIABLE = "QWEN3_API_KEY"


def open_engine(
    task: Task,
    model: str | None = None,
    *,
    base_url: str | None = None,
    api_key: str | None = None,
    backend: Backend = "auto",
    **engine_options: Any,
) -> SharedEngine:
    """Open an engine, or share the one that this process has open for the same settings.

    An engine that was opened several times closes with its last user. A user is gone when it called `close()`,
    or when nothing refers to it any more.

    Args:
        task: `embed` or `rerank`.
        model: A folder, a hub's name, or `qwen3-tiny-demo`; None for the task's 0.6B model.
        base_url: A server's address; else `QWEN3_EMBEDDING_URL` / `QWEN3_RERANKER_URL` from the environment.
        api_key: The server's key; else `QWEN3_API_KEY`, unless the address holds user and password.
        backend: `auto` means: http with an address; else vllm with CUDA; else torch. `fake` is never chosen by itself.
        engine_options: The engine's own vocabulary; see `TorchEngine`, `VllmEngine`, `HttpEngine`, `FakeEngine`.

    Raises:
        ConfigError: For an unknown task, backend or option (with a suggestion), or a model of the other task.
        MissingExtra: If the backend is not installed; names the pip line.
        ModelNotFound: If the model is nowhere to be had.
    """
    if task not in get_args(Task):
        raise ConfigError(f"task must be embed or rerank, not {task!r}")
    if backend not in get_args(Backend):
        raise ConfigError(
            f"backend must be one of {', '.join(get_args(Backend))}, not {backend!r}{suggest(str(backend), get_args(Backend))}"
        )
    name = checked_model(model, task)
    url = base_url or (os.environ.get(URL_VARIABLES[task]) if backend in ("auto", "http") else None)
    chosen, reason = choose_backend(backend, url, vllm=installed("vllm"), torch=installed("torch"), cuda=_has_cuda)
    log.info("%s for %s runs on %s: %s", name, task, chosen, reason)
    options = dict(engine_options)
    if chosen == "http":
        # User and password in an address and a key would be the same header.
        options |= {"base_url": url, "api_key": api_key or (None if has_credentials(url or "") else os.environ.get(KEY_VARIABLE))}
    make = _maker(chosen)
    check_options(options, _options_of(make), f"the {chosen} engine")
    return _share((chosen, task, name, _frozen(options)), lambda: make(task, name, **options))


def choose_backend(
    asked: Backend, base_url: str | None, *, vllm: bool, torch: bool, cuda: Callable[[], bool]
) -> tuple[Literal["vllm", "torch", "http", "fake"], str]:
    """Which engine to use and why: a pure function of what is asked and what is there.

    Args:
        asked: The caller's word.
        base_url: A server's address, if there is one.
        vllm, torch: Whether these are installed.
        cuda: Whether a CUDA device is there; only asked when it matters.

    Raises:
        ConfigError: If the backend and the address contradict each other, or nothing is there to run with.
    """
    if asked in ("vllm", "torch", "fake"):
        if base_url:
            raise ConfigError(f"base_url means a server, but backend={asked!r} runs in this process: leave one of them out")
        return asked, "named by the caller"
    if base_url:
        return "http", f"a server was named: {shown_url(base_url)}"
    if asked == "http":
        raise ConfigError(f"backend='http' needs base_url, or {' / '.join(URL_VARIABLES.values())} in the environment")
    if vllm and cuda():
        return "vllm", "vLLM is installed and there is a CUDA device"
    if torch:
        return "torch", "PyTorch is installed" + ("" if vllm else " and vLLM is not") + (", no CUDA device" if vllm else "")
    raise ConfigError(
        "there is nothing to run the model with. Three ways out: pass base_url for a server (vLLM, SGLang, any OpenAI-compatible one); "
        "pip install 'qwen3-integrations[torch]' for this machine's CPU or GPU; pip install 'qwen3-integrations[vllm]' for a CUDA GPU"
    )


def _maker(backend: str) -> Callable[..., Engine]:
    match backend:
        case "torch":
            from qwen3_integrations.engines.torch.engine import TorchEngine

            return TorchEngine
        case "vllm":
            from qwen3_integrations.engines.vllm.engine import VllmEngine

            return VllmEngine
        case "http":
            from qwen3_integrations.engines.http.engine import HttpEngine

            return HttpEngine
        case _:
            from qwen3_integrations.engines.fake import FakeEngine

            return FakeEngine


def _options_of(make: Callable[..., Engine]) -> list[str]:
    """The names an engine's constructor takes, or those its `option_names` adds (an engine behind an engine)."""
    parameters = inspect.signature(make).parameters.values()
    own = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    more: Callable[[], Iterable[str]] | None = getattr(make, "option_names", None)
    return own + list(more() if more else ())


def _has_cuda() -> bool:
    if not installed("torch"):
        return False
    import torch

    # Asked through NVML: PyTorch's other way brings CUDA into this process, and vLLM could not fork its own any more.
    name = "PYTORCH_NVML_BASED_CUDA_CHECK"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        return torch.cuda.is_available()
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _frozen(options: Mapping[str, Any]) -> str:
    """Options as a key: equal options give equal keys; objects count by identity, paths as they read."""

    def plain(value: object) -> object:
        if isinstance(value, Mapping):
            return dict(value)
        return str(value) if isinstance(value, PurePath) else f"{type(value).__qualname__}@{id(value)}"

    return json.dumps(options, sort_keys=True, default=plain)


@dataclass(slots=True)
class _Shared:
    engine: Future[Engine]
    make: Callable[[], Engine]  # kept for the options in it, whose identities are part of the key
    users: int = 0

    @property
    def usable(self) -> bool:
        """False when it failed to open, or has died since: the next user gets a new one."""
        return not self.engine.done() or (self.engine.exception() is None and getattr(self.engine.result(), "alive", True))


_open: dict[tuple[str, ...], _Shared] = {}
_lock = threading.RLock()  # never held while an engine opens: a finalizer in any thread may want to release another


def _forget() -> None:
    """In a forked process: its parent's engines do not work here, and a lock may be held by a thread that is not here."""
    global _lock  # noqa: PLW0603
    _lock = threading.RLock()
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _share(key: tuple[str, ...], make: Callable[[], Engine]) -> SharedEngine:
    with _lock:
        shared = _open.get(key)
        first = shared is None or not shared.usable
        if shared is None or first:
            shared = _open[key] = _Shared(Future(), make)
        shared.users += 1
    if first:
        try:
            shared.engine.set_result(make())
        except BaseException as error:
            shared.engine.set_exception(error)
            with _lock:
                if _open.get(key) is shared:
                    del _open[key]
            raise
    return SharedEngine(shared.engine.result(), lambda: _release(key, shared))


def _release(key: tuple[str, ...], shared: _Shared) -> None:
    with _lock:
        shared.users -= 1
        if shared.users:
            return
        if _open.get(key) is shared:
            del _open[key]
    shared.engine.result().close()


class SharedEngine:
    """One user's hold on an engine that others may use too; what `open_engine` returns."""

    def __init__(self, engine: Engine, release: Callable[[], None]) -> None:
        self._engine = engine
        self._release = weakref.finalize(self, release)
        self._release.atexit = True

    @property
    def backend(self) -> str:
        """`torch`, `vllm`, `http` or `fake`."""
        return self._engine.backend

    @property
    def task(self) -> Task:
        """`embed` or `rerank`."""
        return self._engine.task

    @property
    def model(self) -> str:
        """The model's name as it was asked for."""
        return self._engine.model

    @property
    def tokenizer(self) -> Tokenizer | None:
        """The model's tokenizer, if one is at hand."""
        return self._engine.tokenizer

    @property
    def max_tokens(self) -> int | None:
        """The longest prompt the model takes, in tokens, if known."""
        return self._engine.max_tokens

    @property
    def dimensions(self) -> int | None:
        """Width of a full embedding, if known."""
        return self._engine.dimensions

    @property
    def where(self) -> str | None:
        """Where it computes, in a few words, if the engine says so; never holds credentials."""
        return getattr(self._engine, "where", None)

    def fingerprint(self) -> Fingerprint:
        """What its numbers depend on; see `Fingerprint`."""
        return fingerprint_of(self._checked())

    def run(self, job: Job) -> Reply:
        """Run a job; see `Engine.run`."""
        return self._checked().run(job)

    async def arun(self, job: Job) -> Reply:
        """Run a job; see `Engine.arun`."""
        return await self._checked().arun(job)

    def close(self) -> None:
        """End this user's hold. The engine itself closes with its last user."""
        self._release()

    def __enter__(self) -> SharedEngine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _checked(self) -> Engine:
        if not self._release.alive:
            raise EngineClosed(f"this engine for {self.model} is closed; call open_engine again")
        return self._engine

    def __repr__(self) -> str:
        return repr(self._engine) if self._release.alive else f"<closed engine for {self.model}>"

    def _repr_html_(self) -> str:
        return facts_table("Engine" if self._release.alive else "Closed engine", engine_facts(self))
