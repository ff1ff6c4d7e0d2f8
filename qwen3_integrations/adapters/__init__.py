"""What the LangChain and the LlamaIndex components share."""

from __future__ import annotations
