"""Snippets are valid code for every name of a model or a socket."""

from __future__ import annotations

import json
import subprocess

import pytest

from qwen3_integrations.core.prompts import TextConventions
from qwen3_integrations.serving.snippets import snippets


def test_prompts_of_a_folder_are_in_the_code(tmp_path):
    declared = TextConventions("frage: ", "text: ")
    made = snippets("embed", "m", "http://127.0.0.1:1", has_key=False, conventions=declared, folder=tmp_path)
    assert '"frage: " + query, a document as "text: " + document' in made["openai"]
    assert 'input=["text: The capital' in made["openai"]
    assert '"input": ["text: The capital' in made["curl"]
    for client in ("langchain", "llama_index"):
        assert f"engine_options={{'tokenizer': \"{tmp_path}\"}}" in made[client]
        compile(made[client], client, "exec")
    plain = snippets("embed", "m", "http://127.0.0.1:1", has_key=False)
    assert "Instruct: {instruction}" in plain["openai"]
    assert "engine_options" not in plain["langchain"]


@pytest.mark.parametrize(
    "name", ['it\'s "a" $(touch x) \\ model', "/data/模型 目录", "a`touch x`;touch x & b", "-d @/etc/passwd", "!x ~ *"]
)
def test_names_that_need_quotes_are_quoted(tmp_path, name):
    """No part of a name is read as code by a shell or by Python."""
    folder = tmp_path / "it's $(touch x) 模型"
    folder.mkdir()
    for task in ("embed", "rerank"):
        for url in ("http://127.0.0.1:8000", f"unix://{folder}/s.sock"):
            made = snippets(task, name, url, has_key=True)
            curl = made.pop("curl")
            shown = subprocess.run(
                ["bash", "-c", f"curl() {{ printf '%s\\0' \"$@\"; }}\n{curl}"], cwd=tmp_path, capture_output=True, text=True, check=True
            ).stdout.split("\0")
            assert json.loads(shown[shown.index("-d") + 1])["model"] == name
            assert (f"{folder}/s.sock" in shown) == url.startswith("unix://")
            for code in made.values():
                compile(code, "snippet", "exec")
                assert repr(name) in code or json.dumps(name, ensure_ascii=False) in code
    assert sorted(path.name for path in tmp_path.iterdir()) == [folder.name]
