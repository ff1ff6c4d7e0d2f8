"""Bulk jobs over files and pipes: read records from lines, write vectors and rankings. Internal."""

from __future__ import annotations

__all__: list[str] = []
