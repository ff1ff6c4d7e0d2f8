"""Folders that are no model, not whole, damaged, or another model: refused by path, field and advice, before anything starts."""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
from contextlib import contextmanager
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from qwen3_integrations import open_engine
from qwen3_integrations.cli import app
from qwen3_integrations.errors import ConfigError, ModelNotFound, Qwen3Error
from qwen3_integrations.models.checkpoint import read_model
from qwen3_integrations.models.hub import find_model, resolve_model
from tests.models import TINY, declare, write_classifier

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
KINDS = {"embed": "embedding", "rerank": "reranker"}


def copied(folder: Path, task: str) -> Path:
    shutil.copytree(TINY / KINDS[task], folder)
    return folder


@pytest.fixture(params=["embed", "rerank"])
def task(request):
    return request.param


@pytest.fixture
def folder(tmp_path, task):
    """A copy of a tiny model in a folder whose name says nothing."""
    return copied(tmp_path / "m", task)


def refused(folder, task, *needles, kind=ConfigError):
    """What every reader of the folder says: the engine, and the checks before a server starts."""
    with pytest.raises(kind) as refusal:
        open_engine(task, str(folder), backend="torch", device="cpu")
    said = str(refusal.value)
    for needle in needles:
        assert needle in said, said
    return said


def read_all(folder, task):
    """Everything that is read before an engine or a server starts."""
    files = read_model(folder, task)
    files.check(task)
    files.stored_bytes(2)
    return files.read_tokenizer()


def rewrite(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"])
def test_a_git_lfs_pointer_is_named(folder, task, name):
    if (name, task) == ("tokenizer_config.json", "rerank"):
        return  # nothing in it counts for a reranker
    (folder / name).write_bytes(POINTER)
    refused(folder, task, str(folder / name), "Git LFS pointer", "git lfs pull")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        ("{}".encode("utf-16"), "byte order mark"),
        (b'{"a": "\xff"}', "not in UTF-8"),
        (b'{"a": ', "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"a": ' * 100_000, "not valid JSON"),
        (b"[]", "not an object"),
        (b"null", "not an object"),
        (b"1" * 5000, "not valid JSON"),
    ],
)
@pytest.mark.parametrize("name", ["config.json", "1_Pooling/config.json", "config_sentence_transformers.json", "tokenizer_config.json"])
def test_a_damaged_json_file_is_named(tmp_path, name, content, said):
    folder = copied(tmp_path / "m", "embed")
    (folder / name).write_bytes(content)
    refused(folder, "embed", str(folder / name), said)


@pytest.mark.parametrize(
    "content", [b"", b"\xef\xbb\xbf[]", b"{", b"[" * 100_000, b"[]", b"{}", b"null", b'["a"]', b'[{"path": ""}]', b"[{}]"]
)
def test_a_damaged_list_of_modules_is_named(tmp_path, content):
    folder = copied(tmp_path / "m", "embed")
    (folder / "modules.json").write_bytes(content)
    refused(folder, "embed", str(folder / "modules.json"))


@pytest.mark.parametrize(
    "content", [b"", b"\xef\xbb\xbf{}", b"{", b"[" * 100_000, b"{}", b"[]", b'{"added_tokens": [], "model": {"type": "BPE"}}', b'"a"']
)
def test_a_damaged_tokenizer_is_named(folder, task, content):
    (folder / "tokenizer.json").write_bytes(content)
    refused(folder, task, str(folder / "tokenizer.json"))


def test_a_tokenizer_on_which_its_library_panics_is_refused(tmp_path):
    folder = copied(tmp_path / "m", "embed")
    spec = json.loads((folder / "tokenizer.json").read_text())
    spec["post_processor"]["processors"][1]["special_tokens"] = {}
    (folder / "tokenizer.json").write_text(json.dumps(spec))
    refused(folder, "embed", str(folder / "tokenizer.json"), "can't be read")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("hidden_size", value) for value in ("160", 160.0, 0, -160, True, [160], None)),
        *(("num_hidden_layers", value) for value in ("3", None, 10**9, 10**400)),
        *((name, None) for name in ("num_attention_heads", "intermediate_size", "vocab_size", "max_position_embeddings")),
        *((name, "4") for name in ("num_attention_heads", "intermediate_size", "vocab_size", "max_position_embeddings")),
        *(("head_dim", value) for value in ("32", -1, 0.5)),
        *(("num_key_value_heads", value) for value in ("2", 3)),
        *(("rms_norm_eps", value) for value in ("1e-6", 0, -1, 10**400, float("nan"))),
        ("rope_theta", "1e6"),
        ("rope_scaling", "yarn"),
        ("rope_parameters", {"rope_theta": "1e6"}),
        ("rope_parameters", {"rope_type": 3}),
        ("tie_word_embeddings", "true"),
        ("use_sliding_window", "no"),
        ("torch_dtype", 16),
        ("architectures", None),
        ("architectures", []),
        ("architectures", "Qwen3ForCausalLM"),
        ("architectures", ["Qwen3ForTokenClassification"]),
        ("architectures", [["Qwen3ForCausalLM"]]),
        ("architectures", {"a": 1}),
        ("quantization_config", "gptq"),
        ("quantization_config", {"bits": 4}),
        ("is_causal", False),
        ("model_type", None),
        ("model_type", "qwen2"),
        ("model_type", ["qwen3"]),
    ],
)
def test_a_field_of_the_config_that_can_not_be_is_named(folder, task, field, value):
    rewrite(folder / "config.json", **{field: value})
    refused(folder, task, "config.json", field)


@pytest.mark.parametrize("field", ["hidden_size", "num_hidden_layers", "vocab_size", "max_position_embeddings", "architectures"])
def test_a_field_that_is_left_out_is_named(folder, task, field):
    declare(folder, **{field: None})
    refused(folder, task, "config.json", field)


@pytest.mark.parametrize(
    ("file", "field", "value"),
    [
        ("1_Pooling/config.json", "pooling_mode", 3),
        ("1_Pooling/config.json", "pooling_mode", ["mean", "cls"]),
        ("1_Pooling/config.json", "include_prompt", "false"),
        ("1_Pooling/config.json", "word_embedding_dimension", "160"),
        ("config_sentence_transformers.json", "prompts", ["query: "]),
        ("config_sentence_transformers.json", "prompts", {"query": 1}),
        ("config_sentence_transformers.json", "default_prompt_name", ["query"]),
        ("tokenizer_config.json", "model_max_length", "512"),
        ("tokenizer_config.json", "model_max_length", float("nan")),
        ("tokenizer_config.json", "model_max_length", 0.5),
    ],
)
def test_a_declaration_of_the_wrong_type_is_named(tmp_path, file, field, value):
    folder = copied(tmp_path / "m", "embed")
    rewrite(folder / file, **{field: value})
    refused(folder, "embed", str(folder / file))


@pytest.mark.parametrize("length", [1e30, float("inf"), 10**400])
def test_a_length_without_a_limit_is_none(tmp_path, length):
    folder = copied(tmp_path / "m", "embed")
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": length}))
    assert read_model(folder, "embed").conventions.max_tokens is None


# weights


@pytest.mark.parametrize("kept", [0, 3, 8, 100, 5000, -1, -1000])
def test_truncated_weights_are_named(folder, task, kept):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    refused(folder, task, str(path), "Download the model again")


def test_weights_with_more_bytes_than_their_header_says_are_named(folder, task):
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b"\0")
    refused(folder, task, "model.safetensors", "its header says")


def spoil_header(path: Path, change) -> None:
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


@pytest.mark.parametrize(
    "change",
    [
        lambda entry: entry.update(dtype="BF17"),
        lambda entry: entry.update(dtype=16),
        lambda entry: entry.update(shape=[1]),
        lambda entry: entry.update(shape="160"),
        lambda entry: entry.update(shape=[-1, -160]),
        lambda entry: entry.update(data_offsets=[0, 0]),
        lambda entry: entry.update(data_offsets=[entry["data_offsets"][0] + 2, entry["data_offsets"][1] + 2]),
        lambda entry: entry.update(data_offsets=None),
        lambda entry: entry.pop("dtype"),
    ],
)
def test_a_header_that_can_not_be_is_named(folder, task, change):
    spoil_header(folder / "model.safetensors", lambda header: change(header[next(name for name in header if "norm" in name)]))
    refused(folder, task, str(folder / "model.safetensors"))


def test_a_missing_tensor_and_one_of_another_shape_are_named(folder, task):
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if name.endswith("layers.1.mlp.up_proj.weight"))
    save_file({other: tensor for other, tensor in tensors.items() if other != name}, folder / "model.safetensors")
    refused(folder, task, "lacks 1 tensor, such as 'layers.1.mlp.up_proj.weight'")
    save_file(tensors | {name: tensors[name][1:].contiguous()}, folder / "model.safetensors")
    refused(folder, task, "'layers.1.mlp.up_proj.weight'", "config.json says (256, 160)")


def in_shards(folder: Path, count: int = 3, *, index: bool = True) -> list[str]:
    """Split a model's weights into files."""
    tensors = load_file(folder / "model.safetensors")
    names = [f"model-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]
    parts = {name: {key: tensor for at, (key, tensor) in enumerate(tensors.items()) if at % count == n} for n, name in enumerate(names)}
    for name, part in parts.items():
        save_file(part, folder / name, metadata={"format": "pt"})
    (folder / "model.safetensors").unlink()
    if index:
        weight_map = {key: name for name, part in parts.items() for key in part}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return names


def test_a_missing_shard_is_named(folder, task):
    names = in_shards(folder)
    (folder / names[1]).unlink()
    refused(folder, task, f"lacks {names[1]}", kind=ModelNotFound)


def test_a_missing_shard_without_an_index_is_named(folder, task):
    names = in_shards(folder, index=False)
    (folder / names[1]).unlink()
    refused(folder, task, f"lacks {names[1]}", kind=ModelNotFound)


@pytest.mark.parametrize(
    "content",
    [b"", POINTER, b"\xef\xbb\xbf{}", b"{", b"[]", b"{}", b'{"weight_map": {"a": ["b"]}}', b'{"weight_map": {"a": "\\u0000.safetensors"}}'],
)
def test_a_damaged_index_is_named(folder, task, content):
    in_shards(folder)
    (folder / "model.safetensors.index.json").write_bytes(content)
    refused(folder, task, str(folder / "model.safetensors.index.json"))


def test_weights_of_another_name_are_named(folder, task):
    (folder / "model.safetensors").rename(folder / "weights.safetensors")
    refused(folder, task, "weights.safetensors", "rename", kind=ModelNotFound)


def test_two_sets_of_shards_without_an_index_are_not_guessed(folder, task):
    in_shards(folder, 2, index=False)
    shutil.copy(folder / "model-00001-of-00002.safetensors", folder / "model-00001-of-00003.safetensors")
    refused(folder, task, "lacks model.safetensors", kind=ModelNotFound)


# other formats


@pytest.mark.parametrize(
    ("name", "says"), [("model-q8_0.gguf", "GGUF"), ("model.onnx", "ONNX"), ("pytorch_model.bin", "pickled"), ("tf_model.h5", "Keras")]
)
@pytest.mark.parametrize("with_config", [True, False])
def test_a_model_in_another_format_alone_is_named(folder, task, name, says, with_config):
    (folder / "model.safetensors").rename(folder / name)
    if not with_config:
        (folder / "config.json").unlink()
    refused(folder, task, *([name, says] if with_config or says != "pickled" else ["config.json"]), kind=ModelNotFound)


@pytest.mark.parametrize(
    "fields", [{"quantization": {"group_size": 64, "bits": 4}}, {"quantization_config": {"group_size": 64, "bits": 4}}]
)
def test_a_model_that_mlx_quantised_is_named(folder, task, fields):
    rewrite(folder / "config.json", **fields)
    refused(folder, task, "config.json", "MLX", next(iter(fields)))


def test_quantised_weights_that_the_config_does_not_declare_are_named(folder, task):
    tensors = load_file(folder / "model.safetensors")
    prefix = "model." if task == "rerank" else ""
    tensors[f"{prefix}layers.0.mlp.up_proj.qweight"] = tensors.pop(f"{prefix}layers.0.mlp.up_proj.weight")
    save_file(tensors, folder / "model.safetensors")
    refused(folder, task, "layers.0.mlp.up_proj.qweight", "no quantization_config")
    (folder / "quantize_config.json").write_text('{"bits": 4}')
    refused(folder, task, "quantize_config.json", "quant_method")


def test_the_old_layout_of_sentence_transformers_is_named(tmp_path):
    folder = copied(tmp_path / "m", "embed")
    (folder / "0_Transformer").mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).rename(folder / "0_Transformer" / name)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (folder / "modules.json").write_text(json.dumps(modules))
    refused(folder, "embed", str(folder / "modules.json"), "0_Transformer", "save_pretrained", kind=ModelNotFound)


# the other task


def bare_reranker(folder):
    """A reranker without the files of sentence-transformers."""
    copied(folder, "rerank")
    for name in ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"):
        (folder / name).unlink()
    return folder


def by_head(folder):
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {"score.weight": tensors["model.embed_tokens.weight"][:1].clone()}, folder / "model.safetensors")


def by_labels(folder):
    declare(folder, id2label={"0": "no", "1": "yes"}, label2id={"no": 0, "yes": 1})


def by_modules(folder):
    kinds = ["base.modules.transformer.Transformer", "cross_encoder.modules.logit_score.LogitScore"]
    modules = [{"idx": n, "name": str(n), "path": "", "type": f"sentence_transformers.{kind}"} for n, kind in enumerate(kinds)]
    (folder / "modules.json").write_text(json.dumps(modules))


def by_model_type(folder):
    (folder / "config_sentence_transformers.json").write_text('{"model_type": "CrossEncoder"}')


@pytest.mark.parametrize(
    ("change", "says"),
    [(by_head, "score.weight"), (by_labels, "id2label"), (by_modules, "modules.json"), (by_model_type, "model_type"), (None, "its name")],
)
def test_a_reranker_opened_for_embedding_is_refused(tmp_path, change, says):
    folder = bare_reranker(tmp_path / ("m" if change else "My-Qwen3-Reranker-v2"))
    if change:
        change(folder)
    refused(folder, "embed", says, "task rerank")


def test_a_converted_reranker_opened_for_embedding_is_refused(tmp_path):
    folder = write_classifier(tmp_path / "m", TINY / "reranker")
    refused(folder, "embed", "architectures", "Qwen3ForSequenceClassification", "task rerank")


@pytest.mark.parametrize("says", ["modules.json", "1_Pooling", "model_type", "its name"])
def test_an_embedding_model_opened_for_reranking_is_refused(tmp_path, says):
    folder = copied(tmp_path / ("Qwen3-Embedding-ft" if says == "its name" else "m"), "embed")
    if says != "modules.json":
        (folder / "modules.json").unlink()
    if says in ("model_type", "its name"):
        shutil.rmtree(folder / "1_Pooling")
    if says == "model_type":
        rewrite(folder / "config_sentence_transformers.json", model_type="SentenceTransformer")
    refused(folder, "rerank", says, "task embed")


def test_the_name_counts_only_where_no_file_says_the_task(tmp_path):
    folder = copied(tmp_path / "for-our-reranker", "embed")
    assert read_model(folder, "embed").modules.pooling.mode == "lasttoken"
    both = bare_reranker(tmp_path / "embedding-and-reranker")
    for task in ("embed", "rerank"):
        read_model(both, task)


def test_the_name_of_a_repository_in_a_cache_counts(tmp_path):
    folder = bare_reranker(tmp_path / "models--me--my-reranker" / "snapshots" / ("0" * 40))
    refused(folder, "embed", "models--me--my-reranker")
    assert read_model(folder, "rerank").classifier is False


# paths


@contextmanager
def without_rights():
    """Run as a user without rights, for whom permissions count."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def paths(tmp_path):
    """Paths that are no folder of a model, by name."""
    root = tmp_path / "paths"
    root.mkdir()
    (root / "file").write_text("{}")
    (root / "file.gguf").write_text("{}")
    (root / "broken").symlink_to(root / "nowhere")
    (root / "a").symlink_to(root / "b")
    (root / "b").symlink_to(root / "a")
    return root


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nowhere", "does not exist"),
        ("file", "is a file"),
        ("file.gguf", "is a file"),
        ("file/below", "does not exist"),
        ("broken", "is a link to"),
        ("a", "links form a circle"),
        ("n" * 300, "can't be read"),
        ("zero\0byte", "can't be a folder"),
    ],
)
def test_a_path_that_is_no_folder_is_said_to_be_what_it_is(paths, task, name, says):
    path = f"{paths}/{name}"
    with pytest.raises(ModelNotFound, match=says):
        resolve_model(path, task)
    refused(path, task, says, kind=ModelNotFound)
    assert find_model(path, task) is None


@pytest.mark.parametrize("name", ["file", "broken", "a"])
def test_a_name_without_a_slash_is_looked_at_too(paths, monkeypatch, name):
    monkeypatch.chdir(paths)
    with pytest.raises(ModelNotFound, match=r"is a file|is a link to|form a circle"):
        resolve_model(name, "embed")


def test_the_home_of_an_unknown_user_is_no_folder():
    with pytest.raises(ModelNotFound, match="~nobody_of_this_name"):
        resolve_model("~nobody_of_this_name/model", "embed")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors", "1_Pooling/config.json"])
@pytest.mark.parametrize("what", ["broken link", "circle", "folder"])
def test_a_file_that_is_no_file_is_named(tmp_path, name, what):
    folder = copied(tmp_path / "m", "embed")
    path = folder / name
    path.unlink()
    if what == "folder":
        path.mkdir()
    else:
        path.symlink_to(path.name if what == "circle" else "/nowhere/blob")
    refused(folder, "embed", str(path))


def test_a_folder_or_file_without_permission_is_named(socket_folder):
    socket_folder.chmod(0o755)
    folder = copied(socket_folder / "m", "embed")
    for name in ("config.json", "tokenizer.json", "model.safetensors", ""):
        path = folder / name
        path.chmod(0)
        with without_rights(), pytest.raises(ConfigError) as refusal:
            read_all(folder, "embed")
        path.chmod(0o755)
        assert str(path) in str(refusal.value)
        assert "Permission denied" in str(refusal.value)


# all at once


SPOILED = sorted(path.relative_to(TINY / "embedding").as_posix() for path in (TINY / "embedding").rglob("*") if path.is_file())
VALUES = (None, "", "x", 0, -1, 1.5, True, [], {}, [1], {"a": 1}, 10**30, "\ud800", "../..", [[]], float("inf"))


def spoil(path: Path, draw: random.Random) -> None:
    """Spoil a file in one of many ways."""
    content = path.read_bytes()
    ways = ["cut", "flip", "insert", "replace", "empty"]
    if path.suffix == ".json":
        ways += ["value"] * 8 + ["drop"] * 3
    way = draw.choice(ways)
    if way in ("value", "drop"):
        tree = json.loads(content)
        holder, key = draw.choice(list(places(tree)))
        if way == "drop":
            del holder[key]
        else:
            holder[key] = draw.choice(VALUES)
        path.write_text(json.dumps(tree))
        return
    at = draw.randrange(min(len(content), 2000))
    noise = draw.randbytes(draw.choice([1, 4, 40]))
    spoiled = {
        "cut": content[:at],
        "flip": content[:at] + bytes([content[at] ^ 1 << draw.randrange(8)]) + content[at + 1 :],
        "insert": content[:at] + noise + content[at:],
        "replace": content[:at] + noise + content[at + len(noise) :],
        "empty": b"",
    }
    path.write_bytes(spoiled[way])


def places(tree, depth=0):
    """Holder and key of every value, the many tokens of a vocabulary aside."""
    pairs = list(tree.items() if isinstance(tree, dict) else enumerate(tree))
    for key, value in pairs if len(pairs) < 100 else pairs[:: len(pairs) // 5]:
        yield tree, key
        if isinstance(value, dict | list):
            yield from places(value, depth + 1)


@pytest.mark.parametrize("seed", range(60))
def test_a_spoiled_folder_is_read_or_refused(tmp_path, seed):
    draw = random.Random(seed)
    task = draw.choice(["embed", "rerank"])
    folder = copied(tmp_path / "m", task)
    names = [name for name in SPOILED if (folder / name).is_file()]
    for name in draw.sample(names, len(names)):
        original = (folder / name).read_bytes()
        spoil(folder / name, draw)
        refusal = None
        try:
            read_all(folder, task)
        except Qwen3Error as error:
            refusal = error
        assert refusal is None or str(folder) in str(refusal), (name, str(refusal))
        (folder / name).write_bytes(original)


# the command line


@pytest.mark.vllm
@pytest.mark.parametrize("words", [["--dry-run"], []])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.safetensors", POINTER),
        ("model.safetensors", b""),
        ("config.json", b"\xef\xbb\xbf{}"),
        ("config.json", b"[]"),
        ("tokenizer.json", b"{"),
        ("modules.json", b"{"),
        ("1_Pooling/config.json", b""),
    ],
)
def test_serve_says_what_is_wrong_in_a_line(tmp_path, words, name, content):
    folder = copied(tmp_path / "m", "embed")
    (folder / name).write_bytes(content)
    shown = CliRunner().invoke(app, ["serve", "embed", str(folder), *words])
    assert shown.exit_code in (1, 2)
    assert isinstance(shown.exception, SystemExit)
    assert str(folder / name) in shown.stderr
    assert "Traceback" not in shown.stderr
    assert sum(line.startswith("error: ") for line in shown.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"layer_types": 3},
        {"layer_types": [["full_attention"]]},
        {"use_sliding_window": True, "max_window_layers": "x", "sliding_window": 128},
        {"use_sliding_window": True, "max_window_layers": 0, "sliding_window": "128"},
        {"rope_scaling": {"rope_type": "yarn", "factor": float("inf")}},
        {"rope_scaling": {"rope_type": "yarn", "factor": float("nan")}},
        {"rope_theta": 1, "rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
        {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "attention_factor": "x"}},
        {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "mscale": "x", "mscale_all_dim": "y"}},
        {"rope_scaling": {"rope_type": "default", "rope_theta": "abc"}, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
    ],
)
def test_fields_of_another_type_are_named(tmp_path, fields):
    folder = declare(copied(tmp_path / "m", "embed"), **fields)
    refused(folder, "embed", "config.json")


def test_a_module_whose_path_is_no_path_is_named(tmp_path):
    folder = copied(tmp_path / "m", "embed")
    rewritten = json.loads((folder / "modules.json").read_text())
    rewritten[1]["path"] = "1_Pool\0ing"
    (folder / "modules.json").write_text(json.dumps(rewritten))
    refused(folder, "embed", "can't be a file")
