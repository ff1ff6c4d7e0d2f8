"""From a model's name to a folder on this machine: a path, the caches of both hubs, then a hub."""

from __future__ import annotations

from qwen3_integrations.models.hub.downloads import DownloadProgress
from qwen3_integrations.models.hub.resolution import find_model, resolve_model

__all__ = ["DownloadProgress", "find_model", "resolve_model"]
