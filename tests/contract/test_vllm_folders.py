"""What a folder declares, through embedded vLLM: honoured, with the numbers of sentence-transformers and transformers, or refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from qwen3_integrations import Embedder, Reranker, open_engine
from qwen3_integrations.core.prompts import DEFAULT_INSTRUCTION
from qwen3_integrations.engines import registry
from qwen3_integrations.engines.vllm.engine import VllmEngine
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.checkpoint import read_model
from qwen3_integrations.models.vllm_support import vllm_refusals
from tests.contract.cases import TOLERANCE
from tests.declared import DOCUMENTS, FOLDERS, PAIRS, QUERIES, edit, expected, list_modules, write_dense
from tests.models import TINY, declare, write_classifier
from tests.unit.test_folder_layouts import decoder, older_files

pytest.importorskip("vllm")

pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

FAST: dict[str, Any] = {"dtype": "float32", "enforce_eager": True, "max_model_len": 512, "kv_cache_memory_bytes": 64 << 20}
REFUSED = {"mean without the prompt": "include_prompt", "adapter": "adapter_config.json"}
"""Kinds of `FOLDERS` that vLLM can't compute -> what the reason names."""


@pytest.fixture(autouse=True)
def _here(monkeypatch):
    """Engines compute in this process."""
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "model"


def open_vllm(task: str, folder: Path, **options: Any) -> VllmEngine:
    return VllmEngine(task, str(folder), **FAST | options)


def numbers(engine, texts=DOCUMENTS) -> tuple[np.ndarray, ...]:
    """Vectors of queries and documents, or scores. Closes the engine."""
    try:
        if engine.task == "rerank":
            return (Reranker(engine).score(PAIRS),)
        embedder = Embedder(engine)
        return embedder.embed_queries(list(QUERIES)), embedder.embed_documents([text for text in texts if "<|" not in text])
    finally:
        engine.close()


def same(these, those) -> None:
    for ours, reference in zip(these, those, strict=True):
        assert ours.shape == reference.shape
        assert np.abs(ours - reference).max() < TOLERANCE


def torch_numbers(task: str, folder: Path) -> tuple[np.ndarray, ...]:
    return numbers(open_engine(task, str(folder), backend="torch", dtype="float32"))


@pytest.mark.parametrize("kind", FOLDERS)
def test_vllm_gives_the_reference_numbers_or_refuses(kind, folder):
    FOLDERS[kind].write(folder)
    if kind in REFUSED:
        with pytest.raises(ConfigError, match=f"{REFUSED[kind]}.*backend='torch'"):
            open_vllm(FOLDERS[kind].task, folder)
        return
    same(numbers(open_vllm(FOLDERS[kind].task, folder), FOLDERS[kind].texts), expected(kind, folder))


# Neighbours: equal to the torch engine, which tests/contract/test_declared_folders.py compares with the reference


def embedder(folder: Path) -> Path:
    return shutil.copytree(TINY / "embedding", folder)


def reranker(folder: Path) -> Path:
    return shutil.copytree(TINY / "reranker", folder)


def renamed(folder: Path, name: Callable[[str], str]) -> Path:
    """Store the tensors under other names."""
    path = folder / "model.safetensors"
    save_file({name(old): tensor for old, tensor in load_file(path).items()}, path, metadata={"format": "pt"})
    return folder


def dense(folder: Path, *names: str, mean: bool = False) -> Path:
    """Dense layers with other activations, in the order of `names`."""
    width = 160
    embedder(folder)
    if mean:
        edit(folder / "1_Pooling" / "config.json", pooling_mode_lasttoken=False, pooling_mode_mean_tokens=True)
    for number, name in enumerate(name for name in names if name.endswith("Dense")):
        write_dense(folder, name, (width - 32, width), ("activation.GELU", "activation.SiLU")[number], bias=bool(number), seed=number)
        width -= 32
    list_modules(folder, "1_Pooling", *names)
    return folder


def two_languages(folder: Path) -> Path:
    edit(embedder(folder) / "config_sentence_transformers.json", prompts={"query": "<|im_start|>frage: "}, default_prompt_name="query")
    return folder


def older_tokenizer(folder: Path) -> Path:
    spec = (reranker(folder) / "tokenizer.json").read_text()
    template = json.loads((folder / "tokenizer_config.json").read_text())["chat_template"]
    return older_files(folder, spec, added_tokens_decoder=decoder(spec), chat_template=template)


HONOURED: dict[str, tuple[str, Callable[[Path], object]]] = {
    "mean without modules.json": ("embed", lambda folder: (dense(folder, mean=True) / "modules.json").unlink()),
    "dense without normalize": ("embed", lambda folder: dense(folder, "2_Dense")),
    "dense behind mean": ("embed", lambda folder: dense(folder, "2_Dense", "3_Dense", "4_Normalize", mean=True)),
    "one prompt with a control token": ("embed", two_languages),
    "tensors without model.": ("embed", lambda folder: renamed(embedder(folder), lambda name: name.removeprefix("model."))),
    "a reranker's tensors without model.": ("rerank", lambda folder: renamed(reranker(folder), lambda name: name.removeprefix("model."))),
    "sizes left out, and fields without effect": (
        "embed",
        lambda folder: declare(embedder(folder), head_dim=None, num_key_value_heads=None, sliding_window=64, use_sliding_window=False),
    ),
    "a reranker's sizes left out": ("rerank", lambda folder: declare(reranker(folder), head_dim=None, num_key_value_heads=None)),
    "rope_parameters and dtype": (
        "embed",
        lambda folder: declare(
            embedder(folder),
            rope_theta=None,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
            torch_dtype=None,
            dtype="float32",
        ),
    ),
    "one label with a bias": ("rerank", lambda folder: write_classifier(folder, TINY / "reranker", bias=(0.4,))),
    "a reranker's older files of a tokenizer": ("rerank", older_tokenizer),
    "a reranker's short max_seq_length": (
        "rerank",
        lambda folder: edit(reranker(folder) / "sentence_bert_config.json", max_seq_length=100),
    ),
    "a short length under an older name": (
        "embed",
        lambda folder: edit(embedder(folder) / "sentence_roberta_config.json", max_seq_length=64, do_lower_case=False),
    ),
    "a short max_seq_length": (
        "embed",
        lambda folder: edit(embedder(folder) / "sentence_bert_config.json", max_seq_length=64, do_lower_case=False),
    ),
}
"""Kind -> task, and a function that writes it."""


@pytest.mark.parametrize("kind", HONOURED)
def test_other_declarations_give_the_numbers_of_torch(kind, folder):
    task, write = HONOURED[kind]
    write(folder)
    same(numbers(open_vllm(task, folder)), torch_numbers(task, folder))


def stale_index(folder: Path) -> None:
    (embedder(folder) / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"norm.weight": "model-00001-of-00002.safetensors"}})
    )


def no_activation(folder: Path) -> None:
    dense(folder, "2_Dense")
    config = json.loads((folder / "2_Dense" / "config.json").read_text())
    del config["activation_function"]
    (folder / "2_Dense" / "config.json").write_text(json.dumps(config))


def other_dense(folder: Path) -> None:
    path = dense(folder, "2_Dense") / "modules.json"
    path.write_text(path.read_text().replace("models.Dense", "sentence_transformer.modules.Dense"))


REASONS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "saved while compiled": ("embed", lambda folder: renamed(embedder(folder), lambda name: f"_orig_mod.{name}"), "_orig_mod."),
    "names of PEFT": ("rerank", lambda folder: renamed(reranker(folder), lambda name: f"base_model.model.{name}"), "base_model.model."),
    "a head beside bare names": (
        "rerank",
        lambda folder: renamed(write_classifier(folder, TINY / "reranker"), lambda name: name.removeprefix("model.")),
        "'embed_tokens.weight'",
    ),
    "a stale index": ("embed", stale_index, "model.safetensors.index.json"),
    "a second file of weights": (
        "embed",
        lambda folder: save_file({"model.norm.weight": torch.ones(160)}, embedder(folder) / "old.safetensors", metadata={"format": "pt"}),
        "old.safetensors",
    ),
    "normalize before dense": ("embed", lambda folder: dense(folder, "2_Normalize", "3_Dense"), "a Normalize before a Dense"),
    "dense without activation": ("embed", no_activation, "activation_function, which means Tanh"),
    "dense of another class": ("embed", other_dense, "sentence_transformer.modules.Dense"),
    "max_seq_length null": (
        "embed",
        lambda folder: edit(embedder(folder) / "sentence_bert_config.json", max_seq_length=None, do_lower_case=False),
        "max_seq_length is null",
    ),
}
"""Kind -> task, a function that writes it, what the reason names."""


@pytest.mark.parametrize("kind", REASONS)
def test_what_vllm_would_not_read_is_refused_before_it_starts(kind, folder):
    task, write, named = REASONS[kind]
    write(folder)
    with pytest.raises(ConfigError, match=named) as refused:
        open_vllm(task, folder)
    assert str(folder) in str(refused.value)
    assert "backend='torch'" in str(refused.value)
    torch_numbers(task, folder)  # it does compute it


def test_published_folders_are_not_refused():
    for task, name in (("embed", "embedding"), ("rerank", "reranker")):
        assert vllm_refusals(read_model(TINY / name, task), task) is None


def test_mean_pooling_needs_whole_prompts_in_a_pass(folder):
    dense(folder, mean=True)
    with pytest.raises(ConfigError, match=r"max_num_batched_tokens must be at least max_model_len, 512: vLLM pools mean only"):
        open_vllm("embed", folder, max_num_batched_tokens=64)


def test_the_engine_says_what_the_folder_declares(folder):
    dense(folder, "2_Dense")
    edit(folder / "config_sentence_transformers.json", prompts={"query": "query: ", "document": "passage: "})
    engine = open_vllm("embed", folder)
    try:
        assert engine.dimensions == 128
        assert engine.conventions.before_query() == "query: "
        assert "document_prompt='passage: '" in repr(Embedder(engine))
        with open_engine("embed", str(folder), backend="torch", dtype="float32") as other:
            assert engine.fingerprint().identity_digest == other.fingerprint().identity_digest
        # The caller's argument comes first.
        given = Embedder(engine, instruction=DEFAULT_INSTRUCTION)
        assert given.query_prompt.startswith("Instruct: ")
    finally:
        engine.close()


def test_auto_takes_torch_with_the_reason(folder, monkeypatch, caplog):
    FOLDERS["mean without the prompt"].write(folder)
    monkeypatch.setattr(registry, "_has_cuda", lambda: True)
    caplog.set_level("INFO", "qwen3_integrations")
    with open_engine("embed", str(folder), dtype="float32") as engine:
        assert engine.backend == "torch"
    assert "runs on torch: vLLM can't run this model" in caplog.text
    assert "include_prompt" in caplog.text
