"""The errors of vLLM's processes while an engine starts: vLLM itself says in this process only that a process of it has failed."""

from __future__ import annotations

import copy
import json
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_OWN_LOGGING = ("VLLM_LOGGING_CONFIG_PATH", "VLLM_CONFIGURE_LOGGING", "VLLM_LOGGING_FORMATTER", "VLLM_LOG_FORMATTER")
"""Variables with which users configure vLLM's log themselves."""

_VARIABLE = "VLLM_LOGGING_CONFIG_PATH"
_MOST_BYTES = 100_000


class StartErrors(logging.Handler):
    """Writes the exceptions that are logged into a file, one line each, as long as the file exists.

    Args:
        path: The file.
    """

    def __init__(self, path: str) -> None:
        super().__init__(logging.ERROR)
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        """Write the exception of a record, if it has one."""
        error = record.exc_info[1] if record.exc_info else None
        if error is None:
            return
        said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        with suppress(OSError), os.fdopen(os.open(self._path, os.O_WRONLY | os.O_APPEND), "w", encoding="utf-8", errors="replace") as file:
            file.write(f"{type(error).__name__}: {said}\n" if said else f"{type(error).__name__}\n")


class Heard:
    """What the processes of vLLM have logged.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def cause(self) -> str | None:
        """The first exception of a process of vLLM, which led to the others; None if none was logged."""
        with suppress(OSError):
            lines = self._path.read_bytes()[:_MOST_BYTES].decode("utf-8", "replace").splitlines()
            return lines[0] if lines else None
        return None


@contextmanager
def heard_errors() -> Iterator[tuple[Heard, dict[str, str]]]:
    """Hear the exceptions that processes of vLLM log inside the block.

    Yields:
        What was heard, and the variables that processes which are started must have. A process that is forked has the handler of this
        process; one that is spawned reads it from a configuration of vLLM's log, unless the user has one.
    """
    logger = logging.getLogger("vllm")
    with tempfile.TemporaryDirectory(prefix="qwen3-vllm-") as folder:
        path = Path(folder) / "errors"
        path.touch(mode=0o600)
        handler = StartErrors(str(path))
        logger.addHandler(handler)
        variables: dict[str, str] = {}
        if not any(name in os.environ for name in _OWN_LOGGING) and (config := _config(path)) is not None:
            named = Path(folder) / "logging.json"
            named.write_text(config, encoding="utf-8")
            variables[_VARIABLE] = str(named)
        try:
            yield Heard(path), variables
        finally:
            for each in [each for each in logger.handlers if isinstance(each, StartErrors)]:  # vLLM may have applied the configuration
                logger.removeHandler(each)


def _config(path: Path) -> str | None:
    """VLLM's own configuration of its log, with the handler; None if it is not as known."""
    from vllm import logger

    try:
        config: dict[str, Any] = copy.deepcopy(logger.DEFAULT_LOGGING_CONFIG)
        config["handlers"]["qwen3"] = {"()": f"{__name__}.{StartErrors.__name__}", "path": str(path)}
        config["loggers"]["vllm"]["handlers"].append("qwen3")
        return json.dumps(config)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
