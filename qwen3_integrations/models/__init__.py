"""Every question about a model has its answer here: the catalog, a folder of weights, memory, devices and hubs."""

from __future__ import annotations
