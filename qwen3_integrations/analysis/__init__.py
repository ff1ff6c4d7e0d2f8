"""Metrics of rankings and arithmetic on embeddings: pure functions and values."""

from __future__ import annotations
