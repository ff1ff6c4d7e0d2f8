"""What a vLLM engine needs of a device's memory: pure arithmetic over a model's files, before anything is loaded.

vLLM by itself takes a share of the whole card, whatever the model. This plan counts instead: the weights as they
lie on disk, a cache for so many prompts, what a forward pass needs in passing, and what CUDA itself takes. So an
embedder and a reranker fit one device, and a model that does not fit is refused with the sum that shows it.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.pickles import check_layers, indexed_files, missing_weights

GIB = 1 << 30

RUNTIME_BYTES = 9 * GIB // 8
"""Kept for what no shape tells, in every process. Source: measured, 0.95 to 0.99 GiB (vLLM 0.24, H100): CUDA's context and
kernels 0.73, rotary table, workspaces and input buffers 0.08, what PyTorch's allocator rounds up 0.14 to 0.18."""

GRAPHS_BYTES = 3 * GIB // 8
"""Kept for captured graphs and compiled kernels, unless vLLM runs eagerly. Source: measured, 0.25 to 0.35 GiB (0.6B, 4B)."""

PEERS_BYTES = 7 * GIB // 8
"""Kept for the buffers of NCCL and of vLLM's own all-reduce, where GPUs share a model. Source: measured, 0.84 GiB on each of two."""

PASSES = 3
"""Forward passes to keep room for. Texts of unlike lengths make passes of unlike sizes, and PyTorch's allocator keeps blocks of
earlier ones that fit no later one. Source: measured, 1.3 to 2.5 passes besides the one computed; none where all are alike."""

CACHE_BLOCK = 128
"""Tokens in the largest block that vLLM's cache is cut into (the CPU's; CUDA has 16). Sizes are rounded up to it."""

_FLOATS = ("F64", "F32", "F16", "BF16")
_EIGHT_BITS = ("fp8", "mxfp8")
_HEADER_LIMIT = 100_000_000
"""Bytes; longer headers are no safetensors. Source: the limit of the format's own reader."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The sizes in a Qwen3 `config.json` that memory depends on.

    Attributes:
        layers: Transformer layers.
        width: Width of the hidden state.
        heads: Query heads of a layer.
        cache_heads: Key and value heads of a layer.
        head_width: Width of one head.
        inner_width: Width of the feed-forward layer.
    """

    layers: int
    width: int
    heads: int
    cache_heads: int
    head_width: int
    inner_width: int

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ModelShape:
        """Read the sizes.

        Raises:
            ConfigError: If one is missing.
        """
        try:
            heads = int(config["num_attention_heads"])
            return cls(
                layers=int(config["num_hidden_layers"]),
                width=int(config["hidden_size"]),
                heads=heads,
                cache_heads=int(config.get("num_key_value_heads") or heads),
                head_width=int(config.get("head_dim") or config["hidden_size"] // heads),
                inner_width=int(config["intermediate_size"]),
            )
        except KeyError as error:
            raise ConfigError(f"this config.json has no {error}: memory can't be planned from it") from None


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """The memory of one device, in bytes, and the numbers it comes from. `str()` shows the sum.

    Attributes:
        model: The model's name, for messages.
        weights_bytes: The weights' share of one device.
        cache_bytes: Keys and values of `cache_tokens` tokens: vLLM's `kv_cache_memory_bytes`.
        pass_bytes: The largest intermediate results of forward passes, see `PASSES`.
        runtime_bytes: See `RUNTIME_BYTES`, `GRAPHS_BYTES` and `PEERS_BYTES`.
        cache_tokens: Tokens the cache holds at once.
        token_bytes: Keys and values of one token on one device.
        max_model_len: The longest prompt, in tokens.
        pass_tokens: Tokens in one forward pass: vLLM's `max_num_batched_tokens`.
    """

    model: str
    weights_bytes: int
    cache_bytes: int
    pass_bytes: int
    runtime_bytes: int
    cache_tokens: int
    token_bytes: int
    max_model_len: int
    pass_tokens: int

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.weights_bytes + self.cache_bytes + self.pass_bytes + self.runtime_bytes

    def share(self, device_bytes: int) -> float:
        """The plan as a share of a device, in (0, 1]: vLLM's `gpu_memory_utilization`."""
        return min(1.0, max(0.001, math.ceil(1000 * self.total_bytes / device_bytes) / 1000))

    def check(self, free_bytes: int, device: str) -> None:
        """Prove that the plan fits.

        Args:
            free_bytes: What is free on the device now.
            device: Its name, for the message.

        Raises:
            ConfigError: If it does not, with the sum and what would fit.
        """
        if self.total_bytes > free_bytes:
            raise ConfigError(f"{self}, but {device} has {in_gib(free_bytes)} free. {self._advice(free_bytes)}")

    def _advice(self, free_bytes: int) -> str:
        room = free_bytes - (self.total_bytes - self.cache_bytes)
        tokens = max(0, room // self.token_bytes // CACHE_BLOCK * CACHE_BLOCK - CACHE_BLOCK)
        if tokens >= self.max_model_len:
            return f"concurrency={tokens // self.max_model_len} with max_model_len={self.max_model_len} would fit"
        if tokens >= CACHE_BLOCK:
            return f"concurrency=1 with max_model_len={tokens} would fit"
        return (
            "Even the shortest prompts would not fit: free some memory, or take a smaller or a quantised model, a smaller "
            "max_num_batched_tokens, or more devices (tensor_parallel_size)"
        )

    def __str__(self) -> str:
        return (
            f"{self.model} needs {in_gib(self.total_bytes)}: weights {in_gib(self.weights_bytes)} "
            f"+ cache {in_gib(self.cache_bytes)} ({self.cache_tokens:,} tokens of {self.token_bytes / 1024:.3g} KiB) "
            f"+ forward pass {in_gib(self.pass_bytes)} ({PASSES} of {self.pass_tokens:,} tokens) + runtime {in_gib(self.runtime_bytes)}"
        )


def plan_memory(
    model: str,
    shape: ModelShape,
    weights_bytes: int,
    *,
    value_bytes: int,
    cache_value_bytes: int | None = None,
    max_model_len: int = 8192,
    concurrency: int = 4,
    pass_tokens: int = 8192,
    tensor_parallel_size: int = 1,
    pipeline_parallel_size: int = 1,
    cache_bytes: int | None = None,
    enforce_eager: bool = False,
) -> MemoryPlan:
    """Plan one device's memory.

    Args:
        model: A name to show.
        shape: The model's sizes.
        weights_bytes: All weights together, see `stored_bytes`.
        value_bytes: Bytes of one value in the forward pass: 2 for bfloat16 and float16, 4 for float32.
        cache_value_bytes: Bytes of one cached value; None for `value_bytes`.
        max_model_len: The longest prompt, in tokens.
        concurrency: How many of the longest prompts the cache must hold at once; at least 1. Shorter prompts
            fit in greater number. The cache never gets smaller than one forward pass can fill.
        pass_tokens: Tokens in one forward pass.
        tensor_parallel_size: Devices that share every layer.
        pipeline_parallel_size: Devices that share out the layers.
        cache_bytes: A size of the cache that is given, instead of one from `concurrency`.
        enforce_eager: Whether vLLM neither compiles nor captures.

    Raises:
        ConfigError: If `concurrency` is no whole number of at least 1.
    """
    if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
        raise ConfigError(f"concurrency must be a whole number of at least 1, not {concurrency!r}")
    devices = tensor_parallel_size * pipeline_parallel_size
    layers = math.ceil(shape.layers / pipeline_parallel_size)
    # With more devices than key-value heads vLLM repeats the heads, so that no device has less than one.
    heads = math.ceil(shape.cache_heads / tensor_parallel_size)
    token_bytes = 2 * layers * heads * shape.head_width * (cache_value_bytes or value_bytes)
    if cache_bytes is None:
        # vLLM keeps one block for itself.
        cache_tokens = max(concurrency * _in_blocks(max_model_len), _in_blocks(pass_tokens)) + CACHE_BLOCK
        cache_bytes = cache_tokens * token_bytes
    else:
        cache_tokens = cache_bytes // token_bytes
    return MemoryPlan(
        model=model,
        weights_bytes=math.ceil(weights_bytes / devices),
        cache_bytes=cache_bytes,
        pass_bytes=PASSES * pass_tokens * _peak_width(shape, tensor_parallel_size) * value_bytes,
        runtime_bytes=RUNTIME_BYTES + (0 if enforce_eager else GRAPHS_BYTES) + (PEERS_BYTES if devices > 1 else 0),
        cache_tokens=cache_tokens,
        token_bytes=token_bytes,
        max_model_len=max_model_len,
        pass_tokens=pass_tokens,
    )


def _peak_width(shape: ModelShape, devices: int) -> int:
    """Values a token needs at the widest moment of a layer, besides the cache: in the feed-forward part or in attention.

    Four results and vLLM's buffer for a pass's embeddings are of the model's width and whole on every device; gate, up and their
    product, or queries, keys, values and the attention's result, are shared out. Source: the number of results, which is the
    engine's own matter, from the peaks of passes of 8192 and of 32768 tokens (vLLM 0.24, eager, 0.6B).
    """
    feed_forward = 3 * shape.inner_width
    attention = 2 * (shape.heads + shape.cache_heads) * shape.head_width
    return 5 * shape.width + math.ceil(max(feed_forward, attention) / devices)


def _in_blocks(tokens: int) -> int:
    return math.ceil(tokens / CACHE_BLOCK) * CACHE_BLOCK


def stored_bytes(folder: Path, value_bytes: int | None = None, quantization: str | None = None) -> int:
    """Bytes of a model's weights in memory, from the headers of its safetensors files; reads no weights.

    The language-model head is left out: an embedder has none, and vLLM keeps one row of a reranker's.

    Args:
        folder: The model's folder.
        value_bytes: Bytes of one value after loading, for floating-point weights that are cast; None to count
            all as stored. A quantised checkpoint always counts as it is stored.
        quantization: What vLLM quantises to while it loads, layer by layer. 8-bit floats (`fp8`, `mxfp8`) count as such, other
            ways as if nothing were quantised.

    Raises:
        ModelNotFound: If the folder has no safetensors weights.
        ConfigError: If one of its files is no safetensors file.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    cast = None if config.get("quantization_config") else value_bytes
    matrices = 1 if cast and (quantization or "").startswith(_EIGHT_BITS) else cast
    return sum(
        _tensor_bytes(entry, matrices if _is_matrix(name, entry) else cast)
        for path in weight_files(folder)
        for name, entry in safetensors_header(path).items()
        if name != "__metadata__" and not name.startswith("lm_head.")
    )


def stored_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """The shape of each stored tensor by its name, from the headers of a model's safetensors files; reads no weights.

    Raises:
        ModelNotFound: If the folder has no safetensors weights.
        ConfigError: If one of its files is no safetensors file.
    """
    entries = (item for path in weight_files(folder) for item in safetensors_header(path).items())
    return {name: tuple(entry["shape"]) for name, entry in entries if name != "__metadata__"}


def _is_matrix(name: str, entry: Mapping[str, Any]) -> bool:
    """Whether it belongs to a layer's linear parts, which are what is quantised; the token table is not."""
    return "layers." in name and len(entry["shape"]) > 1


def weight_files(folder: Path) -> list[Path]:
    """A model's safetensors files, each once, as its index names them.

    Raises:
        ModelNotFound: If there are none, one is missing, or one could be a pickled one: engines by themselves would load that.
    """
    index = folder / "model.safetensors.index.json"
    names = indexed_files(index) if index.is_file() else ["model.safetensors"]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise missing_weights(folder, missing)
    check_layers(folder)
    return [folder / name for name in names]


def safetensors_header(path: Path) -> dict[str, Any]:
    """A safetensors file's description of itself. Source: the format's documentation: 8 bytes of length, then JSON."""
    with path.open("rb") as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else _HEADER_LIMIT
        text = file.read(length) if length < _HEADER_LIMIT else b""
    try:
        header: dict[str, Any] = json.loads(text)
    except ValueError:
        raise ConfigError(f"{path} is no safetensors file, or its download is not complete") from None
    return header


def _tensor_bytes(entry: Mapping[str, Any], cast: int | None) -> int:
    begin, end = entry["data_offsets"]
    if cast is not None and entry["dtype"] in _FLOATS:
        return int(math.prod(entry["shape"])) * cast
    return int(end) - int(begin)


def in_gib(count: int) -> str:
    """Bytes as `1.25 GiB`."""
    return f"{count / GIB:.2f} GiB"
