"""Find a model by its name and read what its folder declares; of an adapter without its base, both."""

from __future__ import annotations

from qwen3_integrations.core.types import Task
from qwen3_integrations.models.catalog import Source
from qwen3_integrations.models.checkpoint import ModelFiles, read_model
from qwen3_integrations.models.hub.downloads import OnProgress
from qwen3_integrations.models.hub.resolution import resolve_model


def open_model(
    model: str, task: Task, *, source: Source = "auto", revision: str | None = None, progress: OnProgress | None = None
) -> ModelFiles:
    """Find a model on this machine, or download it, and read its description.

    Args:
        model, task, source, revision, progress: As in `resolve_model`. The base of an adapter is looked for in the same way.

    Raises:
        ModelNotFound: If the model, or the base of an adapter, could not be found or downloaded.
        ConfigError: As `resolve_model` and `read_model`.
    """
    folder = resolve_model(model, task, source=source, revision=revision, progress=progress)
    return read_model(folder, task, lambda base, commit: resolve_model(base, task, source=source, revision=commit, progress=progress))
