"""Extended contexts and sliding windows on torch: numbers of transformers, or a refusal by name."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from qwen3_integrations import Embedder, Reranker, open_engine
from qwen3_integrations.errors import ConfigError
from tests.contract.cases import TOLERANCE
from tests.models import declare
from tests.reference import reference_embeddings, reference_scores

pytestmark = pytest.mark.filterwarnings("ignore")

TEXTS = ["short", "a text of many words " * 8, "one word after another, far beyond the original context; " * 40]
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
ROPES = {
    "yarn": {"rope_scaling": YARN},
    "yarn, with the old key": {"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}},
    "yarn in rope_parameters": {"rope_parameters": YARN | {"rope_theta": 500000.0}},
    "yarn, theta beside it": {"rope_parameters": YARN, "rope_theta": 20000.0},
    "yarn in both": {"rope_scaling": YARN, "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0}},
    "yarn with an attention factor": {"rope_scaling": YARN | {"attention_factor": 1.3}},
    "yarn with mscale": {"rope_scaling": YARN | {"mscale": 0.7, "mscale_all_dim": 0.4}},
    "yarn with betas": {"rope_scaling": YARN | {"beta_fast": 16, "beta_slow": 2}},
    "yarn, not truncated": {"rope_scaling": YARN | {"truncate": False}},
    "yarn with a factor below one": {"rope_scaling": YARN | {"factor": 0.5}},
    "yarn without the original length": {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}, "max_position_embeddings": 1024},
    "linear": {"rope_scaling": {"rope_type": "linear", "factor": 3.0}},
    "linear, with the old key": {"rope_scaling": {"type": "linear", "factor": 3.0}},
    "theta in rope_parameters": {"rope_parameters": {"rope_type": "default", "rope_theta": 123456.0}, "rope_theta": None},
}
WITHOUT_EFFECT = {
    "null": {"use_sliding_window": True, "sliding_window": None},
    "not used": {"use_sliding_window": False, "sliding_window": 8},
    "in no layer": {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 28},
    "as long as the context": {"use_sliding_window": True, "sliding_window": 32768, "max_window_layers": 0},
    "all layers are full": {"use_sliding_window": True, "sliding_window": 8, "layer_types": ["full_attention"] * 2},
}


@pytest.fixture
def written(random_models, tmp_path):
    """Writes a random model of a task with other fields in its config."""

    def write(task, **fields):
        folder = tmp_path / task
        shutil.copytree(random_models[task, "0.6B"], folder)
        return set_fields(folder, **fields)

    return write


def set_fields(folder, **fields):
    """As `declare`, and null stays null."""
    nulls = dict.fromkeys(("rope_scaling", "layer_types")) | fields
    content = json.loads((folder / "config.json").read_text()) | nulls
    (folder / "config.json").write_text(json.dumps(content))
    return declare(folder)


def vectors(folder):
    with open_engine("embed", str(folder), backend="torch", dtype="float32", device="cpu") as engine:
        return Embedder(engine).embed_documents(TEXTS)


@pytest.mark.parametrize("name", ROPES)
def test_extended_contexts_equal_transformers(written, random_embedder, name):
    folder = written("embed", **ROPES[name])
    assert np.abs(vectors(folder) - reference_embeddings(folder, TEXTS)).max() < TOLERANCE
    assert np.abs(vectors(folder) - vectors(random_embedder)).max() > 100 * TOLERANCE


def test_an_extended_reranker_equals_transformers(written):
    folder = written("rerank", rope_scaling=YARN)
    pairs = [("one query", text) for text in TEXTS]
    with open_engine("rerank", str(folder), backend="torch", dtype="float32", device="cpu") as engine:
        assert np.abs(Reranker(engine).score(pairs) - reference_scores(folder, pairs)).max() < TOLERANCE


def test_the_extended_context_is_the_longest_prompt(written):
    folder = written("embed", max_position_embeddings=4096, rope_scaling=YARN | {"original_max_position_embeddings": 4096})
    with open_engine("embed", str(folder), backend="torch", device="cpu") as engine:
        assert engine.max_tokens == 16384


@pytest.mark.parametrize("kind", ["dynamic", "longrope", "llama3", "ntk"])
def test_other_scalings_are_refused_by_name(written, kind):
    with pytest.raises(ConfigError, match=rf"config\.json: rope_scaling has the scaling '{kind}'.*vllm"):
        vectors(written("embed", rope_scaling={"rope_type": kind, "factor": 2.0}))


@pytest.mark.parametrize(
    ("rope", "message"),
    [
        ({"rope_type": "yarn"}, "factor must be a number above 0, not None"),
        ({"rope_type": "linear", "factor": "2"}, "factor.* must be a number above 0, not '2'"),
        (YARN | {"original_max_position_embeddings": -1}, "original_max_position_embeddings"),
        (["yarn"], "rope_scaling must be an object"),
        ({"rope_type": "default", "partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    ],
)
def test_incomplete_scalings_are_refused_by_name(written, rope, message):
    with pytest.raises(ConfigError, match=message):
        vectors(written("embed", rope_scaling=rope))


@pytest.mark.parametrize("name", WITHOUT_EFFECT)
def test_a_sliding_window_without_effect_is_accepted(written, random_embedder, name):
    assert np.array_equal(vectors(written("embed", **WITHOUT_EFFECT[name])), vectors(random_embedder))


@pytest.mark.parametrize(
    "fields",
    [
        {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
        {"use_sliding_window": True, "sliding_window": 4096, "max_window_layers": 0},
        {"use_sliding_window": True, "sliding_window": 8, "layer_types": ["full_attention", "sliding_attention"]},
    ],
)
def test_a_sliding_window_with_effect_is_refused_by_name(written, fields):
    with pytest.raises(ConfigError, match=r"config\.json uses a sliding window \((use_sliding_window|layer_types), sliding_window \d+\)"):
        vectors(written("embed", **fields))
