"""What a client knows of a served model from a folder on this machine, and which folders no server gets."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from qwen3_integrations import Embedder
from qwen3_integrations.core.planning import document_prompts
from qwen3_integrations.engines.http.engine import HttpEngine
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.checkpoint import read_model
from qwen3_integrations.verification.reading import counts_finding
from tests.declared import append_tokens, edit
from tests.models import TINY

URL = "http://127.0.0.1:9"


@pytest.fixture
def folder(tmp_path) -> Path:
    shutil.copytree(TINY / "embedding", tmp_path / "model")
    edit(tmp_path / "model" / "config_sentence_transformers.json", prompts={"query": "query: ", "document": "passage: "})
    return tmp_path / "model"


def client(model, **options):
    return HttpEngine("embed", str(model), base_url=URL, **options)


def test_a_client_takes_the_prompts_of_the_folder_that_it_is_given(folder):
    edit(folder / "sentence_bert_config.json", max_seq_length=64)
    append_tokens(folder, "<|im_end|>")
    for engine in (client("a-name", tokenizer=folder), client(folder)):
        embedder = Embedder(engine)
        assert (embedder.query_prompt, embedder.document_prompt, embedder.max_tokens) == ("query: ", "passage: ", 64)
        assert engine.tokenizer.end_text == "<|im_end|>"
        engine.close()
    engine = client("a-name")
    assert Embedder(engine).query_prompt.startswith("Instruct: ")
    engine.close()


def test_a_folder_with_a_tokenizer_alone_is_enough(folder, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(folder / "tokenizer.json", bare / "tokenizer.json")
    engine = client("a-name", tokenizer=bare)
    assert engine.tokenizer is not None
    assert Embedder(engine).document_prompt == ""
    engine.close()


def test_a_client_refuses_a_folder_that_pools_without_the_prompt(folder):
    edit(folder / "1_Pooling" / "config.json", include_prompt=False)
    with pytest.raises(ConfigError, match=r"include_prompt.*backend='torch'"):
        client("a-name", tokenizer=folder)


def test_texts_in_lower_case_are_sent_as_token_ids(folder):
    """A server reads a text as it is written."""
    edit(folder / "sentence_bert_config.json", do_lower_case=True)
    tokenizer = read_model(folder, "embed").read_tokenizer()
    prompts = document_prompts(["Upper", "lower"], tokenizer, 64)
    assert [prompt.literal for prompt in prompts] == [False, True]
    assert np.array_equal(prompts[0].ids, document_prompts(["upper"], tokenizer, 64)[0].ids)


@pytest.mark.parametrize(("tokens", "text"), [((), ""), (("<|im_end|>", "<|endoftext|>"), "<|im_end|><|endoftext|>")])
def test_end_tokens_have_names(folder, tokens, text):
    append_tokens(folder, *tokens)
    assert read_model(folder, "embed").read_tokenizer().end_text == text


def test_a_missing_end_token_is_named():
    assert "the end token <|im_end|> is missing" in counts_finding("embed", [4, 5], [5, 6], "<|im_end|>").detail
    assert "omits something" in counts_finding("embed", [4, 5], [5, 6], "").detail
