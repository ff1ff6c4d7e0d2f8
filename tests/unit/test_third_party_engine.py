"""An engine of another package: installed from a folder by pip, found by its entry point, opened by its name."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from qwen3_integrations import Embedder, open_engine
from qwen3_integrations.engines import Engine, backends
from qwen3_integrations.errors import ConfigError

PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "tiny-third-party"
version = "1.2"

[tool.setuptools]
py-modules = ["tiny_third_party"]

[project.entry-points."qwen3_integrations.engines"]
tiny-third-party = "tiny_third_party:TinyEngine"
unfinished = "tiny_third_party:Unfinished"
broken = "tiny_third_party:Missing"
absent = "no_such_module_at_all:Engine"
torch = "tiny_third_party:TinyEngine"
"""

MODULE = '''
import numpy as np

from qwen3_integrations.engines import Capabilities, Fingerprint, Reply


class TinyEngine:
    """The number of characters of a text, as a vector."""

    backend = "tiny-third-party"
    tokenizer = None
    max_tokens = None
    capabilities = Capabilities(exact=True)

    def __init__(self, task, model, *, dimensions=4, base_url=None):
        self.task, self.model, self.dimensions, self.base_url = task, model, dimensions, base_url
        self.closed = False

    def fingerprint(self):
        return Fingerprint({"model": self.model, "width": self.dimensions}, {"backend": self.backend})

    def run(self, job):
        rows = np.ones((len(job.prompts), self.dimensions), np.float32)
        rows[:, 0] = [1 + prompt.characters for prompt in job.prompts]
        return Reply(rows, (None,) * len(job.prompts))

    async def arun(self, job):
        return self.run(job)

    def close(self):
        self.closed = True


class Unfinished:
    backend = "unfinished"

    def __init__(self, task, model):
        self.task, self.model = task, model
'''


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A folder into which pip has installed the package."""
    source, site = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    (source / "pyproject.toml").write_text(PROJECT)
    (source / "tiny_third_party.py").write_text(MODULE)
    words = ["install", "-q", "--no-index", "--no-deps", "--no-build-isolation", "--target", str(site), str(source)]
    ran = subprocess.run(
        [sys.executable, "-m", "pip", *words],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PIP_CONFIG_FILE": os.devnull},
    )
    assert ran.returncode == 0, ran.stderr
    return site


@pytest.fixture
def installed(site, monkeypatch):
    monkeypatch.syspath_prepend(str(site))
    importlib.invalidate_caches()
    yield
    sys.modules.pop("tiny_third_party", None)


def test_it_opens_by_its_name_is_shared_and_closes(installed):
    with open_engine("embed", "anything", backend="tiny-third-party", dimensions=3) as engine:
        assert isinstance(engine, Engine)
        assert engine.backend == "tiny-third-party"
        assert open_engine("embed", "anything", backend="tiny-third-party", dimensions=3).engine is engine.engine
        vectors = Embedder(engine).embed_documents(["", "four"])
        assert vectors.shape == (2, 3)
        np.testing.assert_allclose(vectors[0], 3**-0.5, rtol=1e-6)
        assert not engine.closed
    assert engine.engine.closed


def test_its_options_and_its_address_are_checked_by_its_constructor(installed):
    with pytest.raises(ConfigError, match="dimension is not an option of the tiny-third-party engine, did you mean 'dimensions'"):
        open_engine("embed", backend="tiny-third-party", dimension=3)
    with open_engine("embed", backend="tiny-third-party", base_url="http://host") as engine:
        assert engine.base_url == "http://host"


def test_components_take_its_name(installed):
    langchain = pytest.importorskip("qwen3_integrations.langchain")
    llama_index = pytest.importorskip("qwen3_integrations.llama_index")
    for made in (langchain.Qwen3Embeddings, llama_index.Qwen3Embedding):
        with made(backend="tiny-third-party") as component:
            assert "backend='tiny-third-party'" in repr(component)


def test_an_unknown_name_lists_what_is_registered(installed):
    names = ("http", "vllm", "torch", "fake", "absent", "broken", "tiny-third-party", "unfinished")
    assert backends() == names
    with pytest.raises(ConfigError, match=rf"auto, {', '.join(names)}, not 'tiny-thrd-party', did you mean 'tiny-third-party'"):
        open_engine("embed", backend="tiny-thrd-party")


def test_a_name_of_ours_stays_ours(installed):
    with open_engine("embed", "qwen3-tiny-demo", backend="torch", device="cpu") as engine:
        assert type(engine.engine).__name__ == "TorchEngine"


def test_what_cannot_be_loaded_or_is_no_engine_is_said(installed):
    with pytest.raises(ConfigError, match=r"'absent' of tiny-third-party 1\.2 can't be loaded from no_such_module_at_all:Engine"):
        open_engine("embed", backend="absent")
    with pytest.raises(ConfigError, match=r"'broken' of tiny-third-party 1\.2 can't be loaded"):
        open_engine("embed", backend="broken")
    with pytest.raises(ConfigError, match=r"'unfinished' is not an Engine: its Unfinished lacks arun, capabilities.*tokenizer"):
        open_engine("embed", backend="unfinished")


def test_without_the_package_the_name_is_unknown():
    with pytest.raises(ConfigError, match=r"in the group qwen3_integrations\.engines"):
        open_engine("embed", backend="tiny-third-party")
    langchain = pytest.importorskip("qwen3_integrations.langchain")
    for wrong in ("tiny-third-party", None, 3, ["torch"]):
        with pytest.raises(ConfigError, match="backend must be one of auto, http"):
            langchain.Qwen3Embeddings(backend=wrong)
