"""Texts to prompts, prompts to rows, rows to results: the framework-free core."""

from __future__ import annotations
