"""Files and pipes in and out: records from lines, vectors and rankings into files. Internal: use the command line."""

from __future__ import annotations

__all__: list[str] = []
