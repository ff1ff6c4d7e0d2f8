"""Random models of the published shapes in miniature, in the published layouts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

TINY = Path(__file__).parent.parent / "qwen3_integrations" / "tiny"


@dataclass(frozen=True)
class Shape:
    """What sets the sizes apart: heads x head_dim against the hidden width, and whether the head is tied."""

    hidden: int
    heads: int
    kv_heads: int
    layers: int
    tied: bool
    head_dim: int = 32
    inner: int | None = None
    """Width of the feed-forward layers; None for twice the hidden width."""
    vocabulary: int | None = None
    """Rows of the token table; None for the tiny tokenizer's. More are never read, but take their memory."""


SHAPES = {
    "0.6B": Shape(hidden=64, heads=4, kv_heads=2, layers=2, tied=True),
    "4B": Shape(hidden=160, heads=8, kv_heads=2, layers=3, tied=True),
    "8B": Shape(hidden=256, heads=8, kv_heads=2, layers=2, tied=False),
}


def write_random_model(folder: Path, task: str, shape: Shape, seed: int = 0) -> Path:
    """Write a model whose output depends on every token: an embedder with bare keys, or a causal reranker."""
    source = TINY / {"embed": "embedding", "rerank": "reranker"}[task]
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(source / name, folder / name)
    if task == "embed":
        for name in ("modules.json", "config_sentence_transformers.json"):
            shutil.copy(source / name, folder / name)
        pooling = json.loads((source / "1_Pooling" / "config.json").read_text()) | {"word_embedding_dimension": shape.hidden}
        (folder / "1_Pooling").mkdir(exist_ok=True)
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    config = json.loads((source / "config.json").read_text())
    config |= {
        "hidden_size": shape.hidden,
        "intermediate_size": shape.inner or 2 * shape.hidden,
        "vocab_size": shape.vocabulary or config["vocab_size"],
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "num_hidden_layers": shape.layers,
        "head_dim": shape.head_dim,
        "tie_word_embeddings": shape.tied,
    }
    for listed in ("layer_types", "max_window_layers"):
        config.pop(listed, None)
    (folder / "config.json").write_text(json.dumps(config))
    prefix = "" if task == "embed" else "model."
    tensors = {prefix + name: tensor for name, tensor in _trunk(config, shape, seed).items()}
    if task == "rerank" and not shape.tied:
        head = torch.randn(config["vocab_size"], shape.hidden, generator=torch.Generator().manual_seed(seed + 7))
        tensors["lm_head.weight"] = (head / shape.hidden**0.5).bfloat16()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def write_classifier(
    folder: Path, reranker: Path, names: Sequence[str] | None = ("LABEL_0",), order: Sequence[str] = ("yes",), bias: Sequence[float] = ()
) -> Path:
    """A sequence-classification conversion of a tied reranker.

    Args:
        folder: Where it is written.
        reranker: The original.
        names: Of the labels, as `id2label` has them; None to declare none.
        order: What the stored rows are: for one row "yes", stored as that of yes less that of no; for more the words of the rows.
        bias: The numbers of `score.bias`; none for no bias.
    """
    from safetensors.torch import load_file
    from tokenizers import Tokenizer

    shutil.copytree(reranker, folder, dirs_exist_ok=True)
    tokenizer = Tokenizer.from_file(str(reranker / "tokenizer.json"))
    tensors = load_file(reranker / "model.safetensors")
    table = tensors["model.embed_tokens.weight"].float()
    rows = torch.stack([table[tokenizer.token_to_id(word)] for word in order])
    tensors["score.weight"] = rows - table[tokenizer.token_to_id("no")] if len(order) == 1 else rows
    if bias:
        tensors["score.bias"] = torch.tensor(bias)
    config = json.loads((reranker / "config.json").read_text())
    config["architectures"] = ["Qwen3ForSequenceClassification"]
    if names is not None:
        config["num_labels"] = len(names)
        config["id2label"] = {str(index): name for index, name in enumerate(names)}
        config["label2id"] = {name: index for index, name in enumerate(names)}
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def declare(folder: Path, **fields: object) -> Path:
    """Set fields of a model's config; None takes one out."""
    config = json.loads((folder / "config.json").read_text()) | fields
    (folder / "config.json").write_text(json.dumps({name: value for name, value in config.items() if value is not None}))
    return folder


def _trunk(config: dict[str, int], shape: Shape, seed: int) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)

    def matrix(rows: int, columns: int) -> torch.Tensor:
        return (torch.randn(rows, columns, generator=draw) / columns**0.5).bfloat16()

    def norm(width: int) -> torch.Tensor:
        return (1 + 0.1 * torch.randn(width, generator=draw)).bfloat16()

    hidden, query, key, inner = shape.hidden, shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim, config["intermediate_size"]
    tensors = {
        "embed_tokens.weight": (0.5 * torch.randn(config["vocab_size"], hidden, generator=draw)).bfloat16(),
        "norm.weight": norm(hidden),
    }
    for layer in range(shape.layers):
        at = f"layers.{layer}."
        tensors |= {
            f"{at}input_layernorm.weight": norm(hidden),
            f"{at}post_attention_layernorm.weight": norm(hidden),
            f"{at}self_attn.q_proj.weight": matrix(query, hidden),
            f"{at}self_attn.k_proj.weight": matrix(key, hidden),
            f"{at}self_attn.v_proj.weight": matrix(key, hidden),
            f"{at}self_attn.o_proj.weight": matrix(hidden, query),
            f"{at}self_attn.q_norm.weight": norm(shape.head_dim),
            f"{at}self_attn.k_norm.weight": norm(shape.head_dim),
            f"{at}mlp.gate_proj.weight": matrix(inner, hidden),
            f"{at}mlp.up_proj.weight": matrix(inner, hidden),
            f"{at}mlp.down_proj.weight": matrix(hidden, inner),
        }
    return tensors
