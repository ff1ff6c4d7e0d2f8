"""From settings to an open engine: which backend, with which options, and shared within the process."""

from __future__ import annotations

import inspect
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePath
from typing import Any, Literal, get_args

from qwen3_integrations.core.engine import Engine
from qwen3_integrations.core.extras import installed
from qwen3_integrations.core.types import Task
from qwen3_integrations.core.validation import check_choice, check_options
from qwen3_integrations.engines.http.address import has_credentials, shown_url
from qwen3_integrations.engines.sharing import SharedEngine, share
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.catalog import checked_model

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
        ModelNotFound: If the model can't be found or downloaded.
    """
    check_choice(task, get_args(Task), "task")
    check_choice(backend, get_args(Backend), "backend")
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
    return share((chosen, task, name, _frozen(options)), lambda: make(task, name, **options))


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
            reason = f"names a server, but backend={asked!r} runs in this process"
            raise ConfigError(reason, option="base_url", advice="Leave one of them out")
        return asked, "named by the caller"
    if base_url:
        return "http", f"a server was named: {shown_url(base_url)}"
    if asked == "http":
        variables = " / ".join(URL_VARIABLES.values())
        raise ConfigError("is needed for backend='http'", option="base_url", advice=f"Pass it, or set {variables} in the environment")
    if vllm and cuda():
        return "vllm", "vLLM is installed and there is a CUDA device"
    if torch:
        return "torch", "PyTorch is installed" + ("" if vllm else " and vLLM is not") + (", no CUDA device" if vllm else "")
    raise ConfigError(
        "no backend can run the model here: no server is named, and neither PyTorch nor vLLM with a CUDA device was found",
        advice="Pass base_url for a server (vLLM, SGLang, any OpenAI-compatible one), or install an engine: "
        "pip install 'qwen3-integrations[torch]' for this machine's CPU or GPU, pip install 'qwen3-integrations[vllm]' for a CUDA GPU",
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
