"""Diagnose one model: what its folder is, what was taken from it, and which engines of this machine can run it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwen3_integrations.core.extras import installed
from qwen3_integrations.core.types import Task
from qwen3_integrations.diagnosis.hardware import visible_gpus
from qwen3_integrations.models.catalog import CHECKPOINTS, Source
from qwen3_integrations.models.checkpoint import ModelFiles
from qwen3_integrations.models.description import Fact, describe_folder
from qwen3_integrations.models.hub.resolution import local_model
from qwen3_integrations.models.torch_support import torch_refusals
from qwen3_integrations.models.vllm_support import vllm_refusals
from qwen3_integrations.serving.installed import find_server


@dataclass(frozen=True, slots=True)
class EngineFinding:
    """Whether an engine of this machine can run a model.

    Attributes:
        engine: Its name.
        reason: Why not; None if it can.
    """

    engine: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class ModelDiagnosis:
    """A model on this machine.

    Attributes:
        model: The name that was asked for.
        folder: Its folder.
        task: What it was read for.
        facts: What it is, and what was taken from which file.
        engines: Which engines can run it.
    """

    model: str
    folder: Path
    task: Task
    facts: tuple[Fact, ...]
    engines: tuple[EngineFinding, ...]

    def to_dict(self) -> dict[str, Any]:
        """The diagnosis as plain values."""
        return {
            "model": self.model,
            "folder": str(self.folder),
            "task": self.task,
            "facts": [{"name": fact.name, "value": fact.value, "source": fact.source} for fact in self.facts],
            "engines": [{"engine": each.engine, "runs": each.reason is None, "reason": each.reason} for each in self.engines],
        }


def diagnose_model(model: str | Path, task: Task | None = None, *, source: Source = "auto", revision: str | None = None) -> ModelDiagnosis:
    """Read a model's folder with all checks that an engine makes before it starts. Nothing is downloaded or loaded.

    Args:
        model: A folder, a name on a hub that is in a cache here, or `qwen3-tiny-demo`.
        task: What to read it for; None for what the model's name or files state, or else embedding.
        source, revision: As in `find_model`.

    Raises:
        ModelNotFound: If the model is not on this machine, or not complete.
        ConfigError: If a file is damaged, or declares what this package can't compute; names file and field.
    """
    name = str(model)
    known = CHECKPOINTS.get(name)
    wanted = task or (known.task if known else None)
    found = local_model(model, wanted or "embed", source=source, revision=revision)
    described = describe_folder(found, wanted, lambda base, commit: local_model(base, wanted or "embed", source=source, revision=commit))
    engines = (EngineFinding("torch", _torch(described.files)), EngineFinding("vllm", _vllm(described.files, described.task)))
    return ModelDiagnosis(name, found, described.task, described.facts, engines)


def _torch(files: ModelFiles) -> str | None:
    if not installed("torch"):
        return "PyTorch is not installed: pip install 'qwen3-integrations[torch]'"
    return torch_refusals(files)


def _vllm(files: ModelFiles, task: Task) -> str | None:
    if not installed("vllm"):
        return "vLLM is not installed: pip install 'qwen3-integrations[vllm]'"
    if not find_server("vllm").is_cpu_build and not visible_gpus():
        return "this build of vLLM needs a GPU, and none is visible"
    return vllm_refusals(files, task)
