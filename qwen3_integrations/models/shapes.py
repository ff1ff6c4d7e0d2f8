"""The sizes of a Qwen3 model: what its config and the shapes of its tensors say, and the published ones."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from qwen3_integrations.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The sizes in a Qwen3 `config.json` that memory and weights depend on.

    Attributes:
        layers: Number of transformer layers.
        hidden_size: Width of the hidden state.
        query_heads: Query heads of a layer.
        kv_heads: Key and value heads of a layer.
        head_dim: Width of one head.
        intermediate_size: Width of the feed-forward part.
    """

    layers: int
    hidden_size: int
    query_heads: int
    kv_heads: int
    head_dim: int
    intermediate_size: int

    @classmethod
    def from_config(cls, config: Mapping[str, Any], stored: Callable[[], Mapping[str, tuple[int, ...]]] = dict) -> ModelShape:
        """Read the sizes. Older conversions leave out `head_dim` and `num_key_value_heads`: the shapes of the tensors say them.

        Args:
            config: The content of `config.json`.
            stored: Gives the shape of each stored tensor by its name (`StoredWeights.shapes`); called only where a size is left out.

        Raises:
            ConfigError: If a size is missing, or is not a whole number.
        """

        def size(name: str) -> int:
            try:
                return operator.index(config[name])
            except KeyError:
                raise ConfigError(f"config.json has no {name!r}: it is not complete", advice="Download the model again") from None
            except TypeError:
                raise ConfigError(
                    f"config.json: {name} must be a whole number, not {config[name]!r}",
                    advice="Correct the file, or download the model again",
                ) from None

        def rows(tensor: str) -> int | None:
            shape = stored().get(f"layers.0.self_attn.{tensor}.weight")
            return shape[0] if shape else None

        heads, hidden = size("num_attention_heads"), size("hidden_size")
        head_dim = size("head_dim") if config.get("head_dim") else rows("q_norm") or hidden // heads
        kv_heads = size("num_key_value_heads") if config.get("num_key_value_heads") else (rows("k_proj") or heads * head_dim) // head_dim
        return cls(size("num_hidden_layers"), hidden, heads, kv_heads, head_dim, size("intermediate_size"))

    def tensors(self, vocabulary: int) -> dict[str, tuple[int, ...]]:
        """Shapes of the tensors of a model of this shape, by plain name; without heads.

        Args:
            vocabulary: Rows of the token embeddings.
        """
        query, key = self.query_heads * self.head_dim, self.kv_heads * self.head_dim
        hidden, inner = (self.hidden_size,), self.intermediate_size
        layer: dict[str, tuple[int, ...]] = {
            "input_layernorm": hidden,
            "self_attn.q_proj": (query, *hidden),
            "self_attn.k_proj": (key, *hidden),
            "self_attn.v_proj": (key, *hidden),
            "self_attn.o_proj": (*hidden, query),
            "self_attn.q_norm": (self.head_dim,),
            "self_attn.k_norm": (self.head_dim,),
            "post_attention_layernorm": hidden,
            "mlp.gate_proj": (inner, *hidden),
            "mlp.up_proj": (inner, *hidden),
            "mlp.down_proj": (*hidden, inner),
        }
        wanted = {"embed_tokens.weight": (vocabulary, *hidden), "norm.weight": hidden}
        return wanted | {f"layers.{number}.{name}.weight": shape for number in range(self.layers) for name, shape in layer.items()}

    def weights_bytes(self, vocabulary: int, value_bytes: int) -> int:
        """Bytes of the weights of a model of this shape, without its language-model head and its norms.

        Args:
            vocabulary: Rows of the token embeddings.
            value_bytes: Bytes of one value.
        """
        attention = 2 * self.hidden_size * (self.query_heads + self.kv_heads) * self.head_dim
        return value_bytes * (vocabulary * self.hidden_size + self.layers * (attention + 3 * self.hidden_size * self.intermediate_size))


PUBLISHED_SHAPES: Mapping[str, ModelShape] = MappingProxyType(
    {
        "0.6B": ModelShape(layers=28, hidden_size=1024, query_heads=16, kv_heads=8, head_dim=128, intermediate_size=3072),
        "4B": ModelShape(layers=36, hidden_size=2560, query_heads=32, kv_heads=8, head_dim=128, intermediate_size=9728),
        "8B": ModelShape(layers=36, hidden_size=4096, query_heads=32, kv_heads=8, head_dim=128, intermediate_size=12288),
    }
)
"""Shapes of the published models. A reranker has the shape of the embedding model of its size. Source: their config.json."""

PUBLISHED_VOCABULARY = 151_669
"""Rows of the token embeddings. Source: config.json of the 0.6B models; the larger models have four rows less."""


def extended_context(config: Mapping[str, Any]) -> int:
    """Length of the longest prompt of a model, in tokens: with YaRN the original context times its factor, where that is more.

    Source: the model cards of Qwen3 leave `max_position_embeddings` as it is when they add `rope_scaling`; vLLM multiplies too.

    Args:
        config: The content of `config.json`.
    """
    context = int(config["max_position_embeddings"])
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
    if not isinstance(rope, Mapping) or (rope.get("rope_type") or rope.get("type")) != "yarn":
        return context
    original, factor = rope.get("original_max_position_embeddings") or context, rope.get("factor")
    if not isinstance(factor, int | float) or not isinstance(original, int):
        return context
    return max(context, int(original * factor))
