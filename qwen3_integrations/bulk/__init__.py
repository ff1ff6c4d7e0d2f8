"""Bulk jobs over files and pipes: read records from lines, write vectors and rankings."""

from __future__ import annotations
