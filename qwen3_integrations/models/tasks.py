"""The task of a model: what the files of its folder say, or else its name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwen3_integrations.core.types import Task
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.config import CLASSIFIER
from qwen3_integrations.models.conventions import PROMPTS
from qwen3_integrations.models.folders import CONFIG, MODULES
from qwen3_integrations.models.json_files import file_exists, read_json, read_optional_object

_WORDS: Mapping[Task, str] = {"embed": "an embedding model", "rerank": "a reranker"}
_NAMES: Mapping[Task, re.Pattern[str]] = {
    "embed": re.compile(r"(?<![a-z])embed(?:ding|der)(?![a-z])", re.IGNORECASE),
    "rerank": re.compile(r"(?<![a-z])rerank(?:er|ing)(?![a-z])", re.IGNORECASE),
}
_MODEL_TYPES: Mapping[object, Task] = {"SentenceTransformer": "embed", "CrossEncoder": "rerank"}


@dataclass(frozen=True, slots=True)
class Evidence:
    """What says a model's task.

    Attributes:
        task: The task.
        reason: File and field, or the name; continues "because".
    """

    task: Task
    reason: str


def task_evidence(folder: Path, config: Mapping[str, Any]) -> list[Evidence]:
    """What a folder says about the task, the strongest first: the files, or else its name.

    Args:
        folder: The model's folder.
        config: The content of its `config.json`.

    Raises:
        ConfigError: If one of the files can't be read.
    """
    found = list(_in_files(folder, config))
    return found or list(_in_name(folder))


def check_task(folder: Path, config: Mapping[str, Any], task: Task) -> None:
    """Refuse a model of the other task.

    Args:
        folder, config: As in `task_evidence`.
        task: What the model is opened for.

    Raises:
        ConfigError: Names what says the task.
    """
    other = next((each for each in task_evidence(folder, config) if each.task != task), None)
    if other is not None:
        by_name = "; if the name is wrong, rename the folder" if other.reason.startswith("its name") else ""
        raise ConfigError(f"{folder} contains {_WORDS[other.task]} ({other.reason})", advice=f"Open it with task {other.task}{by_name}")


def _in_files(folder: Path, config: Mapping[str, Any]) -> Iterator[Evidence]:
    architectures = config.get("architectures")
    if isinstance(architectures, list) and CLASSIFIER in architectures:
        yield Evidence("rerank", f"architectures in {CONFIG} is {CLASSIFIER}")
    elif isinstance(labels := config.get("id2label"), Mapping) and {str(name).casefold() for name in labels.values()} & {"yes", "no"}:
        yield Evidence("rerank", f"id2label in {CONFIG} has the labels {', '.join(map(repr, labels.values()))}")
    declared = _module_types(folder)
    if any(kind.rpartition(".")[2] == "Pooling" for kind in declared):
        yield Evidence("embed", f"{MODULES} lists a Pooling")
    elif any(".cross_encoder." in kind or kind.rpartition(".")[2] == "LogitScore" for kind in declared):
        yield Evidence("rerank", f"{MODULES} lists a module for rerankers")
    elif (folder / "1_Pooling").is_dir():
        yield Evidence("embed", "it has a pooling config, 1_Pooling")
    model_type = read_optional_object(folder / PROMPTS).get("model_type")
    if isinstance(model_type, str) and model_type in _MODEL_TYPES:
        yield Evidence(_MODEL_TYPES[model_type], f"model_type in {PROMPTS} is {model_type}")


def _module_types(folder: Path) -> list[str]:
    listed = read_json(folder / MODULES) if file_exists(folder / MODULES) else []
    return [str(module.get("type")) for module in listed if isinstance(module, dict)] if isinstance(listed, list) else []


def _in_name(folder: Path) -> Iterator[Evidence]:
    """The name of a folder, or of the repository whose commit it is in a hub's cache; none if it names both tasks."""
    path = folder.absolute()
    name = path.parents[1].name if path.parent.name == "snapshots" and len(path.parents) > 1 else path.name
    tasks = [task for task, pattern in _NAMES.items() if pattern.search(name)]
    if len(tasks) == 1:
        yield Evidence(tasks[0], f"its name is {name!r}")
