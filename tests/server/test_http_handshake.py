"""The handshake refuses wrong servers: real ones for the other task or with another model, and a real one with changed answers."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest

from qwen3_integrations import Embedder, Reranker
from qwen3_integrations.engines.http.engine import HttpEngine
from qwen3_integrations.errors import ConfigError, HandshakeFailed, ModelNotServed, RouteNotServed
from tests.server.faults import edited
from tests.server.fixtures import ALIAS, NAME, PUBLISHED

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture
def opened():
    engines = []

    def open_http(task, model, base_url, **options):
        engines.append(HttpEngine(task, model, base_url=base_url, **options))
        return engines[-1]

    yield open_http
    for engine in engines:
        engine.close()


def _embed(engine):
    return Embedder(engine).embed_documents(["text"])


def _rank(engine):
    return Reranker(engine).rank("query", ["text"])


def test_a_good_embedder_is_checked_once(faulty, opened):
    proxy = faulty("embed")
    engine = opened("embed", ALIAS, proxy.url)
    assert engine.dimensions is None
    assert engine.max_tokens is None
    vectors = _embed(engine)
    _embed(engine)
    assert len(proxy.work) == 4  # one for the count, one for all easy texts, and the two calls
    assert engine.dimensions == vectors.shape[1]
    assert engine.max_tokens == 1024
    assert "dialect='vllm'" in repr(engine)


def test_a_good_reranker_is_checked_once(faulty, opened):
    proxy = faulty("rerank")
    engine = opened("rerank", NAME, proxy.url)
    _rank(engine)
    proved = len(proxy.work)
    _rank(engine)
    assert len(proxy.work) == proved + 1
    assert proved > 2


@pytest.mark.parametrize(("mode", "requests"), [("counts", 2), ("off", 1)])
def test_modes_that_check_less(faulty, opened, mode, requests):
    proxy = faulty("rerank")
    _rank(opened("rerank", NAME, proxy.url, handshake=mode))
    assert len(proxy.work) == requests


def test_the_error_for_another_model_lists_the_served_names(tiny_servers, opened):
    with pytest.raises(
        ModelNotServed, match=rf"does not serve 'other/model'; it serves '{NAME}', '{ALIAS}', .*. Pass the served name as model"
    ):
        _embed(opened("embed", "other/model", tiny_servers["embed"].url))


def test_a_model_is_found_by_the_folder_it_was_loaded_from(tiny_servers, opened, tiny_embedder):
    assert _embed(opened("embed", str(tiny_embedder), tiny_servers["embed"].url)).shape[0] == 1


@pytest.mark.parametrize("mode", ["full", "counts", "off"])
def test_a_server_of_the_other_task(tiny_servers, opened, mode):
    with pytest.raises(RouteNotServed, match=r"/classify") as caught:
        _rank(opened("rerank", ALIAS, tiny_servers["embed"].url, handshake=mode))
    assert caught.value.status == 404
    with pytest.raises(RouteNotServed, match=r"/v1/embeddings"):
        _embed(opened("embed", ALIAS, tiny_servers["rerank"].url, handshake=mode))


def _scores(change):
    def spoil(answer):
        for item in answer["data"]:
            item["probs"] = [change(item["probs"][0])]

    return edited(spoil)


def _counted(change):
    return edited(lambda answer: answer["usage"].update(prompt_tokens=change(answer["usage"]["prompt_tokens"])))


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (_scores(lambda p: 0.5), "gives all documents nearly the same score"),
        (_scores(lambda p: 1 - p), "relevant against irrelevant documents"),
        (_counted(lambda n: n + 48), "applies a second template"),
        (_counted(lambda n: n - 70), "it applies no chat template"),
        (_counted(lambda n: n - 4), "it applies another template"),
    ],
)
def test_a_reranker_that_can_not_be_right(faulty, opened, fault, says):
    proxy = faulty("rerank")
    proxy.always = fault
    engine = opened("rerank", NAME, proxy.url)
    with pytest.raises(HandshakeFailed, match=says) as caught:
        _rank(engine)
    assert f"{proxy.url}/classify does not answer as {NAME} must" in str(caught.value)
    assert "--hf-overrides" in str(caught.value)
    proxy.always = None  # without the fault, the next call succeeds
    assert len(_rank(engine)) == 1


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (_counted(lambda n: n - 1), "does not append the end token"),
        (_counted(lambda n: n + 9), "it applies a template to the text"),
        (edited(lambda answer: answer["data"][0].update(embedding=[0.6, 0.8])), "2 dimensions"),
    ],
)
def test_an_embedder_that_can_not_be_right(faulty, opened, fault, says):
    proxy = faulty("embed")
    proxy.always = fault
    with pytest.raises(HandshakeFailed, match=says):
        _embed(opened("embed", NAME, proxy.url))


def test_an_embedder_with_senseless_vectors(faulty, opened):
    """Vectors as from a server that pools another token, or whose weights were not loaded."""

    def turned(answer):
        for item in answer["data"]:
            vector = np.frombuffer(base64.b64decode(item["embedding"]), "<f4")
            item["embedding"] = np.roll(vector, item["index"] * 7).tolist()

    proxy = faulty("embed")
    proxy.always = edited(turned)
    with pytest.raises(
        HandshakeFailed, match=r"relevant against irrelevant texts are .*: another model, or it pools otherwise than the model"
    ):
        _embed(opened("embed", NAME, proxy.url))
    _embed(opened("embed", NAME, proxy.url, handshake="counts"))


def test_vectors_of_another_norm_are_normalised_with_a_warning(faulty, opened, caplog):
    def longer(answer):
        vector = np.frombuffer(base64.b64decode(answer["data"][0]["embedding"]), "<f4")
        answer["data"][0]["embedding"] = (3 * vector).tolist()

    proxy = faulty("embed")
    proxy.faults = [edited(longer)]
    engine = opened("embed", ALIAS, proxy.url)
    vectors = _embed(engine)
    assert vectors.shape[1] == engine.dimensions
    assert "not 1; they are normalised here" in caplog.text


def test_another_model_under_a_published_name_is_refused(tiny_servers, opened, tiny_embedder):
    """Width and token counts of the published models are known without their files."""
    engine = opened("embed", PUBLISHED["embed"], tiny_servers["embed"].url, source="local")
    assert (engine.tokenizer, engine.dimensions) == (None, 1024)
    width = json.loads((tiny_embedder / "config.json").read_text())["hidden_size"]
    with pytest.raises(HandshakeFailed, match=rf"{width} dimensions, Qwen/Qwen3-Embedding-0.6B has 1024: it serves another model"):
        _embed(engine)
    engine = opened("rerank", PUBLISHED["rerank"], tiny_servers["rerank"].url, source="local")
    with pytest.raises(HandshakeFailed, match=r"tokens where Qwen/Qwen3-Reranker-0.6B in its template has 91.*another tokenizer"):
        _rank(engine)


def test_dialects_by_name(tiny_servers, opened):
    assert "dialect='openai'" in repr(opened("embed", ALIAS, tiny_servers["embed"].url, dialect="openai"))
    with pytest.raises(ConfigError, match="These can: qwen3, rerank, sglang, vllm"):
        opened("rerank", ALIAS, tiny_servers["rerank"].url, dialect="openai")
