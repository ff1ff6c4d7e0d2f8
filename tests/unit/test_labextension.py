"""Parts of the server extension without a server: interpreters of kernels, and code for cells."""

from __future__ import annotations

import ast
import sys
from types import SimpleNamespace

import pytest

from qwen3_integrations.labextension.code import notebook_code
from qwen3_integrations.labextension.kernels import KernelPython, kernel_pythons, python_with
from qwen3_integrations.serving.snippets import snippets


def spec(*argv, language="python", title="Title"):
    return {"spec": {"argv": list(argv), "language": language, "display_name": title}}


def test_each_python_of_the_kernels_is_listed_once_that_of_the_notebook_first():
    specs = {
        "a": spec("/envs/a/bin/python", "-m", "ipykernel_launcher", title="A"),
        "again": spec("/envs/a/bin/python"),
        "julia": spec("/usr/bin/julia", language="julia"),
        "own": spec("python", title="Own"),
        "wrapped": spec("/usr/bin/env", "python"),
        "z": spec("/envs/z/bin/python3.12", title="Z"),
        "empty": spec(),
    }
    found = kernel_pythons(specs, "z")
    assert [(each.kernel, each.path) for each in found] == [
        ("z", "/envs/z/bin/python3.12"),
        ("a", "/envs/a/bin/python"),
        ("own", sys.executable),
    ]
    assert found[0] == KernelPython("z", "Z", "/envs/z/bin/python3.12")


def test_without_the_engine_anywhere_the_own_python_is_kept(tmp_path):
    gone = KernelPython("gone", "Gone", str(tmp_path / "python"))
    assert python_with("sglang", [gone], "gone") is None


def server(task="embed", *, key="secret", url="http://127.0.0.1:8000"):
    made = snippets(task, "m", url, has_key=key is not None)
    return SimpleNamespace(name=f"{task}-m-8000", api_key=key, snippets=lambda: made)


@pytest.mark.parametrize("task", ["embed", "rerank"])
@pytest.mark.parametrize("key", ["secret", None])
@pytest.mark.parametrize("url", ["http://127.0.0.1:8000", "unix:///tmp/s"])
def test_code_is_python_and_has_no_key(task, key, url):
    made = notebook_code(server(task, key=key, url=url))
    assert list(made) == [name for name in ("langchain", "llama_index", "openai", "curl") if name in made]
    assert ("openai" in made) == (task == "embed")
    for code in made.values():
        ast.parse(code)
        assert "secret" not in code
        assert ("attach(" in code) == (key is not None)
        lines = code.splitlines()
        imports = [at for at, line in enumerate(lines) if line.startswith(("import ", "from "))]
        assert code.count("import os") == (key is not None)
        assert imports == [] or imports[0] == 0
