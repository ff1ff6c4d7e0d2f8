"""Labels of sequence-classification rerankers: the order that is read, and what is refused, by every way into a folder."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from qwen3_integrations import open_engine
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.checkpoint import read_model
from qwen3_integrations.serving import ServerOptions
from qwen3_integrations.serving.command import build_command
from qwen3_integrations.serving.installed import Installed
from qwen3_integrations.serving.launching import prepare
from tests.models import declare, write_classifier

VLLM = Installed("vllm", "0.32.0", "vllm", "python3", frozenset())


@pytest.fixture
def converted(tiny_reranker, tmp_path):
    """Writes a conversion: `write_classifier`'s names, order and bias."""
    return lambda *told: write_classifier(tmp_path / "converted", tiny_reranker, *told)


def command_of(folder):
    options = ServerOptions(task="rerank", engine="vllm", model=str(folder))
    return build_command(options, read_model(folder, "rerank"), VLLM, port=1, api_key=None)


@pytest.mark.parametrize(
    ("names", "positive"),
    [
        (["no", "yes"], 1),
        (["yes", "no"], 0),
        (["No", "YES"], 1),
        (["True", "False"], 0),
        (["irrelevant", "relevant"], 1),
        (["Relevant", "not-relevant"], 0),
        (["negative", "positive"], 1),
        (["0", "1"], 1),
        (["1", "0"], 0),
        (["LABEL_0", "LABEL_1"], 1),
    ],
)
def test_which_label_means_yes(converted, names, positive):
    assert read_model(converted(names, ["no", "yes"]), "rerank").labels.positive == positive


def test_label2id_alone_says_it_too(converted):
    folder = declare(converted(["yes", "no"], ["yes", "no"]), id2label=None, num_labels=None)
    assert read_model(folder, "rerank").labels.positive == 0


def test_a_label2id_that_was_left_at_its_default_contradicts_nothing(converted):
    folder = declare(converted(["yes", "no"], ["yes", "no"]), label2id={"LABEL_0": 0, "LABEL_1": 1})
    assert read_model(folder, "rerank").labels.positive == 0


def test_an_id2label_that_was_left_at_its_default_gives_way_to_label2id(converted):
    folder = declare(converted(["LABEL_0", "LABEL_1"], ["yes", "no"]), label2id={"yes": 0, "no": 1})
    assert read_model(folder, "rerank").labels.positive == 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"id2label": {"0": "cat", "1": "dog"}, "label2id": None}, r"'cat', 'dog' \(id2label\)"),
        ({"id2label": {"0": "yes", "1": "yes"}, "label2id": None}, r"'yes', 'yes' \(id2label\)"),
        ({"id2label": {"0": "LABEL_1", "1": "LABEL_0"}, "label2id": None}, "id2label"),
        ({"id2label": {"0": "no", "1": "maybe", "2": "yes"}, "label2id": None}, r"3 labels \(id2label: 'no', 'maybe', 'yes'\)"),
        ({"id2label": {"1": "no", "2": "yes"}, "label2id": None}, "id2label must number its labels from 0"),
        ({"id2label": ["no", "yes"]}, "id2label must map numbers to names"),
        ({"id2label": {"0": "yes", "1": "no"}, "label2id": {"no": 0, "yes": 1}}, "id2label and label2id"),
        ({"id2label": {"0": "no", "1": "yes"}, "label2id": {"relevant": 0, "irrelevant": 1}}, "id2label and label2id"),
        ({"id2label": {"0": "no", "00": "yes"}, "label2id": None}, "id2label and label2id must give each label a number of its own"),
        ({"id2label": None, "label2id": {"no": 0, "yes": 1, "maybe": 1}}, "id2label and label2id must give each label a number of its own"),
        ({"id2label": {"0": "no", "1": "yes"}, "num_labels": 1}, "num_labels says 1, but id2label names 2"),
        ({"id2label": {"0": "LABEL_0"}, "label2id": {"no": 0}}, r"only label 'no' \(id2label\)"),
        ({"id2label": {"0": "no"}, "label2id": None}, r"only label 'no' \(id2label\)"),
        ({"id2label": None, "label2id": None, "num_labels": 3}, "num_labels"),
        ({"problem_type": "multi_label_classification"}, "problem_type 'multi_label_classification'"),
        ({"problem_type": "regression"}, "problem_type 'regression'"),
    ],
)
def test_labels_that_do_not_say_it_are_refused_everywhere(converted, fields, message):
    folder = declare(converted(["no", "yes"], ["no", "yes"]), **fields)
    for open_it in (
        lambda: open_engine("rerank", str(folder), backend="torch"),
        lambda: open_engine("rerank", str(folder), backend="vllm"),
        lambda: prepare(ServerOptions(task="rerank", engine="vllm", model=str(folder))),
    ):
        with pytest.raises(ConfigError, match=message) as refusal:
            open_it()
        assert str(folder / "config.json") in str(refusal.value)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"score.weight": torch.zeros(3, 160)}, r"score.weight of shape \(3, 160\)"),
        ({"score.weight": torch.zeros(2, 159)}, r"score.weight of shape \(2, 159\)"),
        ({"score.weight": torch.zeros(160)}, r"score.weight of shape \(160,\)"),
        ({"score.weight": torch.zeros(1, 160)}, r"declares 2 labels \(id2label\), but score.weight has 1 rows"),
        ({"score.bias": torch.zeros(1)}, r"score.bias of shape \(1,\)"),
        ({"score.weight": None}, "has no 'score.weight'"),
    ],
)
def test_a_stored_head_of_another_shape_is_refused_everywhere(converted, tensors, message):
    folder = converted(["no", "yes"], ["no", "yes"])
    stored = {name: tensor for name, tensor in (load_file(folder / "model.safetensors") | tensors).items() if tensor is not None}
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    for open_it in (
        lambda: open_engine("rerank", str(folder), backend="torch"),
        lambda: open_engine("rerank", str(folder), backend="vllm"),
        lambda: prepare(ServerOptions(task="rerank", engine="vllm", model=str(folder))),
    ):
        with pytest.raises(ConfigError, match=message) as refusal:
            open_it()
        assert str(folder) in str(refusal.value)


def test_a_server_is_not_started_where_its_clients_would_read_scores_upside_down(converted):
    with pytest.raises(ConfigError, match=r"'yes' as label 0 \(id2label\).*swap the two rows"):
        prepare(ServerOptions(task="rerank", engine="vllm", model=str(converted(["yes", "no"], ["yes", "no"]))))
    assert "--hf-overrides" not in command_of(converted(["no", "yes"], ["no", "yes"])).argv


def test_a_server_is_told_of_one_row_that_no_label_declares(converted):
    folder = converted(None, ["yes"])
    prepare(ServerOptions(task="rerank", engine="vllm", model=str(folder)))
    argv = command_of(folder).argv
    assert json.loads(argv[argv.index("--hf-overrides") + 1]) == {"num_labels": 1}


def test_a_server_answers_with_probabilities_whatever_the_config_says(converted):
    folder = declare(converted(), problem_type="regression", sentence_transformers={"activation_fn": "torch.nn.modules.linear.Identity"})
    argv = command_of(folder).argv
    assert json.loads(argv[argv.index("--hf-overrides") + 1]) == {"problem_type": None, "sentence_transformers": {}}
