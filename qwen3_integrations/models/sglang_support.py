"""What SGLang computes of prompts and folders.

Source: SGLang 0.5.9: `managers/tokenizer_manager.py` and `managers/tp_worker.py` (lengths), and its answers on a CPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from qwen3_integrations.core.types import Task

RESERVED_TOKENS: Mapping[Task, int] = MappingProxyType({"embed": 1, "rerank": 7})
"""Tokens of the context that no prompt may fill: the longest prompt of an embedding server is one token shorter than its context, that of
a server that generates (and so scores) seven tokens shorter."""
