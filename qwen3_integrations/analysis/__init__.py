"""Metrics of rankings and arithmetic on embeddings: pure functions and values. Public as `metrics` and `vectors`."""

from __future__ import annotations

__all__: list[str] = []
