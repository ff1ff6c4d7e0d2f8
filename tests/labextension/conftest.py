"""One Jupyter server (JupyterLab and Notebook 7) that runs the built wheel, one browser, and an engine that starts in seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.labextension.jupyter_server import Jupyter, jupyter_server
from tests.widgets.conftest import browser_page, chromium  # noqa: F401  fixtures of these tests too

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    """The folder of the unpacked wheel, built from this tree."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    (built,) = folder.glob("*.whl")
    zipfile.ZipFile(built).extractall(folder / "unpacked")
    return folder / "unpacked"


@pytest.fixture(scope="session")
def engine_python(tmp_path_factory, wheel) -> Path:
    """An interpreter that has the engine's stand-in, as the kernel of another environment would have vLLM."""
    path = tmp_path_factory.mktemp("engine") / "python"
    path.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT / "tests/labextension/engine"}:{wheel}:$PYTHONPATH" exec "{sys.executable}" "$@"\n')
    path.chmod(0o755)
    return path


@pytest.fixture(scope="package")
def jupyter(tmp_path_factory, wheel, engine_python) -> Jupyter:
    """The Jupyter server. Its kernelspecs are `python3` and `engine`, whose interpreter has the engine's stand-in."""
    folder = tmp_path_factory.mktemp("jupyter")
    spec = folder / "kernels" / "engine"
    spec.mkdir(parents=True)
    argv = [str(engine_python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (spec / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Python (engine)", "language": "python"}))
    (data,) = wheel.glob("*.data")
    paths = {
        "PYTHONPATH": f"{wheel}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        "JUPYTER_PATH": f"{data / 'data/share/jupyter'}{os.pathsep}{folder}",
        "JUPYTER_CONFIG_PATH": str(data / "data/etc/jupyter"),
    }
    with jupyter_server(folder, paths) as running:
        yield running


HOSTS = (
    "Cannot read properties of undefined (reading 'schema')",
    "Command 'filebrowser:open-path' not registered.",
    "Could not restore the debugger state",
)
"""Errors that Notebook 7.6 and JupyterLab 4.6 log by themselves, also without this extension; the last one when a kernel ends."""


@pytest.fixture
def pages(browser_page):  # noqa: F811  the imported fixture
    """Opens browser pages, as `browser_page` does; the hosts' own errors do not count."""
    opened = []

    def page(**words):
        opened.append(browser_page(**words))
        return opened[-1]

    yield page
    for each in opened:
        each.errors[:] = [error for error in each.errors if not error.startswith(HOSTS)]
