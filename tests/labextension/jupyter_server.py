"""A Jupyter server below a base URL, as JupyterHub runs it, with the extension from a wheel."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat

from qwen3_integrations.serving.records import FOLDER_VARIABLE
from tests.server.launch import free_port
from tests.waiting import until
from tests.widgets.jupyter import CONFIG, DIRECTORIES, SETTINGS

BASE = "/user/someone/"
QUIET = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "JUPYTER_PLATFORM_DIRS": "1"}
APP = "c.JupyterNotebookApp.expose_app_in_browser = True\nc.ServerApp.base_url = '{base}'\n"


class Jupyter:
    """A Jupyter server that answers. `root` is its folder, `state` where servers have their records."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.root, self.state, self._folder = folder / "root", folder / FOLDER_VARIABLE.lower(), folder
        self.port, self.token = free_port(), secrets.token_hex(16)
        self.url = f"http://127.0.0.1:{self.port}{BASE}"
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; its address and token stay the same."""
        command = [sys.executable, "-m", "jupyterlab", f"--config={self._folder / 'config.py'}", f"--ServerApp.root_dir={self.root}"]
        command += [f"--ServerApp.port={self.port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={self.token}"]
        with (self._folder / "log").open("ab") as out:
            self._process = subprocess.Popen(
                command, stdout=out, stderr=subprocess.STDOUT, cwd=self.root, start_new_session=True, env=dict(self._environment)
            )
        until(lambda: self._process.poll() is not None or self.status("api") == 200)
        assert self._process.poll() is None, self.log()[-3000:]

    def stop(self) -> None:
        """End it, and its kernels."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def log(self) -> str:
        """What it has written."""
        return (self._folder / "log").read_text(errors="replace")

    def ask(self, path: str, method: str = "GET", body: Any = None, *, token: bool = True) -> tuple[int, str]:
        """Status and text of an answer; `token=False` sends no login."""
        headers = {"Authorization": f"token {self.token}"} if token else {}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def status(self, path: str) -> int:
        """The status of an answer; 0 where nothing listens."""
        try:
            return self.ask(path)[0]
        except OSError:
            return 0

    def json(self, path: str, method: str = "GET", body: Any = None) -> Any:
        """An answer's content."""
        status, text = self.ask(path, method, body)
        assert status == 200, text
        return json.loads(text)

    def write(self, name: str, cells: Sequence[Any], kernel: str = "python3") -> None:
        """Write a notebook of cells, or of sources."""
        made = [nbformat.v4.new_code_cell(cell) if isinstance(cell, str) else cell for cell in cells]
        notebook = nbformat.v4.new_notebook(cells=made)
        notebook.metadata.kernelspec = {"name": kernel, "display_name": kernel, "language": "python"}
        nbformat.write(notebook, self.root / f"{name}.ipynb")

    def open(self, page: Any, path: str, app: str = "lab", *, kernel: bool = True) -> None:
        """Open a file in JupyterLab (`lab`) or Notebook 7 (`notebook7`), and wait for its kernel."""
        place = {"lab": "doc/tree", "notebook7": "notebooks"}[app]
        page.goto(f"{self.url}{place}/{path}?token={self.token}")
        page.wait_for_function("window.jupyterapp?.shell?.currentWidget?.context?.isReady", timeout=60_000)
        if kernel:
            page.wait_for_function("jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status === 'idle'", timeout=60_000)


def command(page: Any, name: str, **words: Any) -> None:
    """Run a command of the front end, and wait for its end."""
    page.evaluate("([name, words]) => window.jupyterapp.commands.execute(name, words)", [name, words])


@contextmanager
def jupyter_server(folder: Path, paths: Mapping[str, str]) -> Iterator[Jupyter]:
    """A Jupyter server in its own folder; its kernels and servers end with it."""
    (folder / "root").mkdir()
    for name, settings in SETTINGS.items():
        path = folder / "jupyterlab_settings_dir" / "@jupyterlab" / "apputils-extension" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings))
    (folder / "config.py").write_text(CONFIG + APP.format(base=BASE))
    own = {name: str(folder / name.lower()) for name in DIRECTORIES}
    running = Jupyter(folder, os.environ | own | QUIET | dict(paths))
    running.start()
    try:
        yield running
    finally:
        running.stop()
