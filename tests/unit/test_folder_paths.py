"""A `pathlib.Path` names a model wherever a name does, and always means a folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from qwen3_integrations import FakeEngine, open_engine
from qwen3_integrations.engines.torch import TorchEngine
from qwen3_integrations.errors import ModelNotFound
from qwen3_integrations.langchain import Qwen3Embeddings
from qwen3_integrations.langchain import Qwen3Rerank as LangChainRerank
from qwen3_integrations.llama_index import Qwen3Embedding, Qwen3Rerank
from qwen3_integrations.models.catalog import checked_model
from qwen3_integrations.models.hub import find_model, resolve_model
from qwen3_integrations.serving import ServerOptions
from qwen3_integrations.serving.preview import preview
from qwen3_integrations.verification import verify
from tests.models import TINY

EMBEDDING, RERANKER = TINY / "embedding", TINY / "reranker"


def test_an_engine_opens_a_path_and_shares_it_with_its_text():
    one, two = (open_engine("embed", model, backend="torch", device="cpu") for model in (EMBEDDING, str(EMBEDDING)))
    assert one.model == two.model == str(EMBEDDING)
    assert one.fingerprint() is two.fingerprint()  # one engine for both
    assert TorchEngine("rerank", RERANKER, device="cpu").model == str(RERANKER)


def test_components_of_both_frameworks_take_a_path():
    options = {"backend": "torch", "engine_options": {"device": "cpu"}}
    langchain = Qwen3Embeddings(model=EMBEDDING, **options)
    llama_index = Qwen3Embedding(model=EMBEDDING, **options)
    assert langchain.model == llama_index.model == str(EMBEDDING)
    np.testing.assert_array_equal(langchain.embed_query("a"), llama_index.get_query_embedding("a"))
    for reranker in (LangChainRerank(model=RERANKER, **options), Qwen3Rerank(model=RERANKER, **options)):
        assert reranker.model == str(RERANKER)
        assert reranker.model_copy().model == str(RERANKER)


def test_a_component_takes_the_path_of_the_engine_that_is_passed():
    engine = FakeEngine("embed", str(EMBEDDING))
    assert Qwen3Embeddings(model=EMBEDDING, engine=engine).model == str(EMBEDDING)


def test_server_options_take_a_path():
    options = ServerOptions(task="embed", model=EMBEDDING)
    assert options.model_name == options.name == str(EMBEDDING)
    assert options.to_dict() == ServerOptions(task="embed", model=str(EMBEDDING)).to_dict()
    assert str(EMBEDDING) in options.to_words()
    assert preview(options).is_here


def test_both_questions_of_the_hub_take_a_path():
    assert find_model(EMBEDDING, "embed") == resolve_model(EMBEDDING, "embed") == EMBEDDING


def test_a_relative_path_is_a_folder_and_never_a_name_on_a_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(EMBEDDING, tmp_path / "owner" / "name")
    path = Path("owner/name")
    assert resolve_model(path, "embed", source="huggingface") == path
    assert checked_model(path, "embed") == "owner/name"
    for missing in (Path("owner/nowhere"), Path("nowhere"), Path("../nowhere")):
        with pytest.raises(ModelNotFound, match=r"the folder '\.?.*nowhere' does not exist"):
            resolve_model(missing, "embed")
        with pytest.raises(ModelNotFound, match=r"the folder '\.?.*nowhere' does not exist"):
            open_engine("embed", missing, backend="torch")


def test_verify_takes_a_path_for_the_name_on_the_server():
    report = verify("http://127.0.0.1:9/v1", "embed", EMBEDDING, connect_timeout_s=0.2, max_retries=0)
    assert report.model == str(EMBEDDING)
