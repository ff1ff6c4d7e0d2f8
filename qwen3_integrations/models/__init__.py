"""All questions about a model: the catalog, a folder of weights, memory, devices and hubs. Internal, except for `models.hub`."""

from __future__ import annotations

__all__: list[str] = []
