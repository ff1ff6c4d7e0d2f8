"""What a folder's smaller fields declare: equal to sentence-transformers, or refused with path, field and what to do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from qwen3_integrations import Embedder, Reranker, open_engine
from qwen3_integrations.core.planning import document_prompts
from qwen3_integrations.core.prompts import DEFAULT_INSTRUCTION
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.checkpoint import read_model
from tests.contract.cases import TOLERANCE
from tests.declared import DOCUMENTS, QUERIES, add_rows, edit
from tests.models import TINY, declare, write_classifier

pytestmark = pytest.mark.filterwarnings("ignore")

TEXTS = tuple(text for text in DOCUMENTS if "<|" not in text)
PAIRS = tuple((query, document) for query in QUERIES for document in (*TEXTS, "  Two  Blanks\n", "e\u0301cole"))
LONG = tuple((query, "The csv module reads and writes tabular data in CSV format. " * 20) for query in QUERIES)
TRANSFORMER, PROMPTS = "sentence_bert_config.json", "config_sentence_transformers.json"


@pytest.fixture
def embedder(tmp_path) -> Path:
    return shutil.copytree(TINY / "embedding", tmp_path / "embedder")


@pytest.fixture
def reranker(tmp_path) -> Path:
    return shutil.copytree(TINY / "reranker", tmp_path / "reranker")


def without(path: Path, *fields: str) -> None:
    """Take fields out of a JSON file."""
    path.write_text(json.dumps({name: value for name, value in json.loads(path.read_text()).items() if name not in fields}))


def vectors(folder: Path, queries=QUERIES, documents=TEXTS) -> np.ndarray:
    with open_engine("embed", str(folder), backend="torch", dtype="float32") as engine:
        embedder = Embedder(engine)
        return np.concatenate([embedder.embed_queries(list(queries)), embedder.embed_documents(list(documents))])


def reference_vectors(folder: Path, queries=QUERIES, documents=TEXTS) -> np.ndarray:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": torch.float32})
    rows = np.concatenate([model.encode_query(list(queries), batch_size=1), model.encode_document(list(documents), batch_size=1)])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def scores(folder: Path, pairs=PAIRS) -> np.ndarray:
    with open_engine("rerank", str(folder), backend="torch", dtype="float32") as engine:
        return Reranker(engine).score(pairs)


def reference_scores(folder: Path, pairs=PAIRS) -> np.ndarray:
    from sentence_transformers import CrossEncoder

    return CrossEncoder(str(folder), device="cpu", model_kwargs={"dtype": torch.float32}).predict(list(pairs), batch_size=1)


def equal(ours: np.ndarray, reference: np.ndarray) -> bool:
    return ours.shape == reference.shape and bool(np.abs(ours - reference).max() < TOLERANCE)


def refusal(task: str, folder: Path, *needles: str) -> str:
    """The message with which a folder is refused: it names the folder, and says what to do."""
    with pytest.raises(ConfigError) as refused:
        open_engine(task, str(folder), backend="torch", dtype="float32")
    message = str(refused.value)
    assert refused.value.advice
    assert str(folder) in message
    for needle in needles:
        assert needle in message
    return message


# --- prompts of an embedder ---


@pytest.mark.parametrize("prompts", [{}, {"passage": ""}, {"document": "passage: "}, {"query": None}, {"query": ""}, {"other": "x: "}])
def test_a_map_of_prompts_without_one_for_queries_means_none(embedder, prompts):
    edit(embedder / PROMPTS, prompts=prompts)
    assert equal(vectors(embedder), reference_vectors(embedder))
    with open_engine("embed", str(embedder), backend="torch", dtype="float32") as engine:
        own = Embedder(engine)
        assert own.query_prompt == ""
        assert "instruction=''" in repr(own)
        assert "(declared by the folder)" in repr(own)
        assert engine.fingerprint().identity["prompts"].startswith("query ''")
        given = Embedder(engine, instruction=DEFAULT_INSTRUCTION)
        assert given.query_prompt.startswith("Instruct: ")
        assert "declared" not in repr(given)


@pytest.mark.parametrize("fields", [{"prompts": None}, {}])
def test_a_folder_without_a_map_of_prompts_has_those_of_the_model_card(embedder, fields):
    (embedder / PROMPTS).write_text(json.dumps(fields))
    assert equal(vectors(embedder), vectors(TINY / "embedding"))
    with open_engine("embed", str(embedder), backend="torch", dtype="float32") as engine:
        assert "declared" not in repr(Embedder(engine))


@pytest.mark.parametrize("prompts", [[], "query: ", 0, {"query": 1}])
def test_prompts_of_another_type_are_refused(embedder, prompts):
    edit(embedder / PROMPTS, prompts=prompts)
    refusal("embed", embedder, PROMPTS, "prompts must map names to texts")


@pytest.mark.parametrize("name", ["query", "document"])
def test_a_prompt_that_is_no_text_is_refused(embedder, name):
    edit(embedder / PROMPTS, prompts={name: "a\ud800: "})
    refusal("embed", embedder, "lone surrogate")


# --- the config of the transformer ---


@pytest.mark.parametrize(
    "fields",
    [
        {"max_seq_length": 6},
        {"processing_kwargs": {"text": {"max_length": 6}}},
        {"processing_kwargs": {"common": {"max_length": 6}, "text": {"max_length": 4}}},
        {"processing_kwargs": {"text": {"max_length": 6, "truncation": True, "padding": "max_length"}}, "max_seq_length": 4},
        {"processor_kwargs": {"model_max_length": 6}},
        {"tokenizer_args": {"model_max_length": 6}, "max_seq_length": 4},
        {"tokenizer_args": {"model_max_length": 6}, "processor_kwargs": {"model_max_length": 4}},
        {"processing_kwargs": {"text": {"max_length": None}}, "max_seq_length": 6},
    ],
)
def test_the_longest_text_is_that_of_sentence_transformers(embedder, fields):
    edit(embedder / PROMPTS, prompts={})
    edit(embedder / "tokenizer_config.json", model_max_length=8)
    edit(embedder / TRANSFORMER, **fields)
    assert equal(vectors(embedder, ["a"]), reference_vectors(embedder, ["a"]))
    with open_engine("embed", str(embedder), backend="torch", dtype="float32") as engine:
        assert Embedder(engine).max_tokens == 6
        assert Embedder(engine, max_tokens=5).max_tokens == 5


def test_the_first_config_with_content_counts(embedder):
    edit(embedder / PROMPTS, prompts={})
    (embedder / TRANSFORMER).write_text("{}")
    edit(embedder / "sentence_roberta_config.json", max_seq_length=6, do_lower_case=True)
    edit(embedder / "sentence_albert_config.json", max_seq_length=4)
    texts = ("GRAVITY Attracts Bodies", *TEXTS)
    assert equal(vectors(embedder, ["a"], texts), reference_vectors(embedder, ["a"], texts))


@pytest.mark.parametrize(
    "fields",
    [
        {
            "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
            "module_output_name": "token_embeddings",
        },
        {"transformer_task": "feature-extraction", "unpad_inputs": False, "query_length": None},
        {"model_kwargs": {"dtype": "float32", "attn_implementation": "eager"}, "processor_kwargs": {"padding_side": "right"}},
        {"processing_kwargs": {"text": {"padding": "max_length", "max_length": 64, "add_special_tokens": True}}},
        {"config_args": {"rms_norm_eps": 1e-06}},
    ],
)
def test_fields_without_effect_are_taken(embedder, fields):
    edit(embedder / TRANSFORMER, **fields)
    assert equal(vectors(embedder), reference_vectors(embedder))
    assert equal(vectors(embedder), vectors(TINY / "embedding"))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"processing_kwargs": {"text": {"add_special_tokens": False}}}, "processing_kwargs.text has add_special_tokens"),
        ({"processing_kwargs": {"common": {"truncation": False}}}, "processing_kwargs.common has truncation"),
        ({"processor_kwargs": {"add_prefix_space": True}}, "processor_kwargs has add_prefix_space"),
        ({"processor_kwargs": {"truncation_side": "left"}}, "processor_kwargs has truncation_side"),
        ({"tokenizer_args": {"add_eos_token": True}}, "tokenizer_args has add_eos_token"),
        ({"config_args": {"rms_norm_eps": 0.1}}, "config_args has rms_norm_eps"),
        ({"config_kwargs": {"num_hidden_layers": 2}}, "config_kwargs has num_hidden_layers"),
        ({"model_args": {"is_causal": False}}, "model_args has is_causal"),
        ({"query_length": 8}, "query_length is 8"),
        ({"query_expansion": {"length": 8, "strategy": "fixed"}}, "query_expansion"),
        ({"tokenizer_name_or_path": "another/model"}, "tokenizer_name_or_path"),
        ({"transformer_task": "text-generation"}, "transformer_task is 'text-generation'"),
        (
            {"modality_config": {"text": {"method": "forward", "method_output_name": "logits"}}, "module_output_name": "token_embeddings"},
            "modality_config.text.method_output_name is 'logits'",
        ),
        (
            {"modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}, "module_output_name": "other"},
            "module_output_name is 'other'",
        ),
        (
            {"modality_config": {"text": {}, "message": {"format": "flat"}}, "module_output_name": "token_embeddings"},
            "modality_config has 'message'",
        ),
        ({"modality_config": []}, "modality_config must be a JSON object"),
        ({"processing_kwargs": {"text": [1]}}, "text must be a JSON object"),
        ({"processor_kwargs": {"model_max_length": None}, "max_seq_length": None}, None),
        ({"processing_kwargs": {"text": {"max_length": "6"}}}, "processing_kwargs.text.max_length must be a whole number"),
    ],
)
@pytest.mark.parametrize("name", [TRANSFORMER, "sentence_distilbert_config.json"])
def test_what_would_change_numbers_is_refused(embedder, name, fields, named):
    edit(embedder / name, **fields)
    if named is None:
        assert equal(vectors(embedder), vectors(TINY / "embedding"))
    else:
        refusal("embed", embedder, name, named)


# --- the longest prompt of a reranker ---


@pytest.mark.parametrize(
    ("file", "fields"),
    [
        (TRANSFORMER, {"max_seq_length": 100}),
        ("tokenizer_config.json", {"model_max_length": 100}),
        (TRANSFORMER, {"processing_kwargs": {"chat_template": {"max_length": 100}, "text": {"max_length": 90}}}),
        (TRANSFORMER, {"processor_kwargs": {"model_max_length": 100}, "max_seq_length": 90}),
    ],
)
def test_the_longest_prompt_of_a_reranker_is_that_of_sentence_transformers(reranker, file, fields):
    edit(reranker / file, **fields)
    pairs = (*LONG, *PAIRS)
    assert equal(scores(reranker, pairs), reference_scores(reranker, pairs))
    assert not equal(scores(reranker, LONG), scores(TINY / "reranker", LONG))
    with open_engine("rerank", str(reranker), backend="torch", dtype="float32") as engine:
        assert Reranker(engine).max_tokens == 100
        assert Reranker(engine, max_tokens=8192).max_tokens == 8192
        assert equal(Reranker(engine, max_tokens=8192).score(LONG), scores(TINY / "reranker", LONG))


def test_the_longest_prompt_of_a_conversion_is_honoured(tmp_path):
    folder = write_classifier(tmp_path / "model", TINY / "reranker")
    edit(folder / "tokenizer_config.json", model_max_length=100)
    original = shutil.copytree(TINY / "reranker", tmp_path / "original")
    edit(original / "tokenizer_config.json", model_max_length=100)
    assert equal(scores(folder, LONG), scores(original, LONG))


def test_components_take_the_longest_prompt_of_the_folder(reranker):
    from qwen3_integrations.langchain import Qwen3Rerank
    from qwen3_integrations.llama_index import Qwen3Rerank as OfLlamaIndex

    edit(reranker / TRANSFORMER, max_seq_length=100)
    for component in (Qwen3Rerank, OfLlamaIndex):
        assert component(model=str(reranker), backend="torch").max_tokens == 100
        assert component(model=str(reranker), backend="torch", max_tokens=200).max_tokens == 200
        assert component(model="qwen3-tiny-demo", backend="torch").max_tokens == 8192


# --- sequence-classification rerankers that read plain pairs ---


def classifier(folder: Path, *, modules: bool, template: str | None) -> Path:
    """A sequence-classification model with a random head, saved by CrossEncoder or by transformers."""
    write_classifier(folder, TINY / "reranker")
    tensors = load_file(folder / "model.safetensors")
    head = torch.randn(tensors["score.weight"].shape, generator=torch.Generator().manual_seed(1)) / 5
    save_file(tensors | {"score.weight": head}, folder / "model.safetensors", metadata={"format": "pt"})
    declare(folder, pad_token_id=5094)
    for name in ("modules.json", TRANSFORMER, PROMPTS):
        (folder / name).unlink()
    if template is None:
        without(folder / "tokenizer_config.json", "chat_template")
    else:
        edit(folder / "tokenizer_config.json", chat_template=template)
    if not modules:
        return folder
    from sentence_transformers import CrossEncoder

    saved = folder.with_name("saved")
    CrossEncoder(str(folder), device="cpu", model_kwargs={"dtype": torch.float32}).save_pretrained(str(saved))
    return saved


CHAT = json.loads((TINY / "embedding" / "tokenizer_config.json").read_text())["chat_template"]
PAIR_TEMPLATE = json.loads((TINY / "reranker" / "tokenizer_config.json").read_text())["chat_template"]


def test_a_cross_encoder_on_plain_pairs_is_refused(tmp_path):
    folder = classifier(tmp_path / "model", modules=True, template=None)
    assert len(reference_scores(folder)) == len(PAIRS)  # it runs there
    refusal("rerank", folder, TRANSFORMER, "modality_config has no 'message'", "plain pairs", "CrossEncoder")


def test_a_cross_encoder_of_an_older_version_on_plain_pairs_is_refused(tmp_path):
    folder = classifier(tmp_path / "model", modules=True, template=CHAT)
    without(folder / TRANSFORMER, "modality_config", "module_output_name")
    refusal("rerank", folder, TRANSFORMER, "modality_config has no 'message'")
    (folder / TRANSFORMER).unlink()
    refusal("rerank", folder, TRANSFORMER, "modality_config has no 'message'")


def test_a_causal_reranker_on_plain_pairs_is_refused(reranker):
    edit(reranker / TRANSFORMER, modality_config={"text": {"method": "forward", "method_output_name": "logits"}})
    refusal("rerank", reranker, TRANSFORMER, "modality_config has no 'message'")


@pytest.mark.parametrize("modules", [True, False])
def test_a_cross_encoder_with_the_published_template_is_honoured(tmp_path, modules):
    folder = classifier(tmp_path / "model", modules=modules, template=PAIR_TEMPLATE)
    assert equal(scores(folder), reference_scores(folder))


@pytest.mark.parametrize("template", [None, CHAT])
def test_a_conversion_without_files_for_sentence_transformers_has_the_prompt_of_the_model_card(tmp_path, template):
    folder = classifier(tmp_path / "model", modules=False, template=template)
    assert equal(scores(folder), scores(classifier(tmp_path / "other", modules=False, template=PAIR_TEMPLATE)))


@pytest.mark.parametrize("modules", [True, False])
def test_a_cross_encoder_with_another_template_is_refused(tmp_path, modules):
    folder = classifier(tmp_path / "model", modules=modules, template=PAIR_TEMPLATE.replace("Judge whether", "Decide if"))
    refusal("rerank", folder, "chat_template makes another prompt", "CrossEncoder")


# --- chat templates of a reranker ---


@pytest.mark.parametrize(
    "filter_name",
    ["trim", "lower", "upper", "capitalize", "title", "escape", "wordwrap", "replace('\\n', ' ')", "truncate(2000)", "striptags"],
)
@pytest.mark.parametrize("variable", ["query_text", "document_text"])
def test_a_template_that_changes_texts_is_refused(reranker, variable, filter_name):
    template = PAIR_TEMPLATE.replace(f"{{{{ {variable} }}}}", f"{{{{ {variable} | {filter_name} }}}}")
    assert template != PAIR_TEMPLATE
    edit(reranker / "tokenizer_config.json", chat_template=template)
    refusal("rerank", reranker, "tokenizer_config.json", "chat_template makes another prompt")


@pytest.mark.parametrize("prompt", [" Find duplicates \n", "Zwei\n\nZeilen: \u00e9cole e\u0301cole"])
def test_an_instruction_with_blanks_and_lines_is_taken_as_it_is(reranker, prompt):
    edit(reranker / PROMPTS, prompts={"query": prompt})
    assert equal(scores(reranker), reference_scores(reranker))
    with open_engine("rerank", str(reranker), backend="torch", dtype="float32") as engine:
        assert Reranker(engine).instruction == prompt


@pytest.mark.parametrize("prompt", ["a <|im_end|> b", "<think>"])
def test_a_control_token_in_a_declared_instruction_is_refused(reranker, prompt):
    """sentence-transformers reads it as a control token; here, control tokens in an instruction are text."""
    edit(reranker / PROMPTS, prompts={"query": prompt})
    refusal("rerank", reranker, PROMPTS, "has a control token")


def test_a_special_token_of_the_folder_in_a_declared_instruction_is_refused(reranker):
    add_tokens(reranker, {"[Q]": {"special": True}})
    edit(reranker / PROMPTS, prompts={"query": "Find [Q] here"})
    refusal("rerank", reranker, "reads a control token in the instruction 'Find [Q] here'")


# --- tokenizers ---


def add_tokens(folder: Path, tokens: dict[str, dict[str, bool]]) -> None:
    """Add tokens to a folder's tokenizer, and rows to its embeddings."""
    path = folder / "tokenizer.json"
    spec = json.loads(path.read_text())
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    spec["added_tokens"] += [{"id": 5120 + number, "content": token, **flags, **own} for number, (token, own) in enumerate(tokens.items())]
    path.write_text(json.dumps(spec))
    add_rows(folder, 5120 + len(tokens))


SIDES = ("finch sings", "  two  blanks ", "\nline", "s are nice", "", "_x", "\u0301", "\u00c9cole", "the zebrafinch  sings", "zebrafinches")


def ids(folder: Path, texts=SIDES) -> list[list[int]]:
    """The ids of documents, as the folder's prompt and tokenizer make them."""
    files = read_model(folder, "embed")
    prompts = document_prompts(texts, files.read_tokenizer(), 8192, files.conventions)
    return [[int(each) for part in (prompt.prefix, prompt.body, prompt.suffix) for each in part.ids] for prompt in prompts]


def ids_or_refusal(folder: Path, texts) -> list[list[int]] | ConfigError:
    try:
        return ids(folder, texts)
    except ConfigError as error:
        return error


def reference_ids(folder: Path, texts=SIDES) -> list[list[int]]:
    """The ids that transformers makes of prompt and text, with the lower case of sentence-transformers."""
    from transformers import AutoTokenizer

    before = json.loads((folder / PROMPTS).read_text())["prompts"].get("document", "")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return [tokenizer(before + text).input_ids for text in texts]


@pytest.mark.parametrize("flags", [{}, {"lstrip": True}, {"rstrip": True}, {"single_word": True}, {"normalized": True}], ids=str)
@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize(
    "prompt",
    [
        "zebrafinch ",
        "zebrafinch",
        "zebrafinches: ",
        "x  zebrafinch: ",
        "zebra",
        "a <|im_end|> zebrafinch\n<|im_start|> ",
        "<think>  zebrafinch ",
    ],
)
def test_added_tokens_in_a_prompt_are_those_of_transformers_or_refused(embedder, prompt, special, flags):
    """A text that spells a special token is data here, so such a text is left out."""
    add_tokens(embedder, {"zebrafinch": {"special": special, **flags}})
    edit(embedder / PROMPTS, prompts={"query": "", "document": prompt})
    texts = tuple(text for text in SIDES if not special or "zebrafinch" not in prompt[-5:] + text)
    ours = ids_or_refusal(embedder, texts)
    if isinstance(ours, ConfigError):
        assert flags
        assert special
        assert f"{embedder}/tokenizer.json" in str(ours)
        assert "'zebrafinch'" in str(ours)
        assert ours.advice
    else:
        assert ours == reference_ids(embedder, texts)


@pytest.mark.parametrize("words", [("zxq", "zxqwv", "xqwvk"), ("zebra", "zebrafinch")])
def test_added_words_that_overlap_are_those_of_transformers(embedder, words):
    add_tokens(embedder, {word: {} for word in words})
    edit(embedder / PROMPTS, prompts={"query": "", "document": ""})
    texts = ("zxqwv zxqw zxq", "azxqzxqwvk", "xqwvkzxq", "zebrafinchzebra")
    assert ids(embedder, texts) == reference_ids(embedder, texts)


def test_an_added_word_with_another_id_than_in_the_vocabulary_is_refused(embedder):
    add_tokens(embedder, {"the": {}})
    refusal("embed", embedder, "tokenizer.json", "added_tokens has 'the' as the token 5120")


@pytest.mark.parametrize("kind", ["Qwen2Tokenizer", "Qwen2TokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend", None])
@pytest.mark.parametrize(
    ("stored", "settings"),
    [
        ({}, {}),
        ({"normalizer": {"type": "Sequence", "normalizers": [{"type": "Lowercase"}, {"type": "NFC"}]}}, {}),
        ({"normalizer": None}, {}),
        ({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}}, {}),
        ({}, {"add_prefix_space": True}),
        ({"ignore_merges": True}, {}),
    ],
    ids=str,
)
def test_the_class_of_a_tokenizer_counts_as_in_transformers(embedder, kind, stored, settings):
    path = embedder / "tokenizer.json"
    spec = json.loads(path.read_text())
    if "ignore_merges" in stored:
        spec["model"] |= stored
    path.write_text(json.dumps(spec | {name: value for name, value in stored.items() if name != "ignore_merges"}))
    edit(embedder / "tokenizer_config.json", tokenizer_class=kind, **settings)
    if kind is None:
        without(embedder / "tokenizer_config.json", "tokenizer_class")
    edit(embedder / PROMPTS, prompts={"query": "", "document": "<|im_start|>Passage: "})
    texts = (*SIDES, "The CSV Module", "e\u0301cole don't 12345 \u00c9T\u00c9")
    assert ids(embedder, texts) == reference_ids(embedder, texts)


def test_published_files_keep_their_digest_under_each_class(embedder):
    plain = read_model(TINY / "embedding", "embed").read_tokenizer()
    for kind in ("Qwen2Tokenizer", "PreTrainedTokenizerFast"):
        edit(embedder / "tokenizer_config.json", tokenizer_class=kind)
        assert read_model(embedder, "embed").read_tokenizer().digest == plain.digest


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"truncation_side": "left"}, "truncation_side is 'left'"),
        ({"split_special_tokens": True}, "split_special_tokens"),
        ({"tokenizer_class": "GPT2Tokenizer"}, "tokenizer_class is 'GPT2Tokenizer'"),
        (
            {"added_tokens_decoder": {"968": {"content": "zebra"}}},
            "added_tokens_decoder has 'zebra' as the token 968, but tokenizer.json has none",
        ),
        ({"added_tokens_decoder": {"5094": {"content": "<|other|>", "special": True}}}, "has '<|other|>' as the token 5094"),
        ({"added_tokens_decoder": {"5096": {"content": "<|im_end|>", "lstrip": True}}}, "'<|im_end|>' with lstrip"),
        (
            {"added_tokens_decoder": {"5094": {"content": "<|endoftext|>"}}, "tokenizer_class": "Qwen2Tokenizer"},
            "has none as the token 5095",
        ),
    ],
)
@pytest.mark.parametrize("task", ["embed", "rerank"])
def test_settings_of_a_tokenizer_that_contradict_it_are_refused(embedder, reranker, task, settings, named):
    folder = embedder if task == "embed" else reranker
    edit(folder / "tokenizer_config.json", **settings)
    refusal(task, folder, "tokenizer_config.json", named)


def test_a_tokenizer_that_cuts_at_the_left_is_refused(embedder):
    truncation = {"direction": "Left", "max_length": 512, "strategy": "LongestFirst", "stride": 0}
    edit(embedder / "tokenizer.json", truncation=truncation)
    refusal("embed", embedder, "tokenizer.json", "truncation cuts at the left")
    edit(embedder / "tokenizer_config.json", truncation_side="right")
    assert equal(vectors(embedder), reference_vectors(embedder))


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_side_of_padding_has_no_effect(embedder, side):
    edit(embedder / "tokenizer_config.json", padding_side=side)
    assert equal(vectors(embedder), vectors(TINY / "embedding"))


@pytest.mark.parametrize("flag", ["lstrip", "rstrip"])
def test_flags_of_the_tokens_of_a_rerankers_template(reranker, flag):
    """`rstrip` of <|im_start|> changes nothing there; `lstrip` of <|im_end|> would take the blanks at the end of a document."""
    path = reranker / "tokenizer.json"
    spec = json.loads(path.read_text())
    token = {"lstrip": "<|im_end|>", "rstrip": "<|im_start|>"}[flag]
    spec["added_tokens"] = [each | {flag: each["content"] == token} for each in spec["added_tokens"]]
    path.write_text(json.dumps(spec))
    if flag == "lstrip":
        refusal("rerank", reranker, "tokenizer.json", "lstrip", "'<|im_end|>'")
    else:
        assert equal(scores(reranker), reference_scores(reranker))


# --- messages say what to do ---


def write_adapter(folder: Path, *targets: str, **fields: object) -> Path:
    """An adapter without its base, as peft saves it."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModel

    base = AutoModel.from_pretrained(TINY / "embedding", dtype=torch.float32)
    get_peft_model(base, LoraConfig(r=4, lora_alpha=8, target_modules=list(targets))).save_pretrained(folder)
    edit(folder / "adapter_config.json", **{"base_model_name_or_path": str(TINY / "embedding"), **fields})
    return folder


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"base_model_name_or_path": 5}, "base_model_name_or_path must be a string, not 5"),
        ({"base_model_name_or_path": ["x"]}, "base_model_name_or_path must be a string"),
        ({"base_model_name_or_path": "qwen3-tiny-demo", "revision": 5}, "revision must be a string, not 5"),
        ({"rank_pattern": {"q_proj": None}}, "r must be a whole number"),
        ({"target_modules": ["v_proj"]}, "target_modules leaves out"),
    ],
)
def test_fields_of_an_adapter_that_can_not_be_are_named(tmp_path, fields, named):
    refusal("embed", write_adapter(tmp_path / "adapter", "q_proj", **fields), "adapter_config.json", named)


def test_an_adapter_of_the_token_embeddings_says_how_to_merge_it(tmp_path):
    message = refusal("embed", write_adapter(tmp_path / "adapter", "embed_tokens"), "changes the token embeddings", "lora_embedding_A")
    assert "merge_and_unload" in message


def test_the_revision_of_a_base_in_a_folder_has_no_effect(tmp_path):
    """As for transformers, which reads a folder as it is."""
    folder = write_adapter(tmp_path / "adapter", "q_proj", revision="v2")
    assert equal(vectors(folder), vectors(TINY / "embedding"))


def test_a_missing_folder_of_a_module_is_named(embedder):
    shutil.rmtree(embedder / "1_Pooling")
    assert "Download the model again" in refusal("embed", embedder, "1_Pooling/config.json does not exist")


def test_a_layer_with_pickled_weights_alone_says_how_to_save_it(embedder):
    (embedder / "2_Dense").mkdir()
    edit(embedder / "2_Dense" / "config.json", in_features=160, out_features=64, bias=True)
    torch.save({}, embedder / "2_Dense" / "pytorch_model.bin")
    listed = json.loads((embedder / "modules.json").read_text())
    listed.insert(2, {"idx": 3, "name": "3", "path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    (embedder / "modules.json").write_text(json.dumps(listed))
    assert "save_pretrained" in refusal("embed", embedder, "2_Dense", "pytorch_model.bin")


@pytest.mark.parametrize(
    "fields",
    [{"layer_types": "full_attention"}, {"is_causal": False}, {"model_type": "bert"}, {"num_key_value_heads": 3}, {"rope_theta": 1}],
)
def test_fields_of_the_config_that_can_not_be_say_what_to_do(embedder, fields):
    declare(embedder, **fields)
    refusal("embed", embedder, "config.json", *fields)
