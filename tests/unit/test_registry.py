"""Which engine is opened, with which options, and how it is shared."""

from __future__ import annotations

import gc
from pathlib import Path
from types import MappingProxyType

import pytest

from qwen3_integrations import Embedder, open_engine
from qwen3_integrations.core.types import Job
from qwen3_integrations.engines.registry import choose_backend
from qwen3_integrations.errors import ConfigError, EngineClosed, ModelNotFound
from tests.models import TINY


@pytest.mark.parametrize(
    ("asked", "url", "vllm", "torch", "cuda", "chosen"),
    [
        ("auto", "http://host", True, True, True, "http"),
        ("auto", None, True, True, True, "vllm"),
        ("auto", None, True, True, False, "torch"),
        ("auto", None, False, True, True, "torch"),
        ("http", "http://host", False, False, False, "http"),
        ("vllm", None, True, True, False, "vllm"),
        ("torch", None, True, True, True, "torch"),
        ("fake", None, False, False, False, "fake"),
    ],
)
def test_the_backend_follows_from_settings_and_machine(asked, url, vllm, torch, cuda, chosen):
    backend, reason = choose_backend(asked, url, vllm=vllm, torch=torch, cuda=lambda: cuda)
    assert backend == chosen
    assert reason


def test_auto_takes_torch_for_a_model_that_vllm_refuses():
    here = {"vllm": True, "cuda": lambda: True, "vllm_refusal": lambda: "the folder pools without the prompt"}
    assert choose_backend("auto", None, torch=True, **here) == ("torch", "vLLM can't run this model: the folder pools without the prompt")
    with pytest.raises(ConfigError, match=r"the folder pools without the prompt.*\[torch\]"):
        choose_backend("auto", None, torch=False, **here)
    unread = here | {"cuda": lambda: False, "vllm_refusal": lambda: pytest.fail("the model was read")}
    assert choose_backend("auto", None, torch=True, **unread)[0] == "torch"
    assert choose_backend("vllm", None, torch=True, **unread)[0] == "vllm"


def test_the_error_without_any_backend_names_three_solutions():
    with pytest.raises(ConfigError, match=r"base_url.*\[torch\].*\[vllm\]"):
        choose_backend("auto", None, vllm=False, torch=False, cuda=lambda: False)


def test_backend_and_address_must_agree(monkeypatch):
    with pytest.raises(ConfigError, match="Leave one of them out"):
        open_engine("embed", "qwen3-tiny-demo", backend="torch", base_url="http://127.0.0.1:1")
    with pytest.raises(ConfigError, match="QWEN3_EMBEDDING_URL"):
        open_engine("embed", backend="http")
    monkeypatch.setenv("QWEN3_RERANKER_URL", "http://127.0.0.1:1/v1")
    monkeypatch.setenv("QWEN3_EMBEDDING_URL", "http://127.0.0.1:2/v1")
    assert "http://127.0.0.1:1" in repr(open_engine("rerank"))
    assert "http://127.0.0.1:2" in repr(open_engine("embed"))
    assert open_engine("rerank", "qwen3-tiny-demo", backend="torch").backend == "torch"


@pytest.mark.parametrize(
    ("task", "settings", "said"),
    [
        ("embedding", {}, "task must be"),
        ("embed", {"backend": "torhc"}, "did you mean 'torch'"),
        ("embed", {"backend": "fake", "dimension": 3}, "did you mean 'dimensions'"),
        ("embed", {"model": ""}, "model must be"),
    ],
)
def test_unknown_words_are_refused(task, settings, said):
    with pytest.raises(ConfigError, match=said):
        open_engine(task, **settings)


def test_the_error_of_a_missing_model_names_the_searched_places(tmp_path):
    with pytest.raises(ModelNotFound, match=r"folder .* does not exist"):
        open_engine("embed", str(tmp_path / "none"), backend="torch")
    with pytest.raises(ModelNotFound, match="not in a local cache"):
        open_engine("embed", backend="torch", source="local")


def test_equal_settings_share_an_engine_and_others_do_not():
    one, same = (open_engine("embed", "qwen3-tiny-demo", backend="fake", dimensions=48) for _ in range(2))
    other = open_engine("embed", "qwen3-tiny-demo", backend="fake", dimensions=64)
    assert one.engine is same.engine
    assert one.engine is not other.engine
    for engine in (one, same, other):
        engine.close()


def test_equal_paths_are_equal_settings():
    words = {"backend": "http", "base_url": "http://127.0.0.1:1"}
    one, same = (open_engine("embed", "qwen3-tiny-demo", tokenizer=Path(TINY / "embedding"), **words) for _ in range(2))
    assert one.engine is same.engine
    for engine in (one, same):
        engine.close()


def test_equal_headers_are_equal_settings_and_others_are_not():
    words = {"backend": "http", "base_url": "http://127.0.0.1:1", "tokenizer": str(TINY / "embedding")}
    one, same, other = (
        open_engine("embed", "qwen3-tiny-demo", headers=MappingProxyType({"X-Tenant": name}), **words) for name in ("a", "a", "b")
    )
    assert one.engine is same.engine
    assert one.engine is not other.engine
    for engine in (one, same, other):
        engine.close()


def test_an_engine_closes_when_nobody_refers_to_it():
    handle = open_engine("embed", "qwen3-tiny-demo", backend="fake", dimensions=40)
    engine = handle.engine
    del handle
    gc.collect()
    with pytest.raises(EngineClosed):
        Embedder(engine).embed_documents(["text"])


def test_an_engine_is_a_context_manager():
    with open_engine("embed", "qwen3-tiny-demo", backend="fake") as engine:
        assert Embedder(engine).embed_documents(["text"]).shape == (1, 160)
    with pytest.raises(EngineClosed):
        engine.run(Job("embed", (), 1))


@pytest.mark.parametrize(
    ("model", "width"),
    [
        (None, 1024),
        ("Qwen/Qwen3-Embedding-4B", 2560),
        ("Qwen/Qwen3-Embedding-8B", 4096),
        ("qwen3-tiny-demo", 160),
        (TINY / "embedding", 160),
        ("a-name-of-my-own", 64),
    ],
)
def test_the_fake_is_as_wide_as_the_model_that_it_stands_for(model, width):
    engine = open_engine("embed", model, backend="fake")
    assert Embedder(engine).embed_documents(["text"]).shape == (1, width)
    with pytest.raises(ConfigError, match=rf"from 32 to {width} for .* on the fake engine, not 5000"):
        Embedder(engine, dimensions=5000)
    assert open_engine("embed", model, backend="fake", dimensions=48).dimensions == 48
