"""Files and pipes in and out: records from lines, vectors and rankings into files."""

from __future__ import annotations
