"""Our own HTTP server: any engine behind the APIs of OpenAI, Cohere, Jina, Text Embeddings Inference and vLLM.

Needs the extra `server`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwen3_integrations.core.lazy import lazy_names

if TYPE_CHECKING:
    from qwen3_integrations.server.app import create_app
    from qwen3_integrations.server.keys import KeyFile
    from qwen3_integrations.server.settings import ServerSettings

__all__ = ["KeyFile", "ServerSettings", "create_app"]

__getattr__ = lazy_names(__name__, {"app": ("create_app",), "keys": ("KeyFile",), "settings": ("ServerSettings",)})
