"""A real Jupyter server on this machine (JupyterLab, Notebook 7, Voila), with a token and without network access."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat

from qwen3_integrations.serving.records import FOLDER_VARIABLE
from tests.server.launch import free_port

CONFIG = """
c.ServerApp.ip = "127.0.0.1"
c.ServerApp.open_browser = False
c.ServerApp.allow_root = True
c.ServerApp.quit_button = False
c.LabApp.news_url = None
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
c.LabApp.extension_manager = "readonly"
c.LabApp.expose_app_in_browser = True
c.JupyterNotebookApp.expose_app_in_browser = True
"""

SETTINGS = {
    "notification": {"fetchNews": "false", "checkForUpdates": False},
    "themes": {"theme": "JupyterLab Light", "adaptive-theme": False},
}

DIRECTORIES = (
    *("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR"),
    *("IPYTHONDIR", FOLDER_VARIABLE),
)
READY_S = 120.0
ROOT = Path(__file__).parent.parent.parent


class Lab:
    """A JupyterLab that answers. `root` is its folder, `state` where its kernels keep records of servers."""

    def __init__(self, url: str, token: str, root: Path, state: Path) -> None:
        self._url, self._token, self.root, self.state = url, token, root, state

    def write(self, name: str, cells: Sequence[str]) -> None:
        """Write a notebook."""
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in cells])
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, self.root / f"{name}.ipynb")

    def open(self, page: Any, name: str, cells: Sequence[str] | None, app: str = "jupyterlab") -> LabPage:
        """Write a notebook, open it in JupyterLab or `notebook7`, and wait until its kernel is ready.

        Without cells, the notebook that is there is opened again.
        """
        if cells is not None:
            self.write(name, cells)
        path = f"notebooks/{name}.ipynb" if app == "notebook7" else f"doc/tree/{name}.ipynb"
        page.goto(f"{self._url}/{path}?token={self._token}")
        page.wait_for_function(
            "window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'", timeout=60_000
        )
        return LabPage(page, f"{name}.ipynb")

    def voila(self, page: Any, name: str, cells: Sequence[str], theme: str = "light") -> None:
        """Write a notebook and show it as a page of Voila's, which runs its cells on a kernel of its own."""
        self.write(name, cells)
        page.goto(f"{self._url}/voila/render/{name}.ipynb?token={self._token}&theme={theme}", timeout=90_000)


class LabPage:
    """A notebook in JupyterLab. `page` is Playwright's, `name` the file's."""

    def __init__(self, page: Any, name: str) -> None:
        self.page, self.name = page, name

    def command(self, name: str, **words: Any) -> None:
        """Run one of JupyterLab's commands, and wait for its end."""
        self.page.evaluate("([name, words]) => window.jupyterapp.commands.execute(name, words)", [name, words])

    def begin(self, name: str) -> None:
        """Run one of JupyterLab's commands that shows a dialog before it ends."""
        self.page.evaluate("(name) => { window.jupyterapp.commands.execute(name); }", name)

    def theme(self, name: str) -> None:
        """Choose JupyterLab's theme."""
        self.command("apputils:change-theme", theme=name)
        self.page.wait_for_function("(theme) => document.body.dataset.jpThemeName === theme", arg=name)

    def run_all(self) -> None:
        """Run all cells and wait for their end."""
        self.command("notebook:run-all-cells")

    def python(self, code: str) -> str:
        """The output of code in the notebook's kernel, after the running cells."""
        return self.page.evaluate(
            """async (code) => {
                const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
                const future = kernel.requestExecute({ code, store_history: false });
                let said = "";
                future.onIOPub = ({ header, content }) => {
                    if (header.msg_type === "stream") said += content.text;
                    if (header.msg_type === "error") said += content.traceback.join("\\n");
                };
                await future.done;
                return said.trim();
            }""",
            code,
        )

    def shut_down_kernel(self) -> None:
        """End the kernel."""
        self.page.evaluate("jupyterapp.shell.currentWidget.sessionContext.shutdown()")

    def restart_kernel(self) -> None:
        """Restart the kernel through the menu command, and wait until it is ready."""
        before = self.python("import os; print(os.getpid())")
        self.begin("notebook:restart-kernel")
        self.page.get_by_role("button", name="Confirm Kernel Restart").click()
        self.page.wait_for_function("jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'")
        assert self.python("import os; print(os.getpid())") != before


def exported(path: Path) -> str:
    """A notebook as a page, made by nbconvert without what its template fetches (scripts for formulas and diagrams)."""
    from nbconvert import HTMLExporter

    nothing = "data:text/javascript,"
    exporter = HTMLExporter(require_js_url=nothing, mathjax_url=nothing, mermaid_js_url=nothing)
    body, _ = exporter.from_filename(str(path))
    return str(body)


@contextmanager
def jupyterlab(folder: Path) -> Iterator[Lab]:
    """JupyterLab in its own folder; its kernels end with it."""
    root = folder / "root"
    root.mkdir()
    for name, settings in SETTINGS.items():
        path = folder / "jupyterlab_settings_dir" / "@jupyterlab" / "apputils-extension" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings))
    config = folder / "config.py"
    config.write_text(CONFIG)
    port, token = free_port(), secrets.token_hex(16)
    directories = {name: str(folder / name.lower()) for name in DIRECTORIES}
    extension = folder / "share" / "labextensions" / "qwen3-integrations"  # this tree's build, whichever is installed
    extension.parent.mkdir(parents=True)
    extension.symlink_to(ROOT / "qwen3_integrations" / "labextension" / "prebuilt")
    directories["JUPYTER_PATH"] = str(folder / "share")
    quiet = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "JUPYTER_PLATFORM_DIRS": "1"}
    command = [sys.executable, "-m", "jupyterlab", f"--config={config}", f"--ServerApp.root_dir={root}"]
    command += [f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}"]
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, cwd=root, start_new_session=True, env=os.environ | directories | quiet
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(process, f"{url}/api?token={token}", log)
        yield Lab(url, token, root, folder / FOLDER_VARIABLE.lower())
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + READY_S
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"JupyterLab ended with {process.returncode}:\n{log.read_text(errors='replace')[-3000:]}")
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"JupyterLab was not ready after {READY_S} s:\n{log.read_text(errors='replace')[-3000:]}")
