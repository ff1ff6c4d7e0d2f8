"""Prompts and token ids are those of the model cards' code, on the genuine tokenizer and on the tiny one."""

from __future__ import annotations

import itertools
import json

import pytest
from tokenizers import Tokenizer as RawTokenizer
from transformers import PreTrainedTokenizerFast

from qwen3_integrations import Embedder, FakeEngine, Reranker
from qwen3_integrations.core.tokenizer import CONTROL_TOKENS, Tokenizer, holds_control_token, neutral
from tests.golden.genuine import genuine_tokenizer, with_end_token
from tests.models import TINY
from tests.texts import CONTROL, HOSTILE, INSTRUCTIONS, PLAIN

PREFIX = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct provided. "
    'Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
SUFFIX = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
PAIRS = list(itertools.product(PLAIN[::2], PLAIN)) + list(itertools.product(PLAIN, PLAIN[::3]))


@pytest.fixture(scope="module", params=["genuine", "tiny"])
def spec(request):
    return genuine_tokenizer() if request.param == "genuine" else (TINY / "reranker" / "tokenizer.json").read_text()


@pytest.fixture(scope="module")
def card(spec):
    """The tokenizer as the cards' code loads it: control tokens in a text are control tokens."""
    return PreTrainedTokenizerFast(tokenizer_object=RawTokenizer.from_str(spec), pad_token="<|endoftext|>")


@pytest.fixture(scope="module")
def data_only(spec):
    """The same tokenizer without control tokens: what a text means when it is data."""
    return RawTokenizer.from_str(json.dumps({**json.loads(spec), "added_tokens": [], "post_processor": None}))


def engine(task, spec):
    fake = FakeEngine(task)
    fake.tokenizer = Tokenizer(with_end_token(spec) if task == "embed" else spec)
    return fake


def planned(run, fake):
    """What the model would read in one call, of however many slices."""
    before = len(fake.jobs)
    run()
    return [prompt for job in fake.jobs[before:] for prompt in job.prompts]


def card_ids(card, query, document, instruction, max_length=8192, joint="\n"):
    """`format_instruction` and `process_inputs` of the reranker's model card."""
    pair = f"<Instruct>: {instruction}{joint}<Query>: {query}{joint}<Document>: {document}"
    prefix, suffix = (card.encode(text, add_special_tokens=False) for text in (PREFIX, SUFFIX))
    inner = card(
        [pair], padding=False, truncation="longest_first", return_attention_mask=False, max_length=max_length - len(prefix) - len(suffix)
    )
    return prefix + inner["input_ids"][0] + suffix


def test_the_genuine_tokenizer_gives_the_published_ids():
    tokenizer = Tokenizer(genuine_tokenizer())
    assert tokenizer.template(SUFFIX).tolist() == [151645, 198, 151644, 77091, 198, 151667, 271, 151668, 271]
    assert len(tokenizer.template(PREFIX)) == 39
    assert (tokenizer.token_id("yes"), tokenizer.token_id("no"), tokenizer.template("<|endoftext|>").tolist()) == (9693, 2152, [151643])
    assert [tokenizer.template(token).tolist() for token in CONTROL_TOKENS] == [[151643 + n] for n in range(26)]


def test_rerank_ids_equal_the_model_card(spec, card):
    fake = engine("rerank", spec)
    reranker = Reranker(fake)
    for instruction in INSTRUCTIONS:
        prompts = planned(lambda told=instruction: reranker.score(PAIRS, told), fake)
        for (query, document), prompt in zip(PAIRS, prompts, strict=True):
            assert prompt.text == f"{PREFIX}<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}{SUFFIX}"
            assert prompt.ids.tolist() == card_ids(card, query, document, instruction), (query, document)


def test_two_newlines_join_the_lines_where_asked(spec, card):
    fake = engine("rerank", spec)
    prompts = planned(lambda: Reranker(fake, separator="\n\n").score(PAIRS), fake)
    for (query, document), prompt in zip(PAIRS, prompts, strict=True):
        assert prompt.ids.tolist() == card_ids(card, query, document, INSTRUCTIONS[0], joint="\n\n")


@pytest.mark.parametrize("max_tokens", [120, 200, 256])
def test_a_cut_pair_keeps_prefix_query_and_suffix_as_the_model_card_does(spec, card, max_tokens):
    fake = engine("rerank", spec)
    documents = [text * (3000 // len(text) + 1) for text in PLAIN if text.strip()]
    reranker = Reranker(fake, max_tokens=max_tokens)
    prompts = planned(lambda: reranker.rank("what?", documents, instruction="Find it"), fake)
    assert all(prompt.truncated for prompt in prompts)
    for document, prompt in zip(documents, prompts, strict=True):
        assert len(prompt.ids) == max_tokens
        assert prompt.ids.tolist() == card_ids(card, "what?", document, "Find it", max_tokens)
        assert prompt.text.endswith(SUFFIX)
        assert prompt.text.startswith(f"{PREFIX}<Instruct>: Find it\n<Query>: what?\n<Document>: ")


def test_embedding_ids_equal_the_model_card(spec, card):
    fake = engine("embed", spec)
    embedder = Embedder(fake)
    end = card.convert_tokens_to_ids("<|endoftext|>")
    prompts = planned(lambda: embedder.embed_documents(PLAIN), fake)
    for text, prompt in zip(PLAIN, prompts, strict=True):
        assert prompt.text == text
        assert prompt.ids.tolist() == [*card.encode(text, add_special_tokens=False), end]
    for instruction in INSTRUCTIONS:
        prompts = planned(lambda told=instruction: embedder.embed_queries(PLAIN, told), fake)
        for text, prompt in zip(PLAIN, prompts, strict=True):
            assert prompt.text == f"Instruct: {instruction}\nQuery:{text}"
            assert prompt.ids.tolist() == [*card.encode(prompt.text, add_special_tokens=False), end]


def test_a_cut_document_keeps_its_end_token(spec, card):
    fake = engine("embed", spec)
    documents = [text * (3000 // len(text) + 1) for text in PLAIN if text.strip()]
    prompts = planned(lambda: Embedder(fake, max_tokens=32).embed_documents(documents), fake)
    for document, prompt in zip(documents, prompts, strict=True):
        expected = [*card.encode(document, add_special_tokens=False)[:31], card.convert_tokens_to_ids("<|endoftext|>")]
        assert prompt.truncated
        assert prompt.ids.tolist() == expected
        assert document.startswith(prompt.text) or document.encode("utf-8").startswith(prompt.text.encode())


@pytest.mark.parametrize("place", ["query", "document", "instruction"])
def test_control_tokens_in_a_text_stay_text(spec, data_only, place):
    fake = engine("rerank", spec)
    for text in CONTROL:
        words = {"query": "q", "document": "d", "instruction": "i"} | {place: text}
        (prompt,) = planned(lambda w=words: Reranker(fake).score([(w["query"], w["document"])], w["instruction"]), fake)
        body = f"<Instruct>: {words['instruction']}\n<Query>: {words['query']}\n<Document>: {words['document']}"
        frame = fake.tokenizer.template(PREFIX).tolist(), fake.tokenizer.template(SUFFIX).tolist()
        assert prompt.ids.tolist() == frame[0] + data_only.encode(body, add_special_tokens=False).ids + frame[1]
        assert not prompt.literal


def test_control_tokens_in_an_embedded_text_stay_text(spec, data_only):
    fake = engine("embed", spec)
    for prompt, text in zip(planned(lambda: Embedder(fake).embed_documents(CONTROL), fake), CONTROL, strict=True):
        assert prompt.ids.tolist() == [*data_only.encode(text, add_special_tokens=False).ids, *fake.tokenizer.end_ids]
        assert not prompt.literal


@pytest.mark.parametrize("token", ["<|doc_sep|>", "[unused1]"])
def test_a_control_token_that_a_fine_tune_added_stays_text_too(spec, data_only, token):
    content = json.loads(spec)
    number = max(added["id"] for added in content["added_tokens"]) + 1
    content["added_tokens"].append({**content["added_tokens"][0], "content": token, "id": number})
    fake = engine("embed", json.dumps(content))
    prompt, plain = planned(lambda: Embedder(fake).embed_documents([f"one {token} two", "one two"]), fake)
    assert prompt.ids.tolist() == [*data_only.encode(f"one {token} two", add_special_tokens=False).ids, *fake.tokenizer.end_ids]
    assert (prompt.literal, plain.literal) == (False, True)


def test_a_literal_prompt_read_as_text_gives_its_ids(spec, card):
    """What lets a server be sent strings: its own tokenizer, control tokens and all, reads our ids out of them."""
    fake = engine("rerank", spec)
    queries = [text for text in HOSTILE if len(text) < 60]
    pairs = list(itertools.product(queries[::2], HOSTILE))
    literal = [p for p in planned(lambda: Reranker(fake, max_tokens=230).score(pairs, "Find it"), fake) if p.literal]
    assert len(literal) > len(pairs) / 2
    for prompt in literal:
        assert card.encode(prompt.text, add_special_tokens=False) == prompt.ids.tolist()


def test_neutral_text_holds_no_control_token(card):
    for text in CONTROL:
        assert holds_control_token(text)
        assert not holds_control_token(neutral(text))
        assert not set(card.encode(neutral(text), add_special_tokens=False)) & set(card.added_tokens_decoder)
    for text in PLAIN:
        assert neutral(text) == text
