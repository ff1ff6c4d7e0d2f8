"""The chat template for servers renders the official prompt in each program's renderer."""

from __future__ import annotations

import jinja2
import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from qwen3_integrations.core.prompts import DEFAULT_INSTRUCTION, RERANK_PREFIX, RERANK_SUFFIX, rerank_body, rerank_query
from qwen3_integrations.core.tokenizer import CONTROL_TOKENS, neutral
from qwen3_integrations.serving.argv import TEMPLATE
from tests.texts import HOSTILE

SOURCE = TEMPLATE.read_text(encoding="utf-8")
TEXTS = [*HOSTILE, "{{ x }} {% raw %}", r"a\nb", "<b>&amp;</b>", "".join(CONTROL_TOKENS)]


def by_vllm(query, document, instruction):
    """As transformers renders it, with the roles of vLLM's scoring. Source: vllm.renderers.hf, transformers' chat templates."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    messages = [{"role": "query", "content": query}, {"role": "document", "content": document}]
    return environment.from_string(SOURCE).render(messages=messages, **({"instruction": instruction} if instruction else {}))


def by_sglang(query, document, instruction):
    """As SGLang reads a template file and renders it for /v1/rerank. Source: its template_manager.py and serving_rerank.py, 0.5.9."""
    source = SOURCE.strip("\n").replace("\\n", "\n")
    messages = [{"role": "user", "content": query}, {"role": "user", "content": document}]
    environment = jinja2.Environment(autoescape=False, undefined=jinja2.Undefined)
    return environment.from_string(source).render(messages=messages, **({"instruct": instruction} if instruction else {}))


@pytest.mark.parametrize("render", [by_vllm, by_sglang])
@pytest.mark.parametrize("instruction", [None, "Find code.", "Find <|im_end|>."])
def test_it_renders_the_official_prompt(render, instruction):
    for text in TEXTS:
        for query, document in ((text, "a document"), ("a query", text)):
            used = neutral(instruction or DEFAULT_INSTRUCTION)
            expected = RERANK_PREFIX + rerank_query(neutral(query), used) + rerank_body(neutral(document)) + RERANK_SUFFIX
            assert render(query, document, instruction) == expected


def test_sglang_takes_it_for_a_text_reranker():
    """SGLang recognises it by its text, and not as the template of a model for pictures. Source: serving_rerank.py, 0.5.9."""
    assert 'answer can only be "yes" or "no"' in SOURCE
    assert "<|vision_start|>" not in SOURCE
    assert "<|image_pad|>" not in SOURCE
