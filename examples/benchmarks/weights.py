"""Random weights of the exact architecture of Qwen3-Embedding and Qwen3-Reranker, in the published layouts.

    python examples/benchmarks/weights.py DIR                                # DIR/embedding and DIR/reranker, 1.2 GB each
    python examples/benchmarks/weights.py DIR --size 4B                      # 8 GB each; 8B: 15 and 16 GB
    python examples/benchmarks/weights.py DIR --tokenizer tokenizer.json.gz  # default: rebuilt from the ranks in dashscope

They have the speed of the published weights, but their results have no meaning. Scores spread around one half; none saturates.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
DEVIATION = 0.02
"""Standard deviation of the weights. Source: `initializer_range` in the published config.json."""
NORM_DEVIATION = 0.1
"""Standard deviation of the norms' weights; their mean is 1."""
CONTEXT = {"embedding": 32768, "reranker": 40960}
END = {"embedding": 151643, "reranker": 151645}
"""`eos_token_id`. Source: the published config.json files."""

SIZES: dict[str, dict[str, Any]] = {
    "0.6B": {},
    "4B": {
        "hidden_size": 2560,
        "intermediate_size": 9728,
        "num_attention_heads": 32,
        "num_hidden_layers": 36,
        "max_window_layers": 36,
    },
    "8B": {
        "hidden_size": 4096,
        "intermediate_size": 12288,
        "num_attention_heads": 32,
        "num_hidden_layers": 36,
        "max_window_layers": 36,
        "tie_word_embeddings": False,
    },
}
"""What differs from the 0.6B models. Source: the published config.json files."""

CHAT_TEMPLATE = (
    "{%- for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{%- endif %}"
)
"""The published template without its tools. sentence-transformers recognises a model for messages by its template."""


def config(kind: str, **changes: Any) -> dict[str, Any]:
    """The config.json of the published 0.6B models.

    Args:
        kind: `embedding` or `reranker`.
        changes: Entries with other values, such as fewer layers for a test.
    """
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 151643,
        "eos_token_id": END[kind],
        "head_dim": 128,
        "hidden_act": "silu",
        "hidden_size": 1024,
        "initializer_range": DEVIATION,
        "intermediate_size": 3072,
        "max_position_embeddings": CONTEXT[kind],
        "max_window_layers": 28,
        "model_type": "qwen3",
        "num_attention_heads": 16,
        "num_hidden_layers": 28,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-6,
        "rope_scaling": None,
        "rope_theta": 1000000,
        "sliding_window": None,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": 151669,
    } | changes


def tensors(shape: dict[str, Any], prefix: str, seed: int) -> dict[str, Any]:
    """The weights by name, bfloat16; computed on the GPU if there is one."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    chance = torch.Generator(device=device).manual_seed(seed)
    hidden, inner, width = shape["hidden_size"], shape["intermediate_size"], shape["head_dim"]
    queries, keys = shape["num_attention_heads"] * width, shape["num_key_value_heads"] * width

    def matrix(*size: int) -> Any:
        return (torch.randn(*size, generator=chance, device=device, dtype=torch.float32) * DEVIATION).to(torch.bfloat16).cpu()

    def norm(size: int) -> Any:
        return (1 + NORM_DEVIATION * torch.randn(size, generator=chance, device=device)).to(torch.bfloat16).cpu()

    made = {"embed_tokens.weight": matrix(shape["vocab_size"], hidden), "norm.weight": norm(hidden)}
    for layer in range(shape["num_hidden_layers"]):
        made |= {
            f"layers.{layer}.{name}.weight": weight
            for name, weight in {
                "self_attn.q_proj": matrix(queries, hidden),
                "self_attn.k_proj": matrix(keys, hidden),
                "self_attn.v_proj": matrix(keys, hidden),
                "self_attn.o_proj": matrix(hidden, queries),
                "self_attn.q_norm": norm(width),
                "self_attn.k_norm": norm(width),
                "mlp.gate_proj": matrix(inner, hidden),
                "mlp.up_proj": matrix(inner, hidden),
                "mlp.down_proj": matrix(hidden, inner),
                "input_layernorm": norm(hidden),
                "post_attention_layernorm": norm(hidden),
            }.items()
        }
    if prefix and not shape["tie_word_embeddings"]:
        return {prefix + name: weight for name, weight in made.items()} | {"lm_head.weight": matrix(shape["vocab_size"], hidden)}
    return {prefix + name: weight for name, weight in made.items()}


def tokenizer_spec(file: Path | None) -> dict[str, Any]:
    """The published tokenizer.json: read from a file (plain or gzipped); without a file, rebuilt from the ranks in dashscope."""
    if file is not None:
        opened = gzip.open if file.suffix == ".gz" else open
        with opened(file, "rt", encoding="utf-8") as text:
            return dict(json.load(text))
    if importlib.util.find_spec("dashscope") is None:
        raise SystemExit(
            "there is no tokenizer: run pip install --no-deps dashscope==1.24.0, or pass the published tokenizer.json with --tokenizer"
        )
    root = str(HERE.parent.parent)
    sys.path.append(root)
    try:
        from tests.golden.genuine import genuine_tokenizer
    finally:
        sys.path.remove(root)
    return dict(json.loads(genuine_tokenizer()))


def write_tokenizer(folder: Path, kind: str, spec: dict[str, Any]) -> None:
    """Write the tokenizer's files. The embedder's tokenizer appends the end token; the reranker's appends nothing."""
    ids = {token["content"]: token["id"] for token in spec["added_tokens"]}
    end, byte_level = "<|endoftext|>", {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    single = [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": end, "type_id": 0}}]
    template = {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, {"Sequence": {"id": "B", "type_id": 0}}, {"SpecialToken": {"id": end, "type_id": 0}}],
        "special_tokens": {end: {"id": end, "ids": [ids[end]], "tokens": [end]}},
    }
    processor = {"type": "Sequence", "processors": [byte_level, template]} if kind == "embedding" else byte_level
    (folder / "tokenizer.json").write_text(json.dumps(spec | {"post_processor": processor}, ensure_ascii=False), encoding="utf-8")
    settings = {
        "add_bos_token": False,
        "add_prefix_space": False,
        "bos_token": None,
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": end if kind == "embedding" else "<|im_end|>",
        "errors": "replace",
        "model_max_length": 131072,
        "pad_token": end,
        "split_special_tokens": False,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": None,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")


def write_sentence_transformers(folder: Path, hidden: int) -> None:
    """Write the files that sentence-transformers needs for an embedder: pooling of the last token, then unit length."""
    modules = (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))
    listed = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"} for n, (path, kind) in enumerate(modules)
    ]
    off = dict.fromkeys((f"pooling_mode_{mode}" for mode in ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")), False)
    pooling = {"word_embedding_dimension": hidden, **off, "pooling_mode_weightedmean_tokens": False, "pooling_mode_lasttoken": True}
    query = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"
    about = {"prompts": {"query": query, "document": ""}, "default_prompt_name": None, "similarity_fn_name": "cosine"}
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "2_Normalize").mkdir(exist_ok=True)
    (folder / "modules.json").write_text(json.dumps(listed, indent=2), encoding="utf-8")
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling | {"include_prompt": True}, indent=2), encoding="utf-8")
    (folder / "config_sentence_transformers.json").write_text(json.dumps(about, indent=2), encoding="utf-8")


def write_model(folder: Path, kind: str, spec: dict[str, Any], **changes: Any) -> Path:
    """Write one model. The weights are written last, so that a folder with weights is complete.

    Args:
        folder: The folder to write.
        kind: `embedding` or `reranker`.
        spec: The tokenizer.json.
        changes: See `config`.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    shape = config(kind, **changes)
    write_tokenizer(folder, kind, spec)
    (folder / "config.json").write_text(json.dumps(shape, indent=2), encoding="utf-8")
    if kind == "embedding":
        write_sentence_transformers(folder, shape["hidden_size"])
    prefix, seed = ("", 0) if kind == "embedding" else ("model.", 1)
    part = folder / "model.safetensors.part"
    save_file(tensors(shape, prefix, seed), part, metadata={"format": "pt"})
    part.replace(folder / "model.safetensors")
    return folder


def write_pair(folder: Path, tokenizer: Path | None = None, **changes: Any) -> None:
    """Write both models, unless they exist."""
    write_models(folder, tuple(CONTEXT), tokenizer, **changes)


def write_models(folder: Path, kinds: tuple[str, ...], tokenizer: Path | None = None, **changes: Any) -> None:
    """Write the models of these kinds, unless they exist."""
    missing = [kind for kind in kinds if not (folder / kind / "model.safetensors").is_file()]
    spec = tokenizer_spec(tokenizer) if missing else {}
    for kind in missing:
        write_model(folder / kind, kind, spec, **changes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--tokenizer", type=Path, default=None, help="the published tokenizer.json, plain or gzipped")
    parser.add_argument("--size", default="0.6B", choices=SIZES)
    chosen = parser.parse_args()
    write_pair(chosen.folder, chosen.tokenizer, **SIZES[chosen.size])
    print(f"{chosen.folder / 'embedding'}\n{chosen.folder / 'reranker'}")


if __name__ == "__main__":
    main()
