"""Layouts of a model's folder that are honoured: the same numbers as transformers, or as the plain layout where it reads no other."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer

from qwen3_integrations import Embedder, Reranker
from qwen3_integrations.core.tokenizer import CONTROL_TOKENS
from qwen3_integrations.engines.torch import TorchEngine
from qwen3_integrations.models.checkpoint import read_model
from qwen3_integrations.models.tokenizer_files import tokenizer_spec
from tests.golden.genuine import genuine_tokenizer
from tests.models import declare
from tests.texts import CONTROL, HOSTILE, PLAIN

TEXTS = ["The csv module reads and writes tabular data.", "Gravity attracts bodies.", "图书馆"]
PAIRS = [("how do I read a csv file", text) for text in TEXTS]


def numbers(task: str, folder: Path) -> np.ndarray:
    engine = TorchEngine(task, str(folder), device="cpu", dtype="float32")
    return Embedder(engine).embed_documents(TEXTS) if task == "embed" else np.asarray(Reranker(engine).score(PAIRS))


def by_transformers(folder: Path) -> np.ndarray:
    """Unit vectors of the texts: the folder's own tokenizer and model, one text at a time."""
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    model, loaded = AutoModel.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    assert not loaded["missing_keys"]
    with torch.inference_mode():
        states = [model.eval()(input_ids=torch.tensor([tokenizer.encode(text).ids])).last_hidden_state[0, -1] for text in TEXTS]
    return np.stack([torch.nn.functional.normalize(state, dim=0).numpy() for state in states])


@pytest.fixture(scope="module")
def plain_numbers(random_models):
    """Task and size -> the numbers of the plain layout."""
    return cache(lambda task, size: numbers(task, random_models[task, size]))


@pytest.fixture
def copies(random_models, plain_numbers, tmp_path):
    """Task -> a copy of a random model, and its numbers."""

    def copied(task: str, size: str = "0.6B") -> tuple[Path, np.ndarray]:
        folder = tmp_path / f"{task}-{size}"
        shutil.copytree(random_models[task, size], folder)
        return folder, plain_numbers(task, size)

    return copied


def renamed(folder: Path, prefix: str) -> None:
    """Put a prefix before all names of tensors, instead of what is there."""
    tensors = {name.removeprefix("model."): tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    heads = {name: tensor for name, tensor in tensors.items() if name.startswith("lm_head")}
    outer = prefix.removesuffix("model.") if prefix.endswith("model.") and prefix != "base_model.model." else prefix
    named = {prefix + name: tensor for name, tensor in tensors.items() if name not in heads}
    save_file(named | {outer + name: tensor for name, tensor in heads.items()}, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(("task", "size"), [("embed", "0.6B"), ("rerank", "8B")])
@pytest.mark.parametrize(
    "prefix", ["", "model.", "_orig_mod.", "_orig_mod.model.", "module.model.", "base_model.model.", "base_model.model.model."]
)
def test_what_wraps_a_model_does_not_matter(copies, task, size, prefix):
    folder, plain = copies(task, size)
    renamed(folder, prefix)
    np.testing.assert_array_equal(numbers(task, folder), plain)
    if task == "embed" and prefix in ("", "model."):
        np.testing.assert_allclose(by_transformers(folder), plain, atol=1e-5)


def sharded(folder: Path, *, index: bool) -> list[Path]:
    tensors = load_file(folder / "model.safetensors")
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    weight_map = {name: names[number % 2] for number, name in enumerate(tensors)}
    for name in names:
        save_file({key: tensors[key] for key in tensors if weight_map[key] == name}, folder / name, metadata={"format": "pt"})
    if index:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return [folder / name for name in names]


@pytest.mark.parametrize("task", ["embed", "rerank"])
@pytest.mark.parametrize("index", [True, False])
def test_shards_are_read_with_and_without_an_index(copies, task, index):
    folder, plain = copies(task)
    sharded(folder, index=index)
    (folder / "model.safetensors").unlink()
    np.testing.assert_array_equal(numbers(task, folder), plain)
    if task == "embed" and index:
        np.testing.assert_allclose(by_transformers(folder), plain, atol=1e-5)


@pytest.mark.parametrize("stale", ["other shards", "no shards", "damaged"])
def test_a_whole_file_goes_before_a_stale_index(copies, random_models, stale):
    folder, plain = copies("embed")
    shards = sharded(folder, index=True)
    for shard in shards:
        if stale == "other shards":
            save_file({name: tensor + 1 for name, tensor in load_file(shard).items()}, shard, metadata={"format": "pt"})
        else:
            shard.unlink()
    if stale == "damaged":
        (folder / "model.safetensors.index.json").write_text("{")
    np.testing.assert_array_equal(numbers("embed", folder), plain)
    np.testing.assert_allclose(by_transformers(folder), plain, atol=1e-5)


@pytest.mark.parametrize("task", ["embed", "rerank"])
@pytest.mark.parametrize("missing", [["head_dim"], ["num_key_value_heads"], ["head_dim", "num_key_value_heads"]])
@pytest.mark.parametrize("size", ["4B"])
def test_sizes_that_are_left_out_come_from_the_shapes(copies, task, missing, size):
    folder, plain = copies(task, size)
    declare(folder, **dict.fromkeys(missing))
    np.testing.assert_array_equal(numbers(task, folder), plain)


@pytest.mark.parametrize(
    "fields", [{"dtype": "float32", "torch_dtype": None}, {"dtype": None, "torch_dtype": "float32"}, {"dtype": None, "torch_dtype": None}]
)
def test_the_number_format_is_read_from_either_field(copies, fields):
    folder, plain = copies("embed")
    declare(folder, **fields)
    assert read_model(folder, "embed").dtype == next(filter(None, fields.values()), "bfloat16")
    np.testing.assert_array_equal(numbers("embed", folder), plain)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_weights_in_other_number_formats_are_read(copies, dtype):
    folder, plain = copies("embed")
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    np.testing.assert_allclose(numbers("embed", folder), plain, atol=2e-3 if dtype == torch.float16 else 1e-6)
    np.testing.assert_allclose(numbers("embed", folder), by_transformers(folder), atol=1e-5)


@pytest.mark.parametrize(
    "fields",
    [
        {"rope_theta": 5000.0},
        {"rope_theta": None, "rope_parameters": {"rope_theta": 5000.0, "rope_type": "default"}},
        {"rope_theta": 5000.0, "rope_parameters": {"rope_type": "default"}},
        {"rope_theta": 10000.0, "rope_parameters": {"rope_theta": 5000.0, "rope_type": "default"}},
        {"rope_theta": 5000.0, "rope_scaling": {"type": "default"}},
        {"rope_theta": 5000.0, "rope_scaling": {"rope_type": "default"}},
        {"rope_theta": None, "rope_scaling": None},
    ],
)
def test_the_rotation_is_that_of_transformers(copies, fields):
    folder, plain = copies("embed")
    declare(folder, **fields)
    changed = numbers("embed", folder)
    assert np.abs(changed - plain).max() > 1e-3
    np.testing.assert_allclose(changed, by_transformers(folder), atol=1e-5)


# the older files of a tokenizer


def older_files(folder: Path, spec: str, **settings: object) -> Path:
    """Write a tokenizer as `vocab.json`, `merges.txt` and settings."""
    content = json.loads(spec)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").unlink(missing_ok=True)
    (folder / "vocab.json").write_text(json.dumps(content["model"]["vocab"], ensure_ascii=False), encoding="utf-8")
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in content["model"]["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    config = {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "bos_token": None} | settings
    (folder / "tokenizer_config.json").write_text(json.dumps({name: value for name, value in config.items() if value is not ...}))
    return folder


def decoder(spec: str, *more: dict) -> dict[str, dict]:
    """`added_tokens_decoder` of a specification, with more tokens behind."""
    listed = json.loads(spec)["added_tokens"]
    fields = {token["id"]: {name: value for name, value in token.items() if name != "id"} for token in listed}
    plain = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False}
    fields |= {max(fields) + 1 + number: plain | token for number, token in enumerate(more)}
    return {str(number): token for number, token in fields.items()}


MORE = (
    {"content": "[SKU]", "special": False},
    {"content": "<|ours|>", "special": True},
    {"content": " two words ", "special": False, "lstrip": True},
)


def settings_of(name: str, spec: str) -> dict[str, object]:
    return {
        "added_tokens_decoder": {"added_tokens_decoder": decoder(spec)},
        "more tokens": {"added_tokens_decoder": decoder(spec, *MORE)},
        "an end token": {"added_tokens_decoder": decoder(spec), "add_eos_token": True, "eos_token": "<|endoftext|>"},
        "a start token": {"added_tokens_decoder": decoder(spec), "add_bos_token": True, "bos_token": "<|im_start|>"},
        "special tokens": {"added_tokens_decoder": decoder(spec), "additional_special_tokens": ["<|im_start|>", "<|new|>"]},
        "extra tokens": {"added_tokens_decoder": decoder(spec), "extra_special_tokens": {"image_token": "<|new|>"}},
        "no end token": {"added_tokens_decoder": decoder(spec), "eos_token": ..., "pad_token": ...},
        "added_tokens.json": {},
    }[name]


SETTINGS = (
    "added_tokens_decoder",
    "more tokens",
    "an end token",
    "a start token",
    "special tokens",
    "extra tokens",
    "no end token",
    "added_tokens.json",
)


@pytest.mark.parametrize(("which", "name"), [*(("tiny", name) for name in SETTINGS), ("genuine", "more tokens")])
def test_the_older_files_of_a_tokenizer_give_the_ids_of_transformers(tmp_path, tiny_reranker, which, name):
    spec = genuine_tokenizer() if which == "genuine" else (tiny_reranker / "tokenizer.json").read_text()
    folder = older_files(tmp_path / "m", spec, **settings_of(name, spec))
    shutil.copy(tiny_reranker / "config.json", folder / "config.json")
    if name == "added_tokens.json":
        listed = json.loads(spec)["added_tokens"]
        (folder / "added_tokens.json").write_text(json.dumps({token["content"]: token["id"] for token in listed}))
        (folder / "special_tokens_map.json").write_text('{"eos_token": {"content": "<|im_end|>", "lstrip": false, "rstrip": false}}')
    theirs = AutoTokenizer.from_pretrained(folder)
    assert type(theirs).__name__.startswith("Qwen2Tokenizer")
    ours = tokenizers.Tokenizer.from_str(tokenizer_spec(folder))
    texts = [*PLAIN, *HOSTILE, *CONTROL, *CONTROL_TOKENS, "a[SKU]b", "x<|ours|>y", "a two words b", "<|new|>", "", " "]
    assert [ours.encode(text).ids for text in texts] == [theirs(text)["input_ids"] for text in texts]
    assert [ours.encode(text, add_special_tokens=False).ids for text in texts] == [
        theirs(text, add_special_tokens=False)["input_ids"] for text in texts
    ]


def test_a_model_with_the_older_files_has_the_same_scores(copies):
    folder, plain = copies("rerank")
    spec = (folder / "tokenizer.json").read_text()
    older_files(folder, spec, added_tokens_decoder=decoder(spec))
    np.testing.assert_array_equal(numbers("rerank", folder), plain)


def test_a_model_with_the_older_files_ends_texts_as_they_say(copies):
    folder, plain = copies("embed")
    spec = (folder / "tokenizer.json").read_text()
    older_files(folder, spec, added_tokens_decoder=decoder(spec), add_eos_token=True, eos_token="<|endoftext|>")
    np.testing.assert_array_equal(numbers("embed", folder), plain)
    older_files(folder, spec, added_tokens_decoder=decoder(spec))
    tokenizer = read_model(folder, "embed").read_tokenizer()
    assert tokenizer.end_ids.tolist() == []
    assert np.abs(numbers("embed", folder) - plain).max() > 1e-3


def test_tokenizer_json_goes_before_the_older_files(copies):
    folder, plain = copies("embed")
    spec = (folder / "tokenizer.json").read_text()
    older_files(folder, spec, added_tokens_decoder=decoder(spec))
    (folder / "tokenizer.json").write_text(spec)
    (folder / "vocab.json").write_text("{")
    np.testing.assert_array_equal(numbers("embed", folder), plain)
