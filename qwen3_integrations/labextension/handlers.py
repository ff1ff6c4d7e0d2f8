"""HTTP routes of the Jupyter server under `qwen3/`. Each needs Jupyter's login; no list and no log of requests has a key."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from functools import cache, wraps
from typing import Any, TypeVar

import tornado.web
from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import ensure_async, url_path_join

from qwen3_integrations.errors import ConfigError, Qwen3Error
from qwen3_integrations.labextension.kernels import KernelPython, kernel_pythons

T = TypeVar("T")


@cache
def _shared() -> Any:
    """The panels and the overview of this process; made at the first request, because the widgets' packages take time to import."""
    from qwen3_integrations.labextension.overview import Overview
    from qwen3_integrations.labextension.panels import Panels

    panels = Panels()
    return panels, Overview(panels)


def _answered(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[None]]:
    """Send a method's result as JSON; an error of this package is status 400 with its message."""

    @wraps(method)
    async def answer(self: _Handler, *words: str) -> None:
        self.set_header("Cache-Control", "no-store")
        try:
            result = await method(self, *words)
        except (Qwen3Error, TypeError, ValueError) as error:
            self.set_status(400)
            result = {"message": str(error)}
        self.finish(json.dumps(result))

    return answer


class _Handler(APIHandler):
    auth_resource = "qwen3"

    @property
    def body(self) -> dict[str, Any]:
        body = self.get_json_body()
        if body is not None and not isinstance(body, dict):
            raise ConfigError("the body must be a JSON object")
        return body or {}

    async def pythons(self, first: str | None) -> tuple[KernelPython, ...]:
        specs = await ensure_async(self.kernel_spec_manager.get_all_specs())
        return kernel_pythons(specs, first)


class Servers(_Handler):
    """The running servers, the starts, and the devices."""

    @tornado.web.authenticated
    @authorized
    @_answered
    async def get(self) -> Any:
        """List them."""
        _, overview = await asyncio.to_thread(_shared)
        gateway = getattr(self.serverapp, "gateway_config", None)
        remote = str(gateway.url) if gateway is not None and gateway.gateway_enabled else ""
        return await asyncio.to_thread(overview.now) | {"remote_kernels": remote}


class OneServer(_Handler):
    """A running server."""

    @tornado.web.authenticated
    @authorized
    @_answered
    async def delete(self, name: str) -> Any:
        """Stop it."""
        panels, overview = await asyncio.to_thread(_shared)
        panel = panels.of(name)
        if panel is not None:
            panel.stop()
        else:
            from qwen3_integrations.serving import attach

            await asyncio.to_thread(lambda: attach(name).stop())
        overview.forget()
        return {}


class Code(_Handler):
    """Code for a notebook's cell."""

    @tornado.web.authenticated
    @authorized
    @_answered
    async def get(self, name: str) -> Any:
        """By client."""
        from qwen3_integrations.labextension.code import notebook_code
        from qwen3_integrations.serving import attach

        return await asyncio.to_thread(lambda: notebook_code(attach(name)))


class Panels(_Handler):
    """The panels."""

    @tornado.web.authenticated
    @authorized
    @_answered
    async def post(self) -> Any:
        """Open one: of a running server, or with a form for a new one."""
        body = self.body
        kernel = body.get("kernel")
        pythons = await self.pythons(kernel)
        panels, _ = await asyncio.to_thread(_shared)
        words = {"server": body.get("server"), "task": body.get("task", "embed"), "pythons": pythons, "kernel": kernel}
        return {"panel": await asyncio.to_thread(lambda: panels.open(**words))}


class OnePanel(_Handler):
    """A panel."""

    @tornado.web.authenticated
    @authorized
    @_answered
    async def get(self, name: str) -> Any:
        """The traits that changed since a revision."""
        panels, _ = await asyncio.to_thread(_shared)
        panel = panels.get(name)
        # Another page may have closed it, or Jupyter was started again: that is no error.
        return {"closed": True} if panel is None else panel.changes(int(self.get_argument("since", "0")))

    @tornado.web.authenticated
    @authorized
    @_answered
    async def delete(self, name: str) -> Any:
        """Close it."""
        panels, _ = _shared()
        await asyncio.to_thread(panels.close, name)
        return {}


class Actions(_Handler):
    """What a person does in a panel."""

    @tornado.web.authenticated
    @authorized
    @_answered
    async def post(self, name: str) -> Any:
        """Do it, and answer with the messages for this page."""
        panels, overview = await asyncio.to_thread(_shared)
        panel, body = panels.get(name), self.body
        if panel is None:
            return {"closed": True}
        replies = await asyncio.to_thread(panel.act, body)
        overview.forget()
        return {"replies": replies}


def handlers(base_url: str) -> list[tuple[str, type[APIHandler]]]:
    """The routes below Jupyter's base URL."""
    name = r"([\w.-]+)"
    routes: list[tuple[str, type[APIHandler]]] = [
        ("servers", Servers),
        (rf"servers/{name}", OneServer),
        (rf"servers/{name}/code", Code),
        ("panels", Panels),
        (rf"panels/{name}", OnePanel),
        (rf"panels/{name}/actions", Actions),
    ]
    return [(url_path_join(base_url, "qwen3", route), handler) for route, handler in routes]
