"""Find a model's folder by its name: a path, the caches of both hubs, then a download."""

from __future__ import annotations

from qwen3_integrations.models.hub.downloads import DownloadProgress
from qwen3_integrations.models.hub.opening import open_model
from qwen3_integrations.models.hub.resolution import find_model, resolve_model

__all__ = ["DownloadProgress", "find_model", "open_model", "resolve_model"]
