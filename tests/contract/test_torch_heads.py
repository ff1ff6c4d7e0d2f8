"""Where a reranker's score is read: the torch engine against transformers and sentence-transformers, and what is refused."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from qwen3_integrations import Reranker, open_engine
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.checkpoint import read_model
from qwen3_integrations.models.vllm_support import vllm_overrides
from tests.contract.cases import TOLERANCE
from tests.models import declare, write_classifier, write_random_model
from tests.reference import reference_scores
from tests.texts import PLAIN

pytestmark = pytest.mark.filterwarnings("ignore")

PAIRS = [("how do I read a csv file", text) for text in PLAIN[:6]] + [(text, "Gravity attracts bodies.") for text in PLAIN[:6]]
MODULES, SCORE, TRANSFORMER, PROMPTS = (
    "modules.json",
    "1_LogitScore/config.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
)


@pytest.fixture
def copied(tiny_reranker, tmp_path):
    """A copy of the tiny reranker, to change."""
    shutil.copytree(tiny_reranker, tmp_path / "copied")
    return tmp_path / "copied"


def scores(folder, instruction=None):
    with open_engine("rerank", str(folder), backend="torch", dtype="float32", device="cpu") as engine:
        return Reranker(engine).score(PAIRS, instruction)


def cross_encoder(folder):
    from sentence_transformers import CrossEncoder

    return CrossEncoder(str(folder), device="cpu", model_kwargs={"dtype": torch.float32})


def edit(path, **fields):
    content = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not ...}))


def store(folder, change, name="model.safetensors"):
    tensors = change(load_file(folder / name))
    save_file({key: value.contiguous().clone() for key, value in tensors.items()}, folder / name, metadata={"format": "pt"})


def other_head(tensors, name="lm_head.weight"):
    table = next(value for key, value in tensors.items() if key.endswith("embed_tokens.weight"))
    noise = torch.randn(table.shape, generator=torch.Generator().manual_seed(1)).to(table.dtype)
    return tensors | {name: table + noise / 8}


# --- the files that the published rerankers have for sentence-transformers ---


def test_the_tiny_reranker_equals_its_own_cross_encoder(tiny_reranker):
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(tiny_reranker), device="cpu")  # as published: no other arguments
    assert np.abs(model.predict(PAIRS) - scores(tiny_reranker)).max() < TOLERANCE
    instruction = "Find the description of the function"
    assert np.abs(model.predict(PAIRS, prompt=instruction) - scores(tiny_reranker, instruction)).max() < TOLERANCE


def test_other_token_ids_are_read(copied, tiny_reranker):
    edit(copied / SCORE, true_token_id=301, false_token_id=402)
    assert np.abs(scores(copied) - cross_encoder(copied).predict(PAIRS)).max() < TOLERANCE
    assert np.abs(scores(copied) - scores(tiny_reranker)).max() > 100 * TOLERANCE
    with (
        open_engine("rerank", str(copied), backend="torch") as other,
        open_engine("rerank", str(tiny_reranker), backend="torch") as plain,
    ):
        assert other.fingerprint().identity_digest != plain.fingerprint().identity_digest


def test_files_for_sentence_transformers_change_no_fingerprint(copied, tiny_reranker):
    """The published rerankers got them later: what was computed before stays valid."""
    for name in (MODULES, TRANSFORMER, PROMPTS):
        (copied / name).unlink()
    with (
        open_engine("rerank", str(copied), backend="torch") as before,
        open_engine("rerank", str(tiny_reranker), backend="torch") as after,
    ):
        assert before.fingerprint() == after.fingerprint()


def test_a_template_with_another_instruction_gives_the_default_instruction(copied, tiny_reranker):
    own = "Find the recipe that the cook asks for"
    edit(copied / PROMPTS, prompts={"cooking": own}, default_prompt_name="cooking")
    assert np.abs(scores(copied) - cross_encoder(copied).predict(PAIRS)).max() < TOLERANCE
    assert np.abs(scores(copied) - scores(tiny_reranker, own)).max() < TOLERANCE
    assert np.abs(scores(copied, "Another") - scores(tiny_reranker, "Another")).max() < TOLERANCE
    with open_engine("rerank", str(copied), backend="torch") as engine:
        assert Reranker(engine).instruction == own
        assert Reranker(engine, instruction="Another").instruction == "Another"
        assert own in engine.fingerprint().identity["prompts"]


def test_components_take_the_instruction_of_the_folder(copied):
    from qwen3_integrations.langchain import Qwen3Rerank

    own = "Find the recipe that the cook asks for"
    edit(copied / PROMPTS, prompts={"cooking": own}, default_prompt_name="cooking")
    assert Qwen3Rerank(model=str(copied), backend="torch").instruction == own
    assert Qwen3Rerank(model=str(copied), backend="torch", instruction="Another").instruction == "Another"


def test_a_chat_template_of_its_own_file_comes_first(copied):
    template = json.loads((copied / "tokenizer_config.json").read_text())["chat_template"]
    (copied / "chat_template.jinja").write_text(template.replace("Given a web search query, retrieve", "Given a query, find"))
    assert np.abs(scores(copied) - cross_encoder(copied).predict(PAIRS)).max() > 0  # the prompt of the config is used
    edit(copied / PROMPTS, default_prompt_name=None)
    assert np.abs(scores(copied) - cross_encoder(copied).predict(PAIRS)).max() < TOLERANCE
    with open_engine("rerank", str(copied), backend="torch") as engine:
        assert Reranker(engine).instruction.startswith("Given a query, find")


def test_a_template_of_a_chat_model_says_nothing_of_pairs(copied, tiny_reranker):
    """So it was in the published rerankers at first; hub clients that fetch no .jinja file still see only this one."""
    edit(copied / "tokenizer_config.json", chat_template="{%- for m in messages %}{{ m.role + m.content }}{%- endfor %}")
    assert np.array_equal(scores(copied), scores(tiny_reranker))


def test_templates_with_structured_content_are_read(copied, tiny_reranker):
    template = json.loads((copied / "tokenizer_config.json").read_text())["chat_template"]
    edit(
        copied / "tokenizer_config.json",
        chat_template=template.replace('map(attribute="content") | first', 'map(attribute="content.0.text") | first'),
    )
    edit(copied / TRANSFORMER, modality_config={"message": {"method": "forward", "method_output_name": "logits", "format": "structured"}})
    assert np.array_equal(scores(copied), scores(tiny_reranker))


@pytest.mark.parametrize(
    ("file", "fields", "message"),
    [
        (SCORE, {"false_token_id": None}, "false_token_id.*not a probability"),
        (SCORE, {"false_token_id": ...}, "false_token_id"),
        (SCORE, {"true_token_id": "yes"}, "true_token_id must be a token id, not 'yes'"),
        (SCORE, {"true_token_id": True}, "true_token_id"),
        (SCORE, {"true_token_id": -1}, "true_token_id"),
        (SCORE, {"true_token_id": 698}, "both 698"),
        (SCORE, {"true_token_id": 5120}, "reads the token 5120, but embed_tokens.weight has only 5120 rows"),
        (SCORE, {"module_input_name": "hidden"}, "module_input_name 'hidden'"),
        (TRANSFORMER, {"transformer_task": "feature-extraction"}, "transformer_task is 'feature-extraction'"),
        (TRANSFORMER, {"do_lower_case": True}, "do_lower_case"),
        (PROMPTS, {"activation_fn": "torch.nn.modules.activation.Tanh"}, "activation_fn 'torch.nn.modules.activation.Tanh'"),
        (PROMPTS, {"default_prompt_name": "none"}, "default_prompt_name is 'none'"),
    ],
)
def test_what_is_no_probability_of_this_prompt_is_refused(copied, file, fields, message):
    edit(copied / file, **fields)
    with pytest.raises(ConfigError, match=message) as refusal:
        open_engine("rerank", str(copied), backend="torch")
    assert str(copied) in str(refusal.value)


@pytest.mark.parametrize(
    "change",
    [
        ("Judge whether the Document meets", "Say whether the Document fits"),
        ("<Query>: ", "<Query>:\n"),
        ("{{ document_text }}", "{{ document_text }}\n"),
        ("{{ query_text }}", "{{ document_text }}"),
        ("<think>\n\n</think>\n\n", ""),
        ("{{ instruction }}", "{{ raise_exception('no') }}"),
        ("{{ instruction }}", "{{ instruction "),
    ],
)
def test_another_chat_template_is_refused(copied, change):
    template = json.loads((copied / "tokenizer_config.json").read_text())["chat_template"]
    assert change[0] in template
    edit(copied / "tokenizer_config.json", chat_template=template.replace(*change))
    with pytest.raises(ConfigError, match=r"tokenizer_config\.json: chat_template"):
        open_engine("rerank", str(copied), backend="torch")


def test_a_chat_template_runs_in_a_sandbox(copied):
    template = json.loads((copied / "tokenizer_config.json").read_text())["chat_template"]
    edit(copied / "tokenizer_config.json", chat_template=template + "{{ ''.__class__.__mro__[1].__subclasses__() }}")
    with pytest.raises(ConfigError, match="chat_template"):
        open_engine("rerank", str(copied), backend="torch")


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        (["Transformer"], "lists the modules Transformer"),
        (["Transformer", "LogitScore", "Dense"], "Transformer, LogitScore, Dense"),
        (["Transformer", "Pooling"], "embedding model"),
    ],
)
def test_another_list_of_modules_is_refused(copied, kinds, message):
    listed = [{"idx": n, "name": str(n), "path": "", "type": f"sentence_transformers.models.{kind}"} for n, kind in enumerate(kinds)]
    (copied / MODULES).write_text(json.dumps(listed))
    with pytest.raises(ConfigError, match=message):
        open_engine("rerank", str(copied), backend="torch")


# --- output heads ---


@pytest.mark.parametrize("prefix", ["model.", ""])
@pytest.mark.parametrize("tied", [True, False])
def test_a_stored_output_head_is_read_as_transformers_reads_it(tiny_reranker, copied, tied, prefix):
    """transformers warns that both are stored with different values, and does not tie them."""
    store(copied, lambda tensors: other_head({prefix + name.removeprefix("model."): tensor for name, tensor in tensors.items()}))
    declare(copied, tie_word_embeddings=tied)
    assert np.abs(scores(copied) - reference_scores(copied, PAIRS)).max() < TOLERANCE
    assert np.abs(scores(copied) - cross_encoder(copied).predict(PAIRS)).max() < TOLERANCE
    assert np.abs(scores(copied) - scores(tiny_reranker)).max() > 100 * TOLERANCE
    assert read_model(copied, "rerank").score_head.matrix == "lm_head.weight"


def test_weights_without_token_embeddings_are_refused(copied):
    """transformers would take a tied head's; a folder that lacks them is more likely to be incomplete."""
    store(copied, lambda tensors: {name.replace("model.embed_tokens", "lm_head"): tensor for name, tensor in tensors.items()})
    with pytest.raises(ConfigError, match=r"embed_tokens\.weight"):
        open_engine("rerank", str(copied), backend="torch")


def test_an_untied_model_without_a_head_is_refused(copied):
    declare(copied, tie_word_embeddings=False)
    with pytest.raises(ConfigError, match=r"lm_head\.weight.*tie_word_embeddings"):
        open_engine("rerank", str(copied), backend="torch")


@pytest.mark.parametrize("prefix", ["_orig_mod.model.", "base_model.model.model.", "", "module.model."])
def test_an_untied_head_is_found_in_every_layout(random_models, tmp_path, prefix):
    source = random_models["rerank", "8B"]
    shutil.copytree(source, folder := tmp_path / "wrapped")
    head = prefix.removesuffix("model.")

    def wrapped(tensors):
        return {
            (head + name if name.startswith("lm_head") else prefix + name.removeprefix("model.")): each for name, each in tensors.items()
        }

    store(folder, wrapped)
    assert np.array_equal(scores(folder), scores(source))


@pytest.mark.parametrize("labels", [{"num_labels": 1}, {"num_labels": 2}, {}])
def test_labels_declared_only_by_their_number(random_reranker, tmp_path, labels):
    order = ["yes"] if labels == {"num_labels": 1} else ["no", "yes"]
    folder = declare(write_classifier(tmp_path / "classifier", random_reranker, None, order), **labels)
    assert np.abs(scores(folder) - reference_scores(random_reranker, PAIRS)).max() < TOLERANCE


@pytest.mark.parametrize("prefix", ["_orig_mod.", "base_model.model."])
def test_a_stored_label_head_is_found_in_every_layout(random_reranker, tmp_path, prefix):
    folder = write_classifier(tmp_path / "classifier", random_reranker, ["yes", "no"], ["yes", "no"], [0.3, -0.2])
    before = scores(folder)
    store(folder, lambda tensors: {prefix + name: tensor for name, tensor in tensors.items()})
    assert np.array_equal(scores(folder), before)


def test_a_conversion_that_kept_the_files_of_the_original_is_read_by_its_own_head(tiny_reranker, tmp_path):
    folder = write_classifier(tmp_path / "kept", tiny_reranker, ["yes", "no"], ["yes", "no"])
    assert (folder / MODULES).is_file()
    store(folder, lambda tensors: tensors | {"score.weight": tensors["score.weight"] * 2})
    assert read_model(folder, "rerank").score_head.of_labels
    logit = np.log(scores(tiny_reranker).astype(np.float64) / (1 - scores(tiny_reranker)))
    assert np.abs(scores(folder) - 1 / (1 + np.exp(-2 * logit))).max() < TOLERANCE


def test_a_one_label_conversion_saved_by_sentence_transformers(tiny_reranker, tmp_path):
    from sentence_transformers import CrossEncoder

    converted = write_classifier(tmp_path / "converted", tiny_reranker)
    for name in (MODULES, TRANSFORMER):
        (converted / name).unlink()
    CrossEncoder(str(converted), device="cpu", model_kwargs={"dtype": torch.float32}).save_pretrained(str(tmp_path / "saved"))
    assert (tmp_path / "saved" / MODULES).is_file()
    assert np.abs(scores(tmp_path / "saved") - cross_encoder(tmp_path / "saved").predict(PAIRS, batch_size=1)).max() < TOLERANCE
    assert np.abs(scores(tmp_path / "saved") - scores(tiny_reranker)).max() < TOLERANCE


def test_the_names_of_tokens_for_vllm(copied, tiny_reranker):
    assert read_model(tiny_reranker, "rerank").score_head.token_names(tiny_reranker) == ("no", "yes")
    vocabulary = json.loads((copied / "tokenizer.json").read_text())["model"]["vocab"]
    edit(copied / SCORE, true_token_id=vocabulary["Ġthe"], false_token_id=vocabulary["Ġof"])
    assert read_model(copied, "rerank").score_head.token_names(copied) == ("Ġof", "Ġthe")
    edit(copied / SCORE, true_token_id=5120)
    store(copied, lambda tensors: tensors | {"lm_head.weight": torch.zeros(5121, 160)})  # a row that is no token
    with pytest.raises(ConfigError, match="5120"):
        read_model(copied, "rerank").score_head.token_names(copied)


def test_a_head_of_another_width_is_refused(copied):
    store(copied, lambda tensors: tensors | {"lm_head.weight": torch.zeros(5120, 96)})
    with pytest.raises(ConfigError, match=r"lm_head.weight of shape \(5120, 96\)"):
        open_engine("rerank", str(copied), backend="torch")


def test_random_models_need_no_files_of_sentence_transformers(tmp_path):
    from tests.models import SHAPES

    folder = write_random_model(tmp_path / "plain", "rerank", SHAPES["8B"])
    assert np.abs(scores(folder) - reference_scores(folder, PAIRS)).max() < TOLERANCE


@pytest.mark.parametrize("kind", ["ids", "head"])
def test_vllm_is_set_to_the_head_of_the_folder(copied, tiny_reranker, kind):
    if kind == "ids":
        edit(copied / SCORE, true_token_id=301, false_token_id=402)
    else:
        store(copied, other_head)
    usual, other = (vllm_overrides(read_model(folder, "rerank"), "rerank") for folder in (tiny_reranker, copied))
    assert usual["classifier_from_token"] == ["no", "yes"]
    assert "tie_word_embeddings" not in usual
    assert (other["classifier_from_token"] != ["no", "yes"]) == (kind == "ids")
    assert other.get("tie_word_embeddings", True) == (kind == "ids")
