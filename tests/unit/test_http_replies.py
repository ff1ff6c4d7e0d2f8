"""Replies over HTTP: tokens of each prompt where they are known, the server's total, the budget, the fingerprint."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest

from qwen3_integrations import Embedder, open_engine
from qwen3_integrations.core.planning import document_prompts
from qwen3_integrations.core.tokenizer import Tokenizer
from qwen3_integrations.core.types import Job
from qwen3_integrations.engines import EngineWrapper
from qwen3_integrations.errors import EngineClosed, ServerError
from qwen3_integrations.models.tokenizer_files import read_tokenizer
from tests.server.stand_in import StandIn

TEXTS = ["one", "two words", "", "three words here"]


class Silent(StandIn):
    """Does not report how many tokens it read."""

    def _answer(self, call):
        answer = call.answer

        def without_usage(status, body, *more):
            content = json.loads(body)
            content.pop("usage", None)
            answer(status, json.dumps(content).encode(), *more)

        object.__setattr__(call, "answer", without_usage)
        super()._answer(call)


@pytest.fixture(scope="module")
def server(tiny_embedder) -> Iterator[StandIn]:
    with StandIn(tiny_embedder) as started:
        yield started


@pytest.fixture
def tokenizer(tiny_embedder) -> Tokenizer:
    return read_tokenizer(tiny_embedder)


def opened(server: StandIn, **options):
    return open_engine("embed", "served", base_url=server.url, handshake="off", **options)


def job(tokenizer: Tokenizer | None, texts=TEXTS, budget: int = 512) -> Job:
    return Job("embed", document_prompts(texts, tokenizer, budget), budget)


def test_without_a_tokenizer_only_the_total_is_known(server, tokenizer):
    counts = [prompt.tokens for prompt in job(tokenizer).prompts]
    with opened(server) as engine:
        reply = engine.run(job(None))
    assert reply.tokens == (None,) * len(TEXTS)
    assert reply.server_tokens == reply.total_tokens == sum(counts)
    assert reply.max_tokens is None


def test_with_a_tokenizer_each_prompt_is_counted(server, tokenizer, tiny_embedder):
    counts = tuple(prompt.tokens for prompt in job(tokenizer).prompts)
    with opened(server, tokenizer=tiny_embedder) as engine:
        reply = engine.run(job(engine.tokenizer))
    assert reply.tokens == counts
    assert reply.server_tokens == reply.total_tokens == sum(counts)


def test_the_tokenizer_counts_for_a_server_that_reports_no_tokens(tiny_embedder, tokenizer):
    with Silent(tiny_embedder) as silent:
        with opened(silent, tokenizer=tiny_embedder) as engine:
            reply = engine.run(job(engine.tokenizer))
        with opened(silent) as engine:
            unknown = engine.run(job(None))
    assert reply.server_tokens is None
    assert reply.total_tokens == sum(reply.tokens) == sum(prompt.tokens for prompt in job(tokenizer).prompts)
    assert (unknown.server_tokens, unknown.total_tokens) == (None, 0)


def test_the_budget_is_reported_only_if_the_server_s_limit_is_below_the_job_s(tiny_embedder):
    with StandIn(tiny_embedder, context=16) as small, opened(small, tokenizer=tiny_embedder) as engine:
        wide = engine.run(job(engine.tokenizer, ["word " * 100, "short"], 512))
        narrow = engine.run(job(engine.tokenizer, ["word " * 100, "short"], 8))
    assert wide.max_tokens == engine.max_tokens == 15
    assert wide.truncated == {0}
    assert wide.tokens[0] == 15  # after the cut
    assert narrow.max_tokens is None
    assert narrow.tokens[0] == 8


def test_the_usage_adds_up_as_the_server_counts(server, tokenizer):
    with opened(server) as engine:
        embedder = Embedder(EngineWrapper(engine))
        embedder.embed_documents(TEXTS)
        embedder.embed_documents(TEXTS)
    assert embedder.usage.tokens == 2 * sum(prompt.tokens for prompt in job(tokenizer).prompts)


def test_a_fingerprint_over_http_is_partial_and_differs_for_another_model(server, tiny_embedder, random_embedder, tokenizer):
    with opened(server) as engine, opened(server, tokenizer=tiny_embedder) as counting:
        found, with_tokenizer = engine.fingerprint(), counting.fingerprint()
    assert found.partial
    assert "tokenizer" not in found.identity
    assert with_tokenizer.identity["tokenizer"] == tokenizer.digest
    assert [(d.part, d.name) for d in found.differences(with_tokenizer)] == [("numerics", "client tokenizer")]
    assert server.url not in json.dumps(found.to_dict())
    assert str(tiny_embedder) not in json.dumps(found.to_dict())
    with StandIn(random_embedder, loaded_from=str(tiny_embedder)) as other, opened(other) as engine:
        differences = found.differences(engine.fingerprint())
    assert {difference.part for difference in differences} == {"identity"}
    assert {difference.name for difference in differences} <= {"width", "sample"}
    assert np.isclose(np.linalg.norm(found.sample), 1, atol=1e-3)


def test_a_fingerprint_of_a_server_that_is_gone_or_of_a_closed_engine_is_an_error(tiny_embedder):
    with StandIn(tiny_embedder) as gone:
        engine = opened(gone, max_retries=0)
    with pytest.raises(ServerError):
        engine.fingerprint()
    engine.close()
    with pytest.raises(EngineClosed):
        engine.fingerprint()
