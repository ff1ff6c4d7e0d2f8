"""The clients that people have, each on the route that it uses: their numbers are those of the engine in this process."""

from __future__ import annotations

import asyncio
import base64
import gc

import cohere
import httpx
import numpy as np
import openai
import pytest
from langchain_cohere import CohereRerank
from langchain_core.documents import Document
from langchain_openai import OpenAIEmbeddings
from llama_index.embeddings.openai_like import OpenAILikeEmbedding

from qwen3_integrations import Embedder, Reranker, open_engine
from tests.http_server.conftest import EMBEDDER, KEY, RERANKER

QUERY = "how do I read a csv file"
TEXTS = ["Gravity attracts bodies.", "The csv module reads csv files.", "<|im_end|> a text that spells a control token", " "]
NEAR = {"rtol": 0, "atol": 1e-5}


pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module", autouse=True)
def _sockets_of_clients():
    """The clients of other packages leave their connections to the garbage collector."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def vectors(embedder):
    return embedder.embed_documents(TEXTS)


@pytest.fixture(scope="module")
def query(embedder):
    return embedder.embed_queries([QUERY])[0]


@pytest.fixture(scope="module")
def scores(reranker):
    return reranker.score([(QUERY, text) for text in TEXTS])


@pytest.fixture(scope="module")
def client(url):
    return openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0)


@pytest.mark.parametrize("encoding", ["float", "base64", openai.omit])
def test_openai(client, vectors, encoding):
    answer = client.embeddings.create(model=EMBEDDER, input=TEXTS, encoding_format=encoding)
    rows = [one.embedding for one in answer.data]
    rows = [np.frombuffer(base64.b64decode(row), "<f4") for row in rows] if isinstance(rows[0], str) else rows
    np.testing.assert_allclose(rows, vectors, **NEAR)
    assert answer.usage.prompt_tokens > len(TEXTS)
    assert answer.model == EMBEDDER


def test_openai_one_text_and_dimensions(client, embedder):
    narrow = Embedder(embedder.engine, dimensions=32)
    answer = client.embeddings.create(model=EMBEDDER, input=TEXTS[0], dimensions=32, user="someone")
    np.testing.assert_allclose([answer.data[0].embedding], narrow.embed_documents(TEXTS[:1]), **NEAR)


@pytest.mark.parametrize(
    ("model", "extra"),
    [(f"{EMBEDDER}:query", {}), (EMBEDDER, {"input_type": "query"}), (EMBEDDER, {"input_type": "search_query"})],
)
def test_openai_queries(client, query, model, extra):
    answer = client.embeddings.create(model=model, input=QUERY, extra_body=extra)
    np.testing.assert_allclose(answer.data[0].embedding, query, **NEAR)


def test_openai_with_an_instruction(client, embedder):
    expected = embedder.embed_queries([QUERY], "Find code.")[0]
    answer = client.embeddings.create(model=EMBEDDER, input=QUERY, extra_body={"instruction": "Find code."})
    np.testing.assert_allclose(answer.data[0].embedding, expected, **NEAR)


def test_openai_lists_models(client):
    assert [(one.id, one.owned_by) for one in client.models.list()] == [(EMBEDDER, "qwen3-integrations"), (RERANKER, "qwen3-integrations")]
    assert client.models.retrieve(RERANKER).id == RERANKER


def test_langchain_openai_as_people_have_it_is_refused_with_the_setting_to_change(url):
    stock = OpenAIEmbeddings(model=EMBEDDER, base_url=f"{url}/v1", api_key=KEY, max_retries=0, tiktoken_enabled=True)
    with pytest.raises((openai.BadRequestError, httpx.ConnectError, OSError)) as raised:  # without a network tiktoken can't load its ids
        stock.embed_documents(TEXTS)
    if isinstance(raised.value, openai.BadRequestError):
        assert "check_embedding_ctx_length=False" in str(raised.value)


def test_token_ids_are_refused_with_the_setting_to_change(client):
    for ids in ([1, 2, 3], [[1, 2], [3]]):
        with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length=False"):
            client.embeddings.create(model=EMBEDDER, input=ids)


def test_langchain_openai(url, vectors, query):
    settings = {"base_url": f"{url}/v1", "api_key": KEY, "check_embedding_ctx_length": False}
    documents, queries = (OpenAIEmbeddings(model=name, **settings) for name in (EMBEDDER, f"{EMBEDDER}:query"))
    np.testing.assert_allclose(documents.embed_documents(TEXTS), vectors, **NEAR)
    np.testing.assert_allclose(queries.embed_query(QUERY), query, **NEAR)
    np.testing.assert_allclose(asyncio.run(documents.aembed_documents(TEXTS)), vectors, **NEAR)


def test_llama_index_openai_like(url, vectors):
    embedding = OpenAILikeEmbedding(model_name=EMBEDDER, api_base=f"{url}/v1", api_key=KEY)
    np.testing.assert_allclose(embedding.get_text_embedding_batch(TEXTS[:2]), vectors[:2], **NEAR)


@pytest.mark.parametrize("kind", [cohere.Client, cohere.ClientV2])
def test_cohere(url, scores, kind):
    answer = kind(api_key=KEY, base_url=url).rerank(model=RERANKER, query=QUERY, documents=TEXTS, top_n=3)
    order = np.argsort(-scores, kind="stable")[:3]
    assert [one.index for one in answer.results] == order.tolist()
    np.testing.assert_allclose([one.relevance_score for one in answer.results], scores[order], **NEAR)


def test_langchain_cohere(url, scores):
    rerank = CohereRerank(model=RERANKER, client=cohere.ClientV2(api_key=KEY, base_url=url), top_n=2)
    found = rerank.compress_documents([Document(text) for text in TEXTS], QUERY)
    assert [one.page_content for one in found] == [TEXTS[at] for at in np.argsort(-scores, kind="stable")[:2]]
    assert found[0].metadata["relevance_score"] == pytest.approx(float(scores.max()), abs=1e-5)


def test_hugging_face_inference_client(url, vectors, monkeypatch):
    from huggingface_hub import InferenceClient, constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # it would send nothing, not even to this machine
    client = InferenceClient(base_url=url, headers={"Authorization": f"Bearer {KEY}"})
    np.testing.assert_allclose(client.feature_extraction(TEXTS[0]).reshape(-1), vectors[0], **NEAR)


OWN = [("embed", "openai"), ("embed", "vllm"), ("rerank", "rerank"), ("rerank", "vllm"), ("embed", "auto"), ("rerank", "auto")]


@pytest.mark.parametrize(("task", "dialect"), OWN)
def test_our_own_engine(url, embedder, reranker, query, task, dialect):
    texts = TEXTS if dialect == "auto" else [*TEXTS[:2], TEXTS[3]]  # for another server the engine would spell control tokens otherwise
    name = EMBEDDER if task == "embed" else RERANKER
    engine = open_engine(task, name, base_url=url, api_key=KEY, dialect=dialect, max_retries=0)
    with engine:
        if task == "embed":
            here = Embedder(engine)
            np.testing.assert_allclose(here.embed_documents(texts), embedder.embed_documents(texts), **NEAR)
            np.testing.assert_allclose(here.embed_queries([QUERY])[0], query, **NEAR)
        else:
            pairs = [(QUERY, text) for text in texts]
            np.testing.assert_allclose(Reranker(engine).score(pairs, "Find code."), reranker.score(pairs, "Find code."), **NEAR)
        assert engine.server.dialect.name == ("qwen3" if dialect == "auto" else dialect)


def post(url, path, body, **headers):
    return httpx.post(f"{url}{path}", json=body, headers={"Authorization": f"Bearer {KEY}"} | headers)


def test_text_embeddings_inference(url, vectors, query, scores):
    np.testing.assert_allclose(post(url, "/embed", {"inputs": TEXTS}).json(), vectors, **NEAR)
    np.testing.assert_allclose(post(url, "/embed", {"inputs": QUERY, "prompt_name": "query"}).json(), [query], **NEAR)
    ranked = post(url, "/rerank", {"query": QUERY, "texts": TEXTS, "return_text": True}).json()
    order = np.argsort(-scores, kind="stable")
    assert [(one["index"], one["text"]) for one in ranked] == [(at, TEXTS[at]) for at in order]
    raw = post(url, "/rerank", {"query": QUERY, "texts": TEXTS, "raw_scores": True}).json()
    np.testing.assert_allclose([1 / (1 + np.exp(-one["score"])) for one in raw], scores[order], atol=1e-5)
    info = httpx.get(f"{url}/info", headers={"Authorization": f"Bearer {KEY}"}).json()
    assert (info["model_id"], info["model_type"]) == (EMBEDDER, {"embedding": {"pooling": "last_token"}})


def test_vllm_scores(url, scores, reranker):
    one = post(url, "/score", {"model": RERANKER, "text_1": QUERY, "text_2": TEXTS}).json()
    np.testing.assert_allclose([each["score"] for each in one["data"]], scores, **NEAR)
    pairs = post(url, "/v1/score", {"queries": [QUERY, "planets"], "documents": TEXTS[:2], "instruction": "Find code."}).json()
    expected = reranker.score([(QUERY, TEXTS[0]), ("planets", TEXTS[1])], "Find code.")
    np.testing.assert_allclose([each["score"] for each in pairs["data"]], expected, **NEAR)


def test_jina_with_documents_as_objects(url, scores):
    documents = [{"text": text, "title": "a"} for text in TEXTS]
    answer = post(
        url, "/v1/rerank", {"model": RERANKER, "query": QUERY, "documents": documents, "top_n": 1, "return_documents": True}
    ).json()
    best = int(scores.argmax())
    assert answer["results"][0]["document"] == documents[best]
    assert answer["usage"]["total_tokens"] > 0


def test_vllm_tokenize(url, embedder):
    (ids,) = embedder.engine.tokenizer.encode(["a csv file"])
    answer = post(url, "/tokenize", {"model": EMBEDDER, "prompt": "a csv file"}).json()
    assert answer["tokens"] == [*ids.tolist(), *embedder.engine.tokenizer.end_ids.tolist()]
    assert answer["count"] == len(answer["tokens"])
