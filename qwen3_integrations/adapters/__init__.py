"""Shared by the LangChain and the LlamaIndex components. Internal."""

from __future__ import annotations

__all__: list[str] = []
