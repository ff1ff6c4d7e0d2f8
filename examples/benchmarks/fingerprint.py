"""The time that a fingerprint takes, on sparse files with the published models' tensors: `python -m examples.benchmarks.fingerprint`."""

from __future__ import annotations

import json
import statistics
import struct
import tempfile
import time
from pathlib import Path

from qwen3_integrations.models.identity import weights_digest

SHAPES = {"0.6B": (28, 1024, 16, 3072), "4B": (36, 2560, 32, 9728), "8B": (36, 4096, 32, 12288)}
"""Layers, width, query heads and feed-forward width. Source: the models' config.json."""
REPEATS = 7


def main() -> None:
    for size, shape in SHAPES.items():
        with tempfile.TemporaryDirectory() as folder:
            total = write_sparse(Path(folder), *shape)
            times = []
            for _ in range(REPEATS):
                started = time.perf_counter()
                weights_digest(Path(folder))
                times.append(time.perf_counter() - started)
            print(
                f"{size}: {total / 1e9:.1f} GB, median {statistics.median(times):.3f} s, best {min(times):.3f} s, worst {max(times):.3f} s"
            )


def write_sparse(folder: Path, layers: int, width: int, heads: int, inner: int, head_width: int = 128, key_heads: int = 8) -> int:
    """Write a model of zeros that takes no space on the disk; returns its size in bytes."""
    layer = {
        "input_layernorm": [width],
        "post_attention_layernorm": [width],
        "self_attn.q_proj": [heads * head_width, width],
        "self_attn.k_proj": [key_heads * head_width, width],
        "self_attn.v_proj": [key_heads * head_width, width],
        "self_attn.o_proj": [width, heads * head_width],
        "self_attn.q_norm": [head_width],
        "self_attn.k_norm": [head_width],
        "mlp.gate_proj": [inner, width],
        "mlp.up_proj": [inner, width],
        "mlp.down_proj": [width, inner],
    }
    shapes = {"embed_tokens": [151669, width], "norm": [width]}
    shapes |= {f"layers.{number}.{name}": shape for number in range(layers) for name, shape in layer.items()}
    header, at = {}, 0
    for name, shape in shapes.items():
        end = at + 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[f"{name}.weight"] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + at)
    return at


if __name__ == "__main__":
    main()
