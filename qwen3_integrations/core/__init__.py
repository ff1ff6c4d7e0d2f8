"""Texts to prompts, prompts to rows, rows to results: no framework is known here. Public in `qwen3_integrations` and `.engines`."""

from __future__ import annotations

__all__: list[str] = []
