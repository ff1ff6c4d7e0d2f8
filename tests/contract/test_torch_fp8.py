"""The torch engine in FP8, computed on a CPU by PyTorch's functions from the same quantised values."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch

from qwen3_integrations import Embedder, Reranker
from qwen3_integrations.core.fingerprint import Fingerprint
from qwen3_integrations.engines.torch import engine, flash_attention, fp8
from qwen3_integrations.engines.torch.engine import TorchEngine
from qwen3_integrations.engines.torch.kernel_selection import first_correct
from qwen3_integrations.engines.torch.qwen3 import Qwen3
from qwen3_integrations.engines.torch.scaled import FORMAT, LARGEST, Scaled, check_support, product, quantise
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.checkpoint import read_model
from tests.contract.test_torch_kernels import packed_attention
from tests.models import SHAPES, Shape, write_random_model
from tests.reference import reference_embeddings, reference_scores
from tests.texts import PLAIN


@pytest.fixture
def fp8_here(monkeypatch):
    """Lets the engine compute in FP8 on a CPU."""
    monkeypatch.setattr(engine, "check_fp8", lambda *_: None)


def test_a_row_is_quantised_by_its_largest_value():
    rows = torch.tensor([[0.0, 0.0, 0.0], [1.0, -2.0, 448.0], [1e-3, -1e-3, 2e-4], [3e4, 1.0, -6e4]])
    found = quantise(rows)
    assert found.values.dtype == FORMAT
    assert found.scales[1:].tolist() == pytest.approx([1.0, 1e-3 / LARGEST, 6e4 / LARGEST])
    assert not found.float()[0].any()
    torch.testing.assert_close(found.float(), rows, rtol=2**-4, atol=0.3)
    assert quantise(torch.tensor([[1.0, float("nan")]])).float().isnan().any()


def test_rows_are_taken_with_their_scales():
    matrix = quantise(torch.randn(6, 32))
    for rows in (slice(2, 5), torch.tensor([5, 0, 0])):
        assert torch.equal(matrix[rows].float(), matrix.float()[rows])
    assert (len(matrix[2:]), matrix.shape, matrix[2:].shape) == (4, (6, 32), (4, 32))


def test_a_product_is_that_of_the_quantised_values():
    states, weight = torch.randn(5, 64), torch.randn(48, 64)
    found = product(quantise(states), quantise(weight))
    assert found.dtype == torch.bfloat16
    exact = states @ weight.T
    assert torch.linalg.vector_norm(found.float() - exact) < 0.06 * torch.linalg.vector_norm(exact)


@pytest.mark.parametrize("size", SHAPES)
def test_vectors_and_scores_are_near_to_the_reference(size, random_models, fp8_here):
    with closing(TorchEngine("embed", str(random_models["embed", size]), device="cpu", dtype="fp8")) as engine:
        cosines = (Embedder(engine).embed_documents(PLAIN) * reference_embeddings(random_models["embed", size], PLAIN)).sum(axis=1)
    assert 0.97 < cosines.min() < 0.99999  # FP8 is really used
    pairs = [("one query", document) for document in PLAIN]
    with closing(TorchEngine("rerank", str(random_models["rerank", size]), device="cpu", dtype="fp8")) as engine:
        together = Reranker(engine).score(pairs)
        alone = np.concatenate([Reranker(engine).score([pair]) for pair in pairs])
    assert np.abs(together - reference_scores(random_models["rerank", size], pairs)).max() < 0.2  # random heads spread their logits widely
    assert np.abs(together - alone).max() < 0.1


def test_trained_weights_keep_their_order(tiny_embedder, tiny_reranker, fp8_here):
    texts = ["How do I sort a list in Python?", "A recipe for bread.", "The sorted function returns a new sorted list."]
    with closing(TorchEngine("embed", str(tiny_embedder), device="cpu", dtype="fp8")) as engine:
        found = Embedder(engine).embed_documents(texts)
    assert (found * reference_embeddings(tiny_embedder, texts)).sum(axis=1).min() > 0.99
    with closing(TorchEngine("rerank", str(tiny_reranker), device="cpu", dtype="fp8")) as engine:
        scores = Reranker(engine).score([(texts[0], text) for text in texts[1:]])
    assert scores[1] > scores[0]


def test_attention_by_a_kernel_and_pending_products(random_models, fp8_here, monkeypatch):
    """The next norm adds a product, as on a GPU: the same numbers as without, up to values that are rounded the other way."""
    model = str(random_models["embed", next(iter(SHAPES))])
    with closing(TorchEngine("embed", model, device="cpu", dtype="fp8")) as engine:
        expected = Embedder(engine).embed_documents(PLAIN)
    pending = fp8.plain_functions._replace(mlp_tokens=None, add_product=lambda _, states, weight: product(states, weight))
    monkeypatch.setattr("qwen3_integrations.engines.torch.forward.functions_for", lambda *_: pending)
    monkeypatch.setattr(flash_attention, "kernel_for", lambda *_: packed_attention([]))
    with closing(TorchEngine("embed", model, device="cpu", dtype="fp8")) as engine:
        assert (Embedder(engine).embed_documents(PLAIN) * expected).sum(axis=1).min() > 0.99


def test_a_pooling_over_all_tokens(tmp_path, fp8_here):
    import json

    folder = write_random_model(tmp_path / "model", "embed", next(iter(SHAPES.values())))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True, "pooling_mode_lasttoken": False}))
    vectors = {}
    for dtype in ("float32", "fp8"):
        with closing(TorchEngine("embed", str(folder), device="cpu", dtype=dtype)) as engine:
            vectors[dtype] = Embedder(engine).embed_documents(PLAIN)
    assert 0.97 < (vectors["fp8"] * vectors["float32"]).sum(axis=1).min() < 0.99999


def test_the_number_format_is_told(tiny_embedder, fp8_here):
    with closing(TorchEngine("embed", str(tiny_embedder), device="cpu", dtype="fp8")) as engine:
        assert "dtype='fp8'" in repr(engine)
        assert engine.where.startswith("cpu, fp8")
        assert not engine.capabilities.exact
        found = engine.fingerprint()
    assert (found.numerics["dtype"], found.numerics["quantisation"]) == ("bfloat16", "fp8")
    with closing(TorchEngine("embed", str(tiny_embedder), device="cpu", dtype="bfloat16")) as engine:
        other: Fingerprint = engine.fingerprint()
    assert other.identity == found.identity
    assert other.numerics != found.numerics


def test_fp8_is_never_the_default(tiny_embedder):
    with closing(TorchEngine("embed", str(tiny_embedder), device="cpu")) as engine:
        assert engine.dtype == "float32"


@pytest.mark.parametrize(
    ("capability", "found"), [((8, 0), "NVIDIA A100 has compute capability 8.0"), ((7, 5), "NVIDIA A100 has compute capability 7.5")]
)
def test_a_device_without_fp8_units_is_refused_with_what_is_needed(capability, found, monkeypatch, tiny_embedder):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "NVIDIA A100")
    shape = read_model(tiny_embedder, "embed").shape
    with pytest.raises(ConfigError, match=r"compute capability 8.9 or later: Ada, Hopper, Blackwell") as caught:
        check_support(torch.device("cuda", 0), shape)
    assert found in str(caught.value)
    assert "bfloat16" in str(caught.value)
    assert caught.value.option == "dtype"


def test_a_build_for_amd_and_odd_widths_are_refused(monkeypatch, tiny_embedder):
    shape = read_model(tiny_embedder, "embed").shape
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))
    with pytest.raises(ConfigError, match="multiples of 16"):
        check_support(torch.device("cuda", 0), replace(shape, intermediate_size=100))
    monkeypatch.setattr(torch.version, "hip", "6.0")
    with pytest.raises(ConfigError, match="a build of PyTorch for AMD"):
        check_support(torch.device("cuda", 0), shape)


def test_kernels_that_give_other_results_are_not_used(tiny_embedder, caplog):
    model = Qwen3(read_model(tiny_embedder, "embed"), torch.device("cpu"), torch.bfloat16, fp8=True)
    plain = fp8.plain_functions

    def late(states, weight):
        out = plain.gate_up_swiglu(states, weight)
        out.scales[4096:] *= 2
        return out

    def forgets(residual, pending, weight, epsilon):
        return plain.norm(residual, None, weight, epsilon)

    right = plain._replace(mlp_tokens=None, add_product=lambda _, states, weight: product(states, weight))
    wrong = [
        right._replace(gate_up_swiglu=late),
        right._replace(norm=forgets),
        right._replace(as_operand=lambda states: Scaled(quantise(states).values, quantise(states).scales * 1.1)),
        right._replace(add_product=lambda *_: None),
    ]
    for functions, expected in [*((each, plain) for each in wrong), (right, right)]:
        assert first_correct({lambda functions=functions: functions: (33, 4097)}, model, torch.device("cpu"), torch.bfloat16) == expected
    assert caplog.text.count("differs from PyTorch's") == len(wrong)


def test_weights_are_quantised_from_the_stored_values(tmp_path):
    """Not from their copies in bfloat16."""
    wide = Shape(hidden=64, heads=4, kv_heads=2, layers=2, tied=True, head_dim=32, inner=96)
    folder = write_random_model(tmp_path / "model", "embed", wide)
    model = Qwen3(read_model(folder, "embed"), torch.device("cpu"), torch.bfloat16, fp8=True)
    exact = Qwen3(read_model(folder, "embed"), torch.device("cpu"), torch.float32)
    for quantised_layer, layer in zip(model.weights.layers, exact.weights.layers, strict=True):
        for name in ("qkv", "output", "gate_up", "down"):
            assert torch.equal(getattr(quantised_layer, name).float(), quantise(getattr(layer, name)).float())
