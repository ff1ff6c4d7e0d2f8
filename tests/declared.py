"""Folders that declare more than the published ones do, one for each kind, and the numbers of sentence-transformers or transformers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from tests.models import TINY, write_classifier
from tests.reference import reference_logits, reference_scores

QUERIES = ("how do I read a csv file", "how is a list sorted")
DOCUMENTS = (
    "The csv module reads and writes tabular data in CSV format.",
    "Gravity attracts bodies.",
    "list.sort() sorts a list in place; <|im_end|> is a control token, and this is data.",
    "x",
)
PAIRS = tuple((query, document) for query in QUERIES for document in DOCUMENTS)
ADDED = "zebrafinch"
"""A word that a fine-tune added to its vocabulary as one token."""


@dataclass(frozen=True)
class Declared:
    """A kind of folder.

    Attributes:
        task: `embed` or `rerank`.
        write: Writes the folder.
        texts: The documents that are compared.
    """

    task: str
    write: Callable[[Path], object]
    texts: Sequence[str] = DOCUMENTS


def edit(path: Path, **fields: Any) -> None:
    """Set fields of a JSON file."""
    path.write_text(json.dumps((json.loads(path.read_text()) if path.is_file() else {}) | fields))


def _embedder(folder: Path) -> Path:
    shutil.copytree(TINY / "embedding", folder)
    return folder


def _pooling(mode: str, *, include_prompt: bool = True) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        fields = {f"pooling_mode_{name}": name == mode for name in ("cls_token", "mean_tokens", "lasttoken")}
        edit(_embedder(folder) / "1_Pooling" / "config.json", **fields, include_prompt=include_prompt)

    return write


def write_dense(folder: Path, name: str, shape: tuple[int, int], activation: str, *, bias: bool, seed: int = 0) -> None:
    """A Dense module, as sentence-transformers stores it."""
    (folder / name).mkdir()
    draw = torch.Generator().manual_seed(seed)
    tensors = {"linear.weight": torch.randn(shape, generator=draw) / shape[1] ** 0.5}
    if bias:
        tensors["linear.bias"] = torch.randn(shape[0], generator=draw) / 4
    save_file(tensors, folder / name / "model.safetensors", metadata={"format": "pt"})
    fields = {"in_features": shape[1], "out_features": shape[0], "bias": bias, "activation_function": f"torch.nn.modules.{activation}"}
    edit(folder / name / "config.json", **fields)


def list_modules(folder: Path, *names: str) -> None:
    """Write `modules.json`; the kind of each module is in its name, as in `2_Dense`."""
    modules = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    modules += [
        {"idx": index, "name": str(index), "path": name, "type": f"sentence_transformers.models.{name.partition('_')[2]}"}
        for index, name in enumerate(names, 1)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))


def _dense(folder: Path) -> None:
    width = json.loads((_embedder(folder) / "config.json").read_text())["hidden_size"]
    write_dense(folder, "2_Dense", (96, width), "activation.Tanh", bias=True)
    write_dense(folder, "3_Dense", (64, 96), "linear.Identity", bias=False, seed=1)
    list_modules(folder, "1_Pooling", "2_Dense", "3_Dense", "4_Normalize")


def append_tokens(folder: Path, *tokens: str) -> None:
    """Let the folder's tokenizer append other tokens to a text; none for no token."""
    path = folder / "tokenizer.json"
    spec = json.loads(path.read_text())
    ids = {token["content"]: token["id"] for token in spec["added_tokens"]}
    template = [{"Sequence": {"id": "A", "type_id": 0}}, *({"SpecialToken": {"id": token, "type_id": 0}} for token in tokens)]
    spec["post_processor"] = {
        "type": "TemplateProcessing",
        "single": template,
        "pair": [*template, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {token: {"id": token, "ids": [ids[token]], "tokens": [token]} for token in tokens},
    }
    path.write_text(json.dumps(spec))


def _added(folder: Path) -> None:
    """A word that is one token, with the first id after Qwen3's own and a row of its own in the table of embeddings."""
    path = _embedder(folder) / "tokenizer.json"
    spec = json.loads(path.read_text())
    number = max(token["id"] for token in spec["added_tokens"]) + 1
    plain = {**spec["added_tokens"][0], "special": False, "normalized": True}
    spec["added_tokens"].append({**plain, "id": number, "content": ADDED})
    path.write_text(json.dumps(spec))
    add_rows(folder, number + 1)


def add_rows(folder: Path, vocabulary: int) -> None:
    """Make the table of embeddings larger, as a fine-tune with new tokens does."""
    tensors = load_file(folder / "model.safetensors")
    (name,) = (name for name in tensors if name.endswith("embed_tokens.weight"))
    table = tensors[name]
    rows = torch.randn(vocabulary - len(table), table.shape[1], generator=torch.Generator().manual_seed(9)).to(table.dtype)
    save_file(tensors | {name: torch.cat([table, rows * table.float().std()]).to(table.dtype)}, folder / "model.safetensors")
    edit(folder / "config.json", vocab_size=vocabulary)


def _prompts(folder: Path) -> None:
    edit(_embedder(folder) / "config_sentence_transformers.json", prompts={"query": "query: ", "document": "passage: "})


def _stored_head(folder: Path) -> None:
    shutil.copytree(TINY / "reranker", folder)
    path = folder / "model.safetensors"
    tensors = load_file(path)
    table = tensors["model.embed_tokens.weight"]
    noise = torch.randn(table.shape, generator=torch.Generator().manual_seed(3)).to(table.dtype)
    save_file(tensors | {"lm_head.weight": table + noise / 50}, path, metadata={"format": "pt"})


def _score_tokens(folder: Path) -> None:
    """The tokens ` the` and ` of` in the place of "yes" and "no"."""
    shutil.copytree(TINY / "reranker", folder)
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    edit(folder / "1_LogitScore" / "config.json", true_token_id=vocabulary["Ġthe"], false_token_id=vocabulary["Ġof"])


def _adapter(folder: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModel

    base = AutoModel.from_pretrained(TINY / "embedding", dtype=torch.float32)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"])
    model = get_peft_model(base, config)
    draw = torch.Generator().manual_seed(5)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data = torch.randn(weight.shape, generator=draw) / 20
    _embedder(folder)
    model.save_pretrained(folder)
    edit(folder / "adapter_config.json", base_model_name_or_path=str(TINY / "embedding"))


FOLDERS: dict[str, Declared] = {
    "plain": Declared("embed", _embedder),
    "mean": Declared("embed", _pooling("mean_tokens")),
    "mean without the prompt": Declared("embed", _pooling("mean_tokens", include_prompt=False)),
    "cls": Declared("embed", _pooling("cls_token")),
    "dense": Declared("embed", _dense),
    "other end token": Declared("embed", lambda folder: append_tokens(_embedder(folder), "<|im_end|>")),
    "two end tokens": Declared("embed", lambda folder: append_tokens(_embedder(folder), "<|im_end|>", "<|endoftext|>")),
    "no end token": Declared("embed", lambda folder: append_tokens(_embedder(folder))),
    "own prompts": Declared("embed", _prompts),
    "no prompt for queries": Declared(
        "embed", lambda folder: edit(_embedder(folder) / "config_sentence_transformers.json", prompts={"passage": ""})
    ),
    "added tokens": Declared("embed", _added, (*DOCUMENTS, f"The {ADDED} sings.", f"{ADDED}s{ADDED}")),
    "lower case": Declared("embed", lambda folder: edit(_embedder(folder) / "sentence_bert_config.json", do_lower_case=True)),
    "adapter": Declared("embed", _adapter),
    "swapped labels": Declared("rerank", lambda folder: write_classifier(folder, TINY / "reranker", ("yes", "no"), ("yes", "no"))),
    "bias": Declared("rerank", lambda folder: write_classifier(folder, TINY / "reranker", ("no", "yes"), ("no", "yes"), (0.4, -0.3))),
    "one label": Declared("rerank", lambda folder: write_classifier(folder, TINY / "reranker")),
    "stored head": Declared("rerank", _stored_head),
    "score tokens": Declared("rerank", _score_tokens),
}
"""Kind -> folder."""


def expected(kind: str, folder: Path) -> tuple[np.ndarray, ...]:
    """Vectors of queries and of documents, or scores of the pairs.

    Vectors are those of sentence-transformers, brought to unit length. Control tokens in its texts are control tokens, so texts without
    them are compared with it, and `DOCUMENTS[2]` with itself.
    """
    declared = FOLDERS[kind]
    if declared.task == "rerank":
        return (_scores(kind, folder),)
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": torch.float32})
    rows = model.encode_query(list(QUERIES)), model.encode_document([text for text in declared.texts if "<|" not in text])
    return tuple(each / np.linalg.norm(each, axis=1, keepdims=True) for each in rows)


def _scores(kind: str, folder: Path) -> np.ndarray:
    if kind == "stored head":
        return reference_scores(folder, PAIRS)
    if kind == "score tokens":
        return reference_scores(folder, PAIRS, words=(" of", " the"))
    logits = reference_logits(folder, PAIRS).astype(np.float64)
    if kind == "bias":
        logits += np.asarray([0.4, -0.3])
    if logits.shape[1] == 1:
        return 1 / (1 + np.exp(-logits[:, 0]))
    yes = 0 if kind == "swapped labels" else 1
    return 1 / (1 + np.exp(logits[:, 1 - yes] - logits[:, yes]))
