"""What comes out of an engine is checked before it leaves: invalid rows are refused."""

from __future__ import annotations

import numpy as np
import pytest

from qwen3_integrations import Embedder, FakeEngine, Reranker
from qwen3_integrations.core.types import Reply
from qwen3_integrations.errors import BadReply, ConfigError


class Answering(FakeEngine):
    """Returns the given rows for any job."""

    def __init__(self, task, rows):
        super().__init__(task)
        self.rows = np.asarray(rows, dtype=np.float32)

    def run(self, job):
        return Reply(self.rows, (0,) * len(job.prompts))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (np.ones((1, 64)), "for 2 prompts, not one vector for each"),
        (np.ones(2), "for 2 prompts, not one vector for each"),
        (np.zeros((2, 64)), "zero or not finite"),
        ([[1.0] * 64, [float("nan")] * 64], "item 1 of this call"),
        ([[float("inf")] * 64, [1.0] * 64], "item 0 of this call"),
    ],
)
def test_invalid_vectors_are_refused(rows, said):
    with pytest.raises(BadReply, match=said):
        Embedder(Answering("embed", rows)).embed_documents(["one", "two"])


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([0.5], "for 2 prompts, not one score for each"),
        ([[0.5], [0.5]], "for 2 prompts, not one score for each"),
        ([0.5, 1.5], "item 1 of this call"),
        ([float("nan"), 0.5], "item 0 of this call"),
    ],
)
def test_invalid_scores_are_refused(rows, said):
    with pytest.raises(BadReply, match=said):
        Reranker(Answering("rerank", rows)).rank("query", ["one", "two"])


def test_a_reply_narrower_than_the_dimensions_asked_for():
    with pytest.raises(BadReply, match="40 dimensions, fewer than the 48 wanted"):
        Embedder(Answering("embed", np.ones((1, 40))), dimensions=48).embed_documents(["one"])


@pytest.mark.parametrize("dimensions", [31, 65, 0, -1, 40.0, "48", True])
def test_dimensions_outside_the_models_range(dimensions):
    with pytest.raises(ConfigError, match="from 32 to 64"):
        Embedder(FakeEngine("embed"), dimensions=dimensions)


@pytest.mark.parametrize("max_tokens", [0, -5, 1.5, True, "8"])
def test_invalid_budgets_are_refused(max_tokens):
    with pytest.raises(ConfigError, match="max_tokens"):
        Embedder(FakeEngine("embed"), max_tokens=max_tokens)
    with pytest.raises(ConfigError, match="max_tokens"):
        Reranker(FakeEngine("rerank"), max_tokens=max_tokens)


def test_an_unknown_separator_is_refused():
    with pytest.raises(ConfigError, match="separator"):
        Reranker(FakeEngine("rerank"), separator=" ")


def test_invalid_pairs_are_refused():
    for wrong in ("ab", ("only one",), ("a", "b", "c")):
        with pytest.raises(TypeError, match=r"pairs\[1\]"):
            Reranker(FakeEngine("rerank")).score([("query", "document"), wrong])
