"""A widget's real JavaScript in an empty page, with a small replacement for the kernel's model."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from qwen3_integrations.notebook.widget import assets

LOCAL = ("127.0.0.1", "localhost")

THEMES = {
    "light": {},
    # JupyterLab's dark theme, as far as the widgets read it.
    "dark": {
        "--jp-layout-color0": "#111111",
        "--jp-layout-color1": "#212121",
        "--jp-layout-color2": "#424242",
        "--jp-ui-font-color0": "rgba(255, 255, 255, 1)",
        "--jp-ui-font-color2": "rgba(255, 255, 255, 0.7)",
        "--jp-ui-inverse-font-color1": "rgba(0, 0, 0, 0.8)",
        "--jp-border-color2": "#616161",
        "--jp-brand-color1": "#2196f3",
        "--jp-success-color1": "#66bb6a",
        "--jp-error-color1": "#ef5350",
        "--jp-warn-color1": "#ffa726",
    },
}

MODEL = """
class Model {
  constructor(state) { this.state = state; this.listeners = {}; this.sent = []; this.saved = {}; this.changed = new Set(); }
  get(name) { return this.state[name]; }
  set(name, value) {
    if (typeof name === "object") { for (const [key, each] of Object.entries(name)) this.set(key, each); return; }
    if (this.state[name] === value) return;
    this.state[name] = value; this.changed.add(name); this.fire(`change:${name}`, value);
  }
  save_changes() { for (const name of this.changed) this.saved[name] = this.state[name]; this.changed.clear(); }
  send(content) { this.sent.push(content); }
  on(event, call) { for (const name of event.split(" ")) (this.listeners[name] ??= []).push(call); }
  off(event, call) {
    for (const name of (event ?? "").split(" ")) this.listeners[name] = (this.listeners[name] ?? []).filter((one) => one !== call);
  }
  fire(event, ...words) { for (const call of [...(this.listeners[event] ?? [])]) call(...words); }
}
"""


def blocked(context: Any, left: list[str]) -> None:
    """Refuse and record every request that leaves this machine."""

    def guard(route: Any) -> None:
        url = urlsplit(route.request.url)
        if url.scheme in ("data", "blob", "about") or url.hostname in LOCAL:
            route.continue_()
        else:
            left.append(route.request.url)
            route.abort()

    context.route("**/*", guard)


class Page:
    """A mounted widget. `page` is Playwright's; `state` sets traits as Python would, `sent` has the messages for Python."""

    def __init__(self, page: Any, name: str, state: dict[str, Any], theme: str) -> None:
        script, style = assets(name)
        colours = "".join(f"{variable}: {value};" for variable, value in THEMES[theme].items())
        body = "#111111" if theme == "dark" else "#ffffff"
        page.set_content(
            f"<!doctype html><html lang='en'><head><style>:root {{ {colours} }} body {{ background: {body}; margin: 12px; }}</style>"
            f"<style>{style}</style></head><body><div id='root'></div></body></html>"
        )
        self.page = page
        page.evaluate(
            """async ([code, script, state]) => {
                const Model = eval(`(() => { ${code}; return Model; })()`);
                window.model = new Model(state);
                const module = await import(URL.createObjectURL(new Blob([script], { type: "text/javascript" })));
                const widget = typeof module.default === "function" ? await module.default() : module.default;
                await widget.initialize?.({ model });
                window.cleanup = await widget.render({ model, el: document.getElementById("root") });
            }""",
            [MODEL, script, json.loads(json.dumps(state))],
        )

    def state(self, **traits: Any) -> None:
        """Change traits, as if they came from Python."""
        self.page.evaluate("(traits) => { for (const [name, value] of Object.entries(traits)) model.set(name, value); }", traits)

    @property
    def sent(self) -> list[dict[str, Any]]:
        """Messages sent to Python so far."""
        return self.page.evaluate("model.sent")

    @property
    def saved(self) -> dict[str, Any]:
        """Traits that were set in the browser and sent to Python."""
        return self.page.evaluate("model.saved")

    def get(self, name: str) -> Any:
        """The browser's value of a trait."""
        return self.page.evaluate("(name) => model.get(name)", name)
