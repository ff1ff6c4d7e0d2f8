"""`serve` of folders that declare more than the published ones: the numbers of the folder, through five real vLLM servers."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForCausalLM

from qwen3_integrations import Embedder, Reranker, open_engine
from qwen3_integrations.errors import ConfigError, HandshakeFailed
from qwen3_integrations.serving import Launched, Server, ServerOptions, prepare, servers, start
from qwen3_integrations.serving.records import FOLDER_VARIABLE
from qwen3_integrations.verification import verify
from tests.contract.cases import TOLERANCE
from tests.declared import ADDED, DOCUMENTS, FOLDERS, PAIRS, QUERIES, append_tokens, edit, list_modules, write_dense
from tests.models import TINY, declare, write_classifier
from tests.server.launch import ONE_PROCESS, QUICK_START
from tests.unit.test_folder_layouts import decoder, older_files

pytestmark = [pytest.mark.server, pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(1200), pytest.mark.filterwarnings("ignore")]

QUICK = {"engine": "vllm", "dtype": "float32", "max_tokens": 512, "enforce_eager": True, "max_num_seqs": 64, "extra_args": ONE_PROCESS}
TEXTS = (*DOCUMENTS, "GRAVITY Attracts BODIES", f"The {ADDED} sings.", "a longer text " * 60)
ADAPTER = "fine-tune"


@pytest.fixture(scope="module", autouse=True)
def _state(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDER_VARIABLE, str(tmp_path_factory.mktemp("state") / "servers"))
        for name, value in QUICK_START.items():
            patch.setenv(name, value)
        yield
        for server in servers():
            server.stop()


def write_adapter(folder: Path, base: Path, cls: type) -> Path:
    """A random LoRA adapter of a model, as PEFT saves it."""
    model = get_peft_model(
        cls.from_pretrained(base, dtype=torch.float32), LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"])
    )
    draw = torch.Generator().manual_seed(5)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data = torch.randn(weight.shape, generator=draw) / 20
    model.save_pretrained(folder)
    return folder


def merged(folder: Path, base: Path, adapter: Path) -> Path:
    """The base with the adapter's changes in its weights, in float32."""
    shutil.copytree(base, folder)
    changes = {
        name.removeprefix("base_model.model.").removeprefix("model."): each
        for name, each in load_file(adapter / "adapter_model.safetensors").items()
    }
    tensors = {name: tensor.float() for name, tensor in load_file(base / "model.safetensors").items()}
    for name, tensor in list(tensors.items()):
        plain = name.removeprefix("model.").removesuffix(".weight")
        if f"{plain}.lora_A.weight" in changes:
            tensors[name] = tensor + 2 * changes[f"{plain}.lora_B.weight"] @ changes[f"{plain}.lora_A.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def vectors(engine, texts=TEXTS) -> np.ndarray:
    embedder = Embedder(engine)
    return np.concatenate([embedder.embed_documents(texts), embedder.embed_queries(list(QUERIES))])


def torch_vectors(folder: Path, texts=TEXTS) -> np.ndarray:
    with open_engine("embed", str(folder), backend="torch", dtype="float32") as engine:
        return vectors(engine, texts)


def launched(task: str, folder: Path, handshake: str, **options) -> Server:
    outcome = start(ServerOptions(task=task, model=str(folder), served_name="base", **QUICK | options), handshake=handshake)
    assert isinstance(outcome, Launched), outcome
    return outcome.server


@pytest.fixture(scope="module")
def starts(own_texts, adapter, pooled, first_token, label_head, label_adapter, token_head):
    """Folder -> its server, which may still start. Two start at a time, because one needs one core for most of its start."""
    with ThreadPoolExecutor(2) as pool:
        yield {
            own_texts: pool.submit(launched, "embed", own_texts, "full", lora=adapter),
            label_head: pool.submit(launched, "rerank", label_head, "full", lora=label_adapter),
            pooled: pool.submit(launched, "embed", pooled, "counts"),
            token_head: pool.submit(launched, "rerank", token_head, "counts"),
            first_token: pool.submit(launched, "embed", first_token, "counts"),
        }


# An embedding model: other end token, own prompts, lower case, an added word, a short longest text, bare names, and an adapter


@pytest.fixture(scope="module")
def own_texts(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("own") / "model"
    FOLDERS["added tokens"].write(folder)
    append_tokens(folder, "<|im_end|>")
    edit(folder / "config_sentence_transformers.json", prompts={"query": "query: ", "document": "passage: "})
    edit(folder / "sentence_bert_config.json", do_lower_case=True, max_seq_length=64)
    tensors = load_file(folder / "model.safetensors")
    save_file(
        {name.removeprefix("model."): tensor for name, tensor in tensors.items()}, folder / "model.safetensors", metadata={"format": "pt"}
    )
    return folder


@pytest.fixture(scope="module")
def adapter(own_texts) -> Path:
    return write_adapter(own_texts.parent / ADAPTER, own_texts, AutoModel)


@pytest.fixture(scope="module")
def own_server(starts, own_texts):
    with starts[own_texts].result() as server:
        yield server


def named(server: Server, model: str, **options):
    return open_engine(
        "embed", model, base_url=server.url, api_key=server.api_key, backend="http", tokenizer=server.model_folder, **options
    )


def test_a_server_gives_the_vectors_that_the_folder_declares(own_server, own_texts):
    with named(own_server, "base") as engine:
        embedder = Embedder(engine)
        assert (embedder.query_prompt, embedder.document_prompt, embedder.max_tokens) == ("query: ", "passage: ", 64)
        assert np.abs(vectors(engine) - torch_vectors(own_texts)).max() < TOLERANCE
        assert engine.fingerprint().identity["prompts"] == "query 'query: ', document 'passage: '"
        assert len(embedder.embed_documents(TEXTS)) == len(TEXTS)
        assert embedder.usage.truncated == 1


def test_the_adapter_gives_the_vectors_of_the_merged_model(own_server, own_texts, adapter, tmp_path):
    expected = torch_vectors(merged(tmp_path / "merged", own_texts, adapter))
    assert own_server.model == ADAPTER
    with own_server.engine() as engine:
        assert np.abs(vectors(engine) - expected).max() < TOLERANCE
    with named(own_server, "base") as engine:
        assert np.abs(vectors(engine) - expected).max() > 100 * TOLERANCE


def test_verify_knows_the_folder(own_server, own_texts):
    report = verify(own_server.url, api_key=own_server.api_key, tokenizer=own_texts)
    states = {check.name: check for check in report.checks}
    assert report.ok, str(report)
    assert report.model == "base"
    assert "with the end token <|im_end|>" in states["tokens"].detail
    assert "adapter" not in states
    report = verify(own_server.url, api_key=own_server.api_key, tokenizer=own_texts, adapter=ADAPTER)
    states = {check.name: check for check in report.checks}
    assert report.model == ADAPTER
    assert states["adapter"].state == "passed"
    assert "changes the answers of base" in states["adapter"].detail


def test_verify_finds_an_adapter_that_is_not_applied(own_server, own_texts):
    """Here it is the model itself, under the adapter's name: as from a server that ignores the adapter."""
    report = verify(own_server.url, "embed", "base", own_server.api_key, tokenizer=own_texts, adapter="base")
    (failed,) = (check for check in report.checks if check.name == "adapter")
    assert failed.state == "failed"
    assert "the answers of base are those of base: the adapter is not applied" in failed.detail
    assert not report.ok


def test_snippets_hold_the_prompts_of_the_folder(own_server, monkeypatch):
    monkeypatch.setenv("QWEN3_API_KEY", own_server.api_key)
    code = own_server.snippets()
    assert '"query: " + query' in code["openai"]
    found: dict[str, object] = {}
    for client in ("openai", "langchain", "llama_index"):
        exec(code[client], found)
    found["client"].close()
    document = "The capital of China is Beijing."
    answer = subprocess.run(["bash", "-c", f"{code['curl']} --silent"], capture_output=True, text=True, check=True)
    rows = [found["embeddings"].embed_documents([document])[0], found["embed_model"].get_text_embedding(document)]
    with own_server.engine() as engine:
        ours = Embedder(engine).embed_documents([document])
    assert np.abs(np.asarray(rows) - ours).max() < TOLERANCE
    raw = np.asarray([found["vector"], json.loads(answer.stdout)["data"][0]["embedding"]])
    with named(own_server, ADAPTER, handshake="off") as engine:  # a client that knows the model card alone sends other texts
        spelled = Embedder(engine, instruction="").embed_queries([f"passage: {document}"])
    assert np.abs(raw - raw[0]).max() < TOLERANCE
    assert spelled.shape == (1, raw.shape[1])


# Embedding models that pool otherwise: one without an end token, with sizes that are left out; one with another name of its config


@pytest.fixture(scope="module")
def pooled(tmp_path_factory) -> Path:
    folder = shutil.copytree(TINY / "embedding", tmp_path_factory.mktemp("pooled") / "model")
    edit(folder / "1_Pooling" / "config.json", pooling_mode_lasttoken=False, pooling_mode_mean_tokens=True)
    write_dense(folder, "2_Dense", (96, 160), "activation.Tanh", bias=True)
    write_dense(folder, "3_Dense", (64, 96), "linear.Identity", bias=False, seed=1)
    list_modules(folder, "1_Pooling", "2_Dense", "3_Dense", "4_Normalize")
    append_tokens(folder)
    return declare(folder, head_dim=None, num_key_value_heads=None)


@pytest.fixture(scope="module")
def first_token(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cls") / "model"
    FOLDERS["cls"].write(folder)
    edit(folder / "config_sentence_transformers.json", prompts={})
    edit(folder / "sentence_roberta_config.json", max_seq_length=64, do_lower_case=False)
    return folder


def test_mean_pooling_dense_layers_and_no_end_token_are_served(starts, pooled):
    with starts[pooled].result() as server:
        with server.engine(handshake="counts") as engine:
            assert np.abs(vectors(engine, DOCUMENTS) - torch_vectors(pooled, DOCUMENTS)).max() < TOLERANCE
            assert engine.dimensions == 64
        options = {"base_url": server.url, "api_key": server.api_key, "backend": "http", "handshake": "counts"}
        with (
            open_engine("embed", "base", tokenizer=TINY / "embedding", **options) as engine,
            pytest.raises(HandshakeFailed, match=r"does not append the end token <\|endoftext\|>"),
        ):
            Embedder(engine).embed_documents(["text"])


def test_the_first_token_and_no_prompt_are_served(starts, first_token):
    with starts[first_token].result() as server, server.engine(handshake="counts") as engine:
        rows = vectors(engine)
        assert Embedder(engine).query_prompt == ""
        assert Embedder(engine).max_tokens == 64
    assert np.abs(rows - torch_vectors(first_token)).max() < TOLERANCE
    assert np.abs(rows - torch_vectors(TINY / "embedding")).max() > 100 * TOLERANCE


# Rerankers: with a stored head of labels and an adapter; with other rows of a stored output head, and the older files of a tokenizer


@pytest.fixture(scope="module")
def label_head(tmp_path_factory) -> Path:
    folder = write_classifier(tmp_path_factory.mktemp("labels") / "model", TINY / "reranker", None, bias=(0.4,))
    return declare(folder, head_dim=None, num_key_value_heads=None)


@pytest.fixture(scope="module")
def label_adapter(label_head) -> Path:
    return write_adapter(label_head.parent / ADAPTER, TINY / "reranker", AutoModelForCausalLM)


@pytest.fixture(scope="module")
def token_head(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tokens") / "model"
    FOLDERS["stored head"].write(folder)
    spec = (folder / "tokenizer.json").read_text()
    vocabulary = json.loads(spec)["model"]["vocab"]
    edit(folder / "1_LogitScore" / "config.json", true_token_id=vocabulary["Ġthe"], false_token_id=vocabulary["Ġof"])
    template = json.loads((folder / "tokenizer_config.json").read_text())["chat_template"]
    older_files(folder, spec, added_tokens_decoder=decoder(spec), chat_template=template)
    return folder


def reranker_scores(folder: Path) -> np.ndarray:
    with open_engine("rerank", str(folder), backend="torch", dtype="float32") as engine:
        return Reranker(engine).score(PAIRS)


def test_a_stored_head_and_an_adapter_are_served(starts, label_head, label_adapter, tmp_path):
    with starts[label_head].result() as server:
        for model, reference in (("base", label_head), (ADAPTER, merged(tmp_path / "merged", label_head, label_adapter))):
            options = {"base_url": server.url, "api_key": server.api_key, "backend": "http", "tokenizer": label_head}
            with open_engine("rerank", model, **options) as engine:
                assert np.abs(Reranker(engine).score(PAIRS) - reranker_scores(reference)).max() < TOLERANCE
        report = verify(server.url, api_key=server.api_key, tokenizer=label_head, adapter=ADAPTER)
        assert {check.name: check.state for check in report.checks}["adapter"] == "passed"


def test_a_stored_output_head_other_tokens_and_the_older_files_are_served(starts, token_head):
    with starts[token_head].result() as server, server.engine(handshake="counts") as engine:
        rows = Reranker(engine).score(PAIRS)
    assert np.abs(rows - reranker_scores(token_head)).max() < TOLERANCE
    assert np.abs(rows - reranker_scores(TINY / "reranker")).max() > 100 * TOLERANCE


# Refused before anything starts


@pytest.mark.parametrize(
    ("kind", "named"), [("mean without the prompt", "include_prompt"), ("adapter", "adapter_config.json"), ("swapped labels", "id2label")]
)
def test_serve_refuses_before_the_start(kind, named, tmp_path):
    FOLDERS[kind].write(tmp_path / "model")
    before = [server.name for server in servers()]
    with pytest.raises(ConfigError, match=f"{named}.*backend='torch'"):
        prepare(ServerOptions(task=FOLDERS[kind].task, model=str(tmp_path / "model"), **QUICK))
    assert [server.name for server in servers()] == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"use_dora": True}, "use_dora is set"),
        ({"bias": "all"}, "bias is 'all'"),
        ({"peft_type": "IA3"}, "peft_type is 'IA3'"),
        ({"rank_pattern": {"q_proj": 8}}, "rank_pattern is set"),
    ],
)
def test_adapters_that_vllm_would_compute_in_part_are_refused(change, said, adapter, own_texts, tmp_path):
    shutil.copytree(adapter, tmp_path / "other")
    edit(tmp_path / "other" / "adapter_config.json", **change)
    with pytest.raises(ConfigError, match=re.escape(said)):
        prepare(ServerOptions(task="embed", model=str(own_texts), lora=tmp_path / "other", **QUICK))


def test_adapters_of_other_models_are_refused(adapter, tmp_path):
    with pytest.raises(ConfigError, match=r"has no adapter_config\.json"):
        prepare(ServerOptions(task="embed", model="qwen3-tiny-demo", lora=tmp_path, **QUICK))
    other = shutil.copytree(adapter, tmp_path / "other")
    tensors = load_file(other / "adapter_model.safetensors")
    save_file(
        {name: tensor[:, :-1].contiguous() if "lora_A" in name else tensor for name, tensor in tensors.items()},
        other / "adapter_model.safetensors",
    )
    with pytest.raises(ConfigError, match="an adapter of another model"):
        prepare(ServerOptions(task="embed", model="qwen3-tiny-demo", lora=other, **QUICK))
