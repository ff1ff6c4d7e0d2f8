"""The extension of JupyterLab and Notebook 7: servers without a kernel, and rankings that saved notebooks and files show.

Jupyter finds the two functions here; they are not for users. The TypeScript source is beside this module, its build in `prebuilt/`.
"""

from __future__ import annotations

from typing import Any

__all__: list[str] = []


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    return [{"src": "prebuilt", "dest": "qwen3-integrations"}]


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "qwen3_integrations.labextension"}]


def _load_jupyter_server_extension(server_app: Any) -> None:
    from qwen3_integrations.labextension.handlers import handlers

    web_app = server_app.web_app
    web_app.add_handlers(".*$", handlers(web_app.settings["base_url"]))
