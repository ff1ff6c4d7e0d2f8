"""`cache_namespace`: the same for vectors that are equal, another for vectors that are not, in LangChain's and LlamaIndex's caches."""

from __future__ import annotations

import copy
import json
import pickle
import shutil

import pytest
from langchain_classic.embeddings import CacheBackedEmbeddings
from langchain_classic.storage import LocalFileStore
from langchain_core.stores import InMemoryByteStore
from llama_index.core import Document
from llama_index.core.ingestion import IngestionCache, IngestionPipeline
from llama_index.core.ingestion.pipeline import get_transformation_hash
from llama_index.core.schema import TextNode
from safetensors.torch import load_file, save_file

from qwen3_integrations import Embedder, FakeEngine, open_engine
from qwen3_integrations.engines.wrapper import EngineWrapper
from qwen3_integrations.langchain import Qwen3Embeddings
from qwen3_integrations.llama_index import Qwen3Embedding
from tests.models import TINY
from tests.unit import gateways

DOCUMENTS = [Document(text="Compression makes a file smaller.", id_="a"), Document(text="A socket waits.", id_="b")]
TINY_TORCH = {"model": "qwen3-tiny-demo", "backend": "torch"}


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(TINY / "embedding", tmp_path / "model")


def key(embedding):
    return get_transformation_hash([TextNode(text="a", id_="a")], embedding)


def both(settings):
    """The namespace, and the key of LlamaIndex's ingestion cache."""
    with Qwen3Embeddings(**settings) as langchain, Qwen3Embedding(**settings) as llama_index:
        assert langchain.cache_namespace == llama_index.cache_namespace
        return langchain.cache_namespace, key(llama_index)


@pytest.mark.parametrize(
    "change",
    [
        {"instruction": "Find planets."},
        {"instruction": ""},
        {"engine_options": {"dtype": "bfloat16", "device": "cpu"}},
        {"model": TINY / "embedding"},
        {"max_tokens": 8192},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_changes_no_vector_changes_no_key(change):
    assert both(TINY_TORCH | change) == both(TINY_TORCH)


@pytest.mark.parametrize(
    "change",
    [{"dimensions": 32}, {"max_tokens": 64}, {"backend": "fake"}, {"preprocess": str.upper}, {"preprocess": lambda text: text[:9]}],
    ids=lambda change: next(iter(change)),
)
def test_what_changes_vectors_changes_both(change):
    before, after = both(TINY_TORCH), both(TINY_TORCH | change)
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_an_edited_function_is_another_namespace():
    one, other, same = (both(TINY_TORCH | {"preprocess": function}) for function in (lambda text: text[:9], lambda text: text[:8], _begin))
    assert len({one[0], other[0], same[0]}) == 3
    assert both(TINY_TORCH | {"preprocess": _begin}) == same


def _begin(text):
    return text[:9]


def test_other_weights_under_the_same_name_are_another_namespace(folder):
    before = both({"model": folder, "backend": "torch"})
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight" if "model.norm.weight" in tensors else "norm.weight"] *= 2
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    after = both({"model": folder, "backend": "torch"})
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_a_document_prompt_of_the_folder_is_another_namespace(folder):
    before = both({"model": folder, "backend": "torch"})
    path = folder / "config_sentence_transformers.json"
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(content | {"prompts": {"query": "Query: ", "document": "Text: "}}))
    after = both({"model": folder, "backend": "torch"})
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_a_wrapper_has_the_namespace_of_its_engine():
    with open_engine("embed", "qwen3-tiny-demo", backend="torch") as engine:
        assert Embedder(EngineWrapper(engine)).cache_namespace() == Embedder(engine).cache_namespace()


def test_the_engine_that_was_passed_decides_not_its_name():
    plain, narrow = (Qwen3Embedding(engine=FakeEngine("embed", dimensions=width)) for width in (64, 48))
    assert key(plain) != key(narrow)


def served(root, model=gateways.MODEL):
    """A server that says where it loaded its model from; None for one that does not say."""
    more = {} if root is None else {"root": root}
    return gateways.embedder(gateways.routes(v1_models=gateways.models(model, **more), v1_embeddings=gateways.vectors), model=model)


def namespace(root, model=gateways.MODEL):
    with served(root, model) as (embedder, _):
        return embedder.cache_namespace()


def test_a_server_may_move():
    assert namespace("/models/Qwen3-Embedding-0.6B") == namespace("/srv/other/Qwen3-Embedding-0.6B")


def test_a_server_with_a_model_from_elsewhere():
    assert namespace("/models/my-fine-tune") != namespace("/models/Qwen3-Embedding-0.6B")


def test_servers_that_do_not_say_are_told_apart_by_address():
    with served(None) as (one, _), served(None) as (other, _):
        assert one.cache_namespace() == one.cache_namespace() != other.cache_namespace()


def test_cache_backed_embeddings_of_another_width(tmp_path):
    store = LocalFileStore(tmp_path)  # its keys must be file names
    for dimensions in (64, 32):
        embeddings = Qwen3Embeddings(**TINY_TORCH, dimensions=dimensions)
        cached = CacheBackedEmbeddings.from_bytes_store(embeddings, store, namespace=embeddings.cache_namespace, key_encoder="sha256")
        for _ in range(2):
            assert cached.embed_documents(["mars"]) == embeddings.embed_documents(["mars"])


def test_cache_backed_embeddings_with_another_instruction_hit():
    store, engines = InMemoryByteStore(), [FakeEngine("embed"), FakeEngine("embed")]
    for engine, instruction in zip(engines, ("Find planets.", "Find moons."), strict=True):
        embeddings = Qwen3Embeddings(engine=engine, instruction=instruction)
        cached = CacheBackedEmbeddings.from_bytes_store(embeddings, store, namespace=embeddings.cache_namespace, key_encoder="sha256")
        cached.embed_documents(["mars"])
    assert [len(engine.jobs) for engine in engines] == [1, 0]


def ingested(cache, **settings):
    """Vectors of two documents, and the number of calls of the engine."""
    engine = FakeEngine("embed")
    embedding = Qwen3Embedding(engine=engine, **settings)
    nodes = IngestionPipeline(transformations=[embedding], cache=cache).run(documents=DOCUMENTS)
    return [node.embedding for node in nodes], len(engine.jobs)


def test_the_ingestion_cache_survives_a_new_instruction_and_batch_size():
    cache = IngestionCache()
    vectors, calls = ingested(cache)
    assert calls == 1
    assert ingested(cache, instruction="Find planets.") == (vectors, 0)
    assert ingested(cache, embed_batch_size=10) == (vectors, 0)


def test_the_ingestion_cache_misses_for_another_width():
    cache = IngestionCache()
    vectors, _ = ingested(cache)
    narrow, calls = ingested(cache, dimensions=32)
    assert calls == 1
    assert [len(vector) for vector in narrow] == [32, 32]
    assert ingested(cache) == (vectors, 0)


def test_the_settings_are_still_a_dictionary():
    embedding = Qwen3Embedding(**TINY_TORCH, instruction="Find planets.", dimensions=32)
    settings = embedding.to_dict()
    assert settings["instruction"] == "Find planets."
    assert json.loads(embedding.to_json()) == settings == dict(settings)
    for twin in (pickle.loads(pickle.dumps(settings)), copy.deepcopy(settings), settings.copy()):
        assert (type(twin), twin) == (dict, settings)
    again = Qwen3Embedding.from_dict(settings)
    assert (again.instruction, again.dimensions, key(again)) == ("Find planets.", 32, key(embedding))


def test_a_server_that_is_away_fails_where_it_is_used():
    embedding = Qwen3Embedding(base_url="http://127.0.0.1:9", engine_options={"max_retries": 0})
    assert "http://127.0.0.1:9" in str(embedding.to_dict())
