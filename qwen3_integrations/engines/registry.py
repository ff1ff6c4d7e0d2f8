"""Opens engines: choice of the backend, check of the options, and sharing within the process."""

from __future__ import annotations

import inspect
import json
import logging
import os
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import PurePath
from typing import Any, Literal, TypeAlias, get_args

from qwen3_integrations.core.engine import Engine
from qwen3_integrations.core.extras import installed
from qwen3_integrations.core.types import Task
from qwen3_integrations.core.validation import check_choice, check_options
from qwen3_integrations.engines.http.address import has_credentials, shown_url
from qwen3_integrations.engines.secrets import KEY_VARIABLE
from qwen3_integrations.engines.sharing import Opening, SharedEngine, share
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.catalog import checked_model
from qwen3_integrations.models.hub import open_model
from qwen3_integrations.models.vllm_support import vllm_refusals

log = logging.getLogger("qwen3_integrations")

Backend: TypeAlias = Literal["auto", "vllm", "torch", "http", "fake"] | str
"""`auto`, one of this package's engines, or the name of an entry point in the group `qwen3_integrations.engines`."""

GROUP = "qwen3_integrations.engines"
"""The entry-point group by which other packages register engines: `name = "module:Class"`."""

URL_VARIABLES: Mapping[Task, str] = {"embed": "QWEN3_EMBEDDING_URL", "rerank": "QWEN3_RERANKER_URL"}


@dataclass(frozen=True, slots=True)
class Machine:
    """The facts by which `auto` chooses.

    Attributes:
        base_url: A server's address, if there is one.
        vllm, torch: Whether these are installed.
        cuda: Whether there is a CUDA device; called only if the choice depends on it.
        vllm_refusal: Why vLLM can't run the model, None where it can; called only if the choice depends on it.
    """

    base_url: str | None
    vllm: bool
    torch: bool
    cuda: Callable[[], bool]
    vllm_refusal: Callable[[], str | None] = lambda: None

    @property
    def refusal(self) -> str | None:
        """Why vLLM, which is here with a CUDA device, can't run the model; None where it can, and where it is not here."""
        return self.vllm_refusal() if self.vllm and self.cuda() else None


@dataclass(frozen=True, slots=True)
class Row:
    """One engine of this package.

    Attributes:
        path: The class, as `module:Class` within `qwen3_integrations.engines`.
        extra: The pip extra that the engine needs; None for none.
        auto: Returns the reason for which `auto` may choose the engine; None if it may not. `auto` takes the first row with a reason.
        has_url: Whether the engine uses a server at `base_url`.
    """

    path: str
    extra: str | None
    auto: Callable[[Machine], str | None]
    has_url: bool = False

    def load(self) -> Callable[..., Engine]:
        """The class."""
        made: Callable[..., Engine] = pkgutil.resolve_name(f"{__package__}.{self.path}")
        return made


def _http(machine: Machine) -> str | None:
    return f"a server was named: {shown_url(machine.base_url)}" if machine.base_url else None


def _vllm(machine: Machine) -> str | None:
    return "vLLM is installed and there is a CUDA device" if machine.vllm and machine.cuda() and not machine.refusal else None


def _torch(machine: Machine) -> str | None:
    if not machine.torch:
        return None
    if refusal := machine.refusal:
        return f"vLLM can't run this model: {refusal}"
    return "PyTorch is installed" + (", no CUDA device" if machine.vllm else " and vLLM is not")


def _never(_: Machine) -> None:
    return None


ROWS: Mapping[str, Row] = {
    "http": Row("http.engine:HttpEngine", None, _http, has_url=True),
    "vllm": Row("vllm.engine:VllmEngine", "vllm", _vllm),
    "torch": Row("torch.engine:TorchEngine", "torch", _torch),
    "fake": Row("fake:FakeEngine", None, _never),
}
"""This package's engines, one row each, in the order in which `auto` tries them."""


def open_engine(
    task: Task,
    model: str | os.PathLike[str] | None = None,
    *,
    base_url: str | None = None,
    api_key: str | None = None,
    backend: Backend = "auto",
    **engine_options: Any,
) -> SharedEngine:
    """Open an engine, or share the engine that is open in this process with the same settings.

    A shared engine closes with its last user. A user ends with `close()`, or when no reference to it is left.

    Args:
        task: `embed` or `rerank`.
        model: A folder (a `Path` always is one), a hub's name, or `qwen3-tiny-demo`; None for the task's 0.6B model.
        base_url: A server's address; else `QWEN3_EMBEDDING_URL` / `QWEN3_RERANKER_URL` from the environment.
        api_key: The server's key; else `QWEN3_API_KEY`, unless the address holds user and password.
        backend: `auto` chooses http if there is an address, else vllm if there is CUDA and vLLM computes what the model's folder declares,
            else torch. It never chooses `fake` or an engine of another package.
        engine_options: Options of the engine; see `TorchEngine`, `VllmEngine`, `HttpEngine`, `FakeEngine`.

    Returns:
        A `SharedEngine`: the engine with all of its attributes, for one user.

    Raises:
        ConfigError: For an unknown task, backend or option (with a suggestion), or a model of the other task; for a registered
            engine that can't be loaded or is not an `Engine`.
        MissingExtra: If the backend is not installed; the message has the pip command.
        ModelNotFound: If the model can't be found or downloaded.
    """
    check_choice(task, get_args(Task), "task")
    checked_backend(backend)
    name = checked_model(model, task)
    url, key = server_of(task, backend, base_url=base_url, api_key=api_key)
    places: dict[str, Any] = {option: engine_options[option] for option in ("source", "revision") if option in engine_options}
    chosen, reason = choose_backend(
        backend,
        url,
        vllm=installed("vllm"),
        torch=installed("torch"),
        cuda=_has_cuda,
        vllm_refusal=lambda: _vllm_refusal(task, name, places),
    )
    log.info("%s for %s runs on %s: %s", name, task, chosen, reason)
    make = _maker(chosen)
    known = _options_of(make)
    options = dict(engine_options)
    if url and "base_url" not in known:
        raise _url_without_use(chosen)
    if chosen == "http" or url:
        options |= {"base_url": url} | ({"api_key": key} if "api_key" in known else {})
    check_options(options, known, f"the {chosen} engine")
    opening = Opening(
        open_engine, {"task": task, "model": name, "base_url": base_url, "api_key": api_key, "backend": backend}, engine_options
    )
    return share((chosen, task, name, _frozen(options)), lambda: _made(make, chosen, task, name, options), opening)


def server_of(task: Task, backend: Backend, *, base_url: str | None, api_key: str | None) -> tuple[str | None, str | None]:
    """The address and the key of the server: those that were passed, else those of the environment.

    Args:
        task: `embed` or `rerank`.
        backend: Backends in this process read no address from the environment.
        base_url, api_key: As passed to `open_engine`.

    Returns:
        Address and key; None for none. An address with user and password needs no key: both would be the same header.
    """
    url = base_url or (os.environ.get(URL_VARIABLES[task]) if backend in ("auto", "http") else None)
    return url, api_key or (None if has_credentials(url or "") else os.environ.get(KEY_VARIABLE))


def checked_backend(backend: str) -> str:
    """The name, after the check that it is `auto` or the name of a registered engine.

    Raises:
        ConfigError: If it is neither; the message lists the registered engines.
    """
    known = isinstance(backend, str) and (backend == "auto" or backend in ROWS or backend in _registered())
    if not known:
        try:
            check_choice(backend, ("auto", *backends()), "backend")
        except ConfigError as error:
            raise error.replace(advice=f"Other packages add theirs by an entry point in the group {GROUP}") from None
    return backend


def backends() -> tuple[str, ...]:
    """The names of all engines: first those of this package, then those of other packages, sorted."""
    return (*ROWS, *sorted(_registered()))


def choose_backend(
    wanted: Backend,
    base_url: str | None,
    *,
    vllm: bool,
    torch: bool,
    cuda: Callable[[], bool],
    vllm_refusal: Callable[[], str | None] = lambda: None,
) -> tuple[str, str]:
    """Choose an engine: a pure function of the settings and of the machine.

    Args:
        wanted: The caller's backend, checked.
        base_url: A server's address, if there is one.
        vllm, torch: Whether these are installed.
        cuda: Whether there is a CUDA device; called only if the choice depends on it.
        vllm_refusal: Why vLLM can't run the model, None where it can; called only if the choice depends on it.

    Returns:
        The engine's name, and the reason.

    Raises:
        ConfigError: If the backend and the address contradict each other, or no engine can run here.
    """
    if wanted != "auto":
        row = ROWS.get(wanted)
        if row and row.has_url and not base_url:
            variables = " / ".join(URL_VARIABLES.values())
            advice = f"Pass it, or set {variables} in the environment"
            raise ConfigError(f"is needed for backend={wanted!r}", option="base_url", advice=advice)
        if row and not row.has_url and base_url:
            raise _url_without_use(wanted)
        return wanted, (_http(Machine(base_url, vllm, torch, cuda)) if row and row.has_url else None) or "named by the caller"
    machine = Machine(base_url, vllm, torch, cuda, cache(vllm_refusal))
    for name, row in ROWS.items():
        if reason := row.auto(machine):
            return name, reason
    if refusal := machine.refusal:
        advice = "Install PyTorch, which runs it: pip install 'qwen3-integrations[torch]'"
        raise ConfigError(f"no backend can run the model here: {refusal}", advice=advice)
    raise ConfigError(
        "no backend can run the model here: no server is named, and neither PyTorch nor vLLM with a CUDA device was found",
        advice="Pass base_url for a server (vLLM, SGLang, any OpenAI-compatible one), or install an engine: "
        "pip install 'qwen3-integrations[torch]' for this machine's CPU or GPU, pip install 'qwen3-integrations[vllm]' for a CUDA GPU",
    )


def _vllm_refusal(task: Task, model: str, places: Mapping[str, Any]) -> str | None:
    """Why vLLM can't run a model; it is downloaded if it is not here, as each engine would do next."""
    return vllm_refusals(open_model(model, task, **places), task)


def _url_without_use(backend: str) -> ConfigError:
    reason = f"names a server, but backend={backend!r} runs in this process"
    return ConfigError(reason, option="base_url", advice="Leave one of them out")


def _registered() -> dict[str, EntryPoint]:
    """Engines of other packages, by name. They cannot replace the engines of this package."""
    return {point.name: point for point in entry_points(group=GROUP) if point.name not in ROWS and point.name != "auto"}


def _maker(backend: str) -> Callable[..., Engine]:
    if backend in ROWS:
        return ROWS[backend].load()
    point = _registered()[backend]
    try:
        made: Callable[..., Engine] = point.load()
    except Exception as error:  # importing another package may raise anything
        raise ConfigError(f"the engine {backend!r} of {_owner(point)} can't be loaded from {point.value}: {error}") from error
    if not callable(made):
        raise ConfigError(f"the engine {backend!r} of {_owner(point)} is not a class or a function: {point.value}")
    return made


def _made(make: Callable[..., Engine], backend: str, task: Task, model: str, options: Mapping[str, Any]) -> Engine:
    """Open an engine, and check that it has the protocol."""
    engine = make(task, model, **options)
    if not isinstance(engine, Engine):
        names = [name for name in dir(Engine) if not name.startswith("_") and not hasattr(engine, name)]
        raise ConfigError(f"the engine {backend!r} is not an Engine: its {type(engine).__qualname__} lacks {', '.join(names)}")
    return engine


def _owner(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "another package"


def _options_of(make: Callable[..., Engine]) -> list[str]:
    """The names of the constructor's keyword arguments, and those of its `option_names` (options of an embedded engine)."""
    parameters = inspect.signature(make).parameters.values()
    own = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    more: Callable[[], Iterable[str]] | None = getattr(make, "option_names", None)
    return own + list(more() if more else ())


def _has_cuda() -> bool:
    if not installed("torch"):
        return False
    import torch

    # Use NVML: otherwise PyTorch initialises CUDA in this process, and then vLLM cannot fork its worker process.
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
    """Options as a key: equal options give equal keys. Objects are compared by identity, paths by their text."""

    def plain(value: object) -> object:
        if isinstance(value, Mapping):
            return dict(value)
        return str(value) if isinstance(value, PurePath) else f"{type(value).__qualname__}@{id(value)}"

    return json.dumps(options, sort_keys=True, default=plain)
