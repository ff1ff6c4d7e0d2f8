"""PEFT adapters on torch: the numbers of peft's merged model, or a refusal by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from qwen3_integrations import Embedder, Reranker, open_engine
from qwen3_integrations.errors import ConfigError, ModelNotFound, Qwen3Error
from tests.contract.cases import TOLERANCE
from tests.models import write_classifier
from tests.reference import embedding_ids, rerank_ids, text_ids
from tests.texts import PLAIN

pytestmark = pytest.mark.filterwarnings("ignore")

TEXTS = PLAIN[:6]
PAIRS = [("how do I read a csv file", text) for text in TEXTS]
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
ADAPTERS = {
    "attention": {"target_modules": ATTENTION},
    "mlp": {"target_modules": ["gate_proj", "up_proj", "down_proj"]},
    "all linear": {"target_modules": "all-linear", "r": 3},
    "by a regular expression": {"target_modules": r".*layers\.[01]\.self_attn\.(q|v)_proj"},
    "patterns": {
        "target_modules": [*ATTENTION, "down_proj"],
        "rank_pattern": {r"layers\.1\..*q_proj": 2, "down_proj": 5},
        "alpha_pattern": {"k_proj": 3, r"model\.layers\.0\.self_attn\.o_proj": 40},
    },
    "rslora": {"target_modules": ATTENTION, "use_rslora": True, "r": 6},
    "norms replaced": {"target_modules": ["q_proj"], "modules_to_save": ["norm", "input_layernorm"]},
    "embeddings replaced": {"target_modules": ["v_proj"], "modules_to_save": ["embed_tokens"]},
}
HEADS = {
    "no head": {},
    "head replaced": {"modules_to_save": ["lm_head"]},
    "embeddings replaced": {"modules_to_save": ["embed_tokens"]},
    "both replaced": {"modules_to_save": ["embed_tokens", "lm_head"]},
    "some layers": {"target_modules": ["q_proj"], "layers_to_transform": [1]},
    "one layer": {"target_modules": ["down_proj"], "layers_to_transform": 0, "layers_pattern": "layers"},
}


def trained(kind, base, folder, **config):
    """Write an adapter of peft with random weights; returns peft's merged model."""
    import transformers
    from peft import LoraConfig, get_peft_model

    options = {"num_labels": config.pop("num_labels")} if "num_labels" in config else {}
    model = getattr(transformers, kind).from_pretrained(base, dtype=torch.float32, **options)
    adapted = get_peft_model(model, LoraConfig(**{"r": 4, "lora_alpha": 8} | config))
    draw = torch.Generator().manual_seed(3)
    for weight in adapted.parameters():
        if weight.requires_grad:
            weight.data += torch.randn(weight.shape, generator=draw) / 20
    adapted.save_pretrained(folder)
    return adapted.merge_and_unload().eval()


@torch.inference_mode()
def merged_vectors(model, base):
    rows = [model(input_ids=torch.tensor([embedding_ids(base, text)])).last_hidden_state[0, -1] for text in TEXTS]
    return torch.nn.functional.normalize(torch.stack(rows), dim=1).numpy()


@torch.inference_mode()
def merged_logits(model, base):
    logits = [model(input_ids=torch.tensor([rerank_ids(base, *pair)])).logits[0] for pair in PAIRS]
    return torch.stack([each[-1] if each.ndim == 2 else each for each in logits])


def merged_scores(model, base):
    no, yes = (text_ids(base, word)[0] for word in ("no", "yes"))
    logits = merged_logits(model, base)
    return torch.sigmoid(logits[:, yes] - logits[:, no]).numpy()


def vectors(folder, **options):
    with open_engine("embed", str(folder), **{"backend": "torch", "dtype": "float32", "device": "cpu"} | options) as engine:
        return Embedder(engine).embed_documents(TEXTS)


def scores(folder):
    with open_engine("rerank", str(folder), backend="torch", dtype="float32", device="cpu") as engine:
        return Reranker(engine).score(PAIRS)


def edit(folder, **fields):
    path = folder / "adapter_config.json"
    content = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not ...}))


def rename(folder, change):
    path = folder / "adapter_model.safetensors"
    save_file({change(name): tensor for name, tensor in load_file(path).items()}, path, metadata={"format": "pt"})


@pytest.fixture(scope="module")
def plain_adapter(tiny_embedder, tmp_path_factory):
    """An adapter of the tiny embedding model, alone."""
    folder = tmp_path_factory.mktemp("adapters") / "plain-adapter"
    trained("AutoModel", tiny_embedder, folder, target_modules=[*ATTENTION, "down_proj"])
    return folder


@pytest.fixture
def adapter(plain_adapter, tmp_path):
    """A copy of it, to change."""
    return shutil.copytree(plain_adapter, tmp_path / "adapter")


@pytest.mark.parametrize("beside", [True, False], ids=["beside the base", "alone"])
@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapted_embedder_equals_peft(tiny_embedder, tmp_path, name, beside):
    folder = tmp_path / "adapter"
    if beside:
        shutil.copytree(tiny_embedder, folder)
    model = trained("AutoModel", tiny_embedder, folder, **ADAPTERS[name])
    assert np.abs(vectors(folder) - merged_vectors(model, tiny_embedder)).max() < TOLERANCE
    assert np.abs(vectors(folder) - vectors(tiny_embedder)).max() > 100 * TOLERANCE


@pytest.mark.parametrize("size", ["0.6B", "8B"], ids=["tied", "untied"])
@pytest.mark.parametrize("name", HEADS)
def test_an_adapted_reranker_equals_peft(random_models, tmp_path, name, size):
    base = random_models["rerank", size]
    config = {"target_modules": [*ATTENTION, "up_proj"], "task_type": "CAUSAL_LM"} | HEADS[name]
    model = trained("AutoModelForCausalLM", base, tmp_path / "adapter", **config)
    assert np.abs(scores(tmp_path / "adapter") - merged_scores(model, base)).max() < TOLERANCE


def test_a_changed_untied_head_equals_peft(random_models, tmp_path):
    base = random_models["rerank", "8B"]
    model = trained("AutoModelForCausalLM", base, tmp_path / "adapter", target_modules=["lm_head", "q_proj"])
    assert np.abs(scores(tmp_path / "adapter") - merged_scores(model, base)).max() < TOLERANCE


@pytest.mark.parametrize("labels", [1, 2])
@pytest.mark.parametrize("converted", [True, False], ids=["of a conversion", "of the original"])
def test_an_adapted_classifier_equals_peft(tiny_reranker, tmp_path, labels, converted):
    base = tiny_reranker
    if converted:
        names, order = (["LABEL_0"], ["yes"]) if labels == 1 else (["no", "yes"], ["no", "yes"])
        base = write_classifier(tmp_path / "base", tiny_reranker, names, order)
    config = {"target_modules": ATTENTION, "task_type": "SEQ_CLS", "num_labels": labels}
    model = trained("AutoModelForSequenceClassification", base, tmp_path / "adapter", **config)
    logits = merged_logits(model, tiny_reranker)
    expected = torch.sigmoid(logits[:, 0] if labels == 1 else logits[:, 1] - logits[:, 0]).numpy()
    assert np.abs(scores(tmp_path / "adapter") - expected).max() < TOLERANCE


@pytest.mark.parametrize(
    "change",
    [
        lambda name: name.replace(".weight", ".default.weight") if "lora_" in name else name,
        lambda name: name.removeprefix("base_model.model."),
        lambda name: name.replace("base_model.model.", "base_model.model.model."),
    ],
    ids=["with the adapter's name", "without a prefix", "of a causal model"],
)
def test_every_layout_of_the_keys_is_read(plain_adapter, adapter, change):
    rename(adapter, change)
    assert np.array_equal(vectors(adapter), vectors(plain_adapter))


def test_whole_tensors_with_the_adapters_name_are_read(tiny_embedder, tmp_path):
    trained("AutoModel", tiny_embedder, tmp_path / "adapter", target_modules=["q_proj"], modules_to_save=["norm"])
    before = vectors(tmp_path / "adapter")
    rename(tmp_path / "adapter", lambda name: name.replace("norm.weight", "norm.modules_to_save.default.weight"))
    assert np.array_equal(vectors(tmp_path / "adapter"), before)


def test_a_base_is_found_by_its_name(plain_adapter, adapter):
    edit(adapter, base_model_name_or_path="qwen3-tiny-demo")
    assert np.array_equal(vectors(adapter), vectors(plain_adapter))


def test_an_adapters_own_modules_and_tokenizer_come_before_the_bases(plain_adapter, adapter, tiny_embedder):
    """As sentence-transformers saves an adapter."""
    for name in ("modules.json", "config_sentence_transformers.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_embedder / name, adapter / name)
    shutil.copytree(tiny_embedder / "1_Pooling", adapter / "1_Pooling")
    pooling = json.loads((adapter / "1_Pooling/config.json").read_text())
    pooling |= {"pooling_mode_lasttoken": False, "pooling_mode_mean_tokens": True}
    (adapter / "1_Pooling/config.json").write_text(json.dumps(pooling))
    from sentence_transformers import SentenceTransformer

    reference = SentenceTransformer(str(adapter), device="cpu", model_kwargs={"dtype": torch.float32}).encode(TEXTS)
    assert np.abs(vectors(adapter) - reference).max() < TOLERANCE
    assert np.abs(vectors(adapter) - vectors(plain_adapter)).max() > 100 * TOLERANCE


def test_words_that_an_adapter_added_are_tokens(tiny_embedder, tmp_path):
    """Resized embeddings are stored whole, and the adapter's tokenizer knows the new word."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModel

    folder = tmp_path / "adapter"
    model = AutoModel.from_pretrained(tiny_embedder, dtype=torch.float32)
    model.resize_token_embeddings(5128)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["embed_tokens"]))
    adapted.save_pretrained(folder)
    spec = json.loads((tiny_embedder / "tokenizer.json").read_text())
    spec["added_tokens"].append({**spec["added_tokens"][0], "special": False, "normalized": True, "id": 5120, "content": "zebrafinch"})
    (folder / "tokenizer.json").write_text(json.dumps(spec))
    with torch.inference_mode():
        ids = [*text_ids(tiny_embedder, "a "), 5120, embedding_ids(tiny_embedder, "")[-1]]
        expected = torch.nn.functional.normalize(adapted.eval()(input_ids=torch.tensor([ids])).last_hidden_state[0, -1], dim=0).numpy()
    with open_engine("embed", str(folder), backend="torch", dtype="float32", device="cpu") as engine:
        assert np.abs(Embedder(engine).embed_documents(["a zebrafinch"])[0] - expected).max() < TOLERANCE


def test_an_adapter_shows_and_changes_the_identity(plain_adapter, adapter, tiny_embedder):
    prints = {}
    for name, folder in {"base": tiny_embedder, "adapted": plain_adapter, "copied": adapter}.items():
        with open_engine("embed", str(folder), backend="torch", device="cpu") as engine:
            prints[name] = engine.fingerprint()
            assert ("with adapter" in engine.where) == ("adapter" in repr(engine).replace(str(folder), "")) == (name != "base")
            assert name != "adapted" or "with adapter plain-adapter" in engine.where
    assert prints["base"].identity["adapter"] is None
    assert prints["adapted"].identity == prints["copied"].identity
    assert prints["adapted"].identity["weights"] == prints["base"].identity["weights"]
    edit(adapter, lora_alpha=9)
    with open_engine("embed", str(adapter), backend="torch", device="cpu") as engine:
        assert engine.fingerprint().identity_digest != prints["adapted"].identity_digest


def test_weights_are_merged_in_float32_and_cast_once(plain_adapter, tiny_embedder):
    """In bfloat16 too, the result is the rounded sum, not the sum of rounded matrices."""
    from qwen3_integrations.models.hub import open_model

    files = open_model(str(plain_adapter), "embed")
    stored = load_file(tiny_embedder / "model.safetensors")["layers.0.self_attn.q_proj.weight"].float()
    halves = load_file(plain_adapter / "adapter_model.safetensors")
    a, b = (halves[f"base_model.model.layers.0.self_attn.q_proj.lora_{part}.weight"] for part in "AB")
    merged = next(read() for name, read in files.weights.tensors() if name == "layers.0.self_attn.q_proj.weight")
    assert merged.dtype == torch.float32
    assert torch.allclose(merged, stored + 2 * b @ a, atol=1e-6)


REFUSED = {
    "peft_type": ({"peft_type": "IA3"}, "peft_type 'IA3'"),
    "no peft_type": ({"peft_type": ...}, "peft_type None"),
    "use_dora": ({"use_dora": True}, r"use_dora \(DoRA\)"),
    "bias": ({"bias": "lora_only"}, "bias 'lora_only'"),
    "fan_in_fan_out": ({"fan_in_fan_out": True}, "fan_in_fan_out"),
    "trained tokens": ({"trainable_token_indices": [1, 2]}, "trainable_token_indices"),
    "repeated layers": ({"layer_replication": [[0, 2], [1, 3]]}, "layer_replication"),
    "PiSSA": ({"init_lora_weights": "pissa"}, "init_lora_weights 'pissa'"),
    "layers": ({"layers_to_transform": [0]}, "layers_to_transform leaves out the layer 1"),
    "targets": ({"target_modules": ["q_proj"]}, "target_modules leaves out 'layers.0"),
    "rank": ({"r": 5}, "rank 5"),
    "rank pattern": ({"rank_pattern": {"q_proj": 7}}, "rank 7"),
    "r": ({"r": 0}, "r must be a whole number"),
    "alpha": ({"lora_alpha": None}, "lora_alpha must be a number"),
    "pattern": ({"alpha_pattern": {"(": 7}}, "no regular expression"),
    "no base": ({"base_model_name_or_path": None}, "base_model_name_or_path is missing"),
    "relative base": ({"base_model_name_or_path": "../base"}, "base_model_name_or_path is a relative path: '../base'"),
    "missing base": ({"base_model_name_or_path": "/nowhere/base"}, "base_model_name_or_path is a folder that does not exist"),
    "unknown base": ({"base_model_name_or_path": "nobody/nothing"}, "the base of the adapter in .*nobody/nothing"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_not_be_honoured_is_refused_by_name(adapter, name):
    fields, message = REFUSED[name]
    edit(adapter, **fields)
    with pytest.raises(Qwen3Error, match=message) as refusal:
        vectors(adapter, source="local")
    assert str(adapter) in str(refusal.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda name: name.replace("lora_A", "lora_embedding_A"), "changes the token embeddings .*lora_embedding_A.*Merge the adapter"),
        (lambda name: name.replace("lora_A.weight", "lora_magnitude_vector"), "lora_magnitude_vector"),
        (lambda name: name.replace("layers.0.self_attn.q_proj.lora_A", "layers.9.self_attn.q_proj.lora_A"), "only one half"),
        (lambda name: name.replace("layers.0.", "layers.9."), "changes 'layers.9.*no such tensor.*another model"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_name(adapter, change, message):
    rename(adapter, change)
    with pytest.raises(ConfigError, match=message):
        vectors(adapter)


def test_an_adapter_of_another_model_is_refused(random_models, adapter):
    edit(adapter, base_model_name_or_path=str(random_models["embed", "8B"]))
    with pytest.raises(ConfigError, match="belongs to another model"):
        vectors(adapter)


def test_two_adapters_in_one_file_are_refused(adapter):
    path = adapter / "adapter_model.safetensors"
    tensors = load_file(path)
    others = {name.replace(".weight", ".second.weight"): tensor.clone() for name, tensor in tensors.items()}
    save_file(tensors | others, path, metadata={"format": "pt"})
    with pytest.raises(ConfigError, match="holds two adapters"):
        vectors(adapter)


def test_a_changed_tied_head_is_refused(random_reranker, tmp_path):
    trained("AutoModelForCausalLM", random_reranker, tmp_path / "adapter", target_modules=["lm_head", "q_proj"])
    with pytest.raises(ConfigError, match="changes lm_head, which is tied"):
        scores(tmp_path / "adapter")


def test_an_adapter_of_an_adapter_is_refused(plain_adapter, adapter):
    edit(adapter, base_model_name_or_path=str(plain_adapter))
    with pytest.raises(ConfigError, match="is an adapter too"):
        vectors(adapter)


def test_pickled_and_missing_weights_are_refused(adapter):
    weights = adapter / "adapter_model.safetensors"
    weights.rename(adapter / "adapter_model.bin")
    with pytest.raises(ModelNotFound, match=r"only pickled weights of its adapter \(adapter_model.bin\)"):
        vectors(adapter)
    (adapter / "adapter_model.bin").unlink()
    with pytest.raises(ModelNotFound, match=r"no adapter_model\.safetensors"):
        vectors(adapter)


def test_damaged_files_are_refused(adapter):
    weights = adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ConfigError, match=r"adapter_model\.safetensors.*not complete"):
        vectors(adapter)
    (adapter / "adapter_config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"adapter_config\.json is not valid JSON"):
        vectors(adapter)


def test_an_adapter_of_a_classifier_is_no_embedder(tiny_reranker, tmp_path):
    trained("AutoModelForSequenceClassification", tiny_reranker, tmp_path / "adapter", target_modules=["q_proj"], task_type="SEQ_CLS")
    with pytest.raises(ConfigError, match="reranker"):
        vectors(tmp_path / "adapter")


@pytest.mark.parametrize("backend", ["vllm"])
def test_engines_that_would_leave_it_out_refuse_it(tiny_embedder, adapter, tmp_path, backend):
    folder = tmp_path / "both"
    shutil.copytree(tiny_embedder, folder)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(adapter / name, folder / name)
    with pytest.raises(ConfigError, match="adapter"):
        open_engine("embed", str(folder), backend=backend)


def test_a_hubs_cache_names_the_repository(plain_adapter, tmp_path):
    from qwen3_integrations.models.lora import read_adapter

    snapshot = tmp_path / "models--owner--my-adapter" / "snapshots" / ("0" * 40)
    shutil.copytree(plain_adapter, snapshot)
    assert read_adapter(Path(snapshot)).name == "owner/my-adapter"
