"""Options of the torch engine: an error names the option in its field `option`, and the message begins with it."""

from __future__ import annotations

import pytest
import torch

from qwen3_integrations import open_engine
from qwen3_integrations.errors import ConfigError


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("device", "abacus", "device must be auto, cpu, cuda, cuda:0 or mps, not 'abacus'"),
        ("device", "cuda:first", "device must be auto, cpu, cuda, cuda:0 or mps, not 'cuda:first'"),
        ("device", "", "device must be auto, cpu, cuda, cuda:0 or mps, not ''"),
        ("device", None, "device must be auto, cpu, cuda, cuda:0 or mps, not None"),
        ("device", 0, "device must be auto, cpu, cuda, cuda:0 or mps, not 0"),
        ("device", "cuda:4096", "device 'cuda:4096' is not available: PyTorch "),
        ("dtype", "int8", "dtype must be one of auto, float32, bfloat16, float16, fp8, not 'int8'"),
        ("dtype", "bfloat", "dtype must be one of auto, float32, bfloat16, float16, fp8, not 'bfloat', did you mean 'bfloat16'?"),
        ("dtype", torch.float32, "dtype must be one of auto, float32, bfloat16, float16, fp8, not torch.float32"),
        ("dtype", None, "dtype must be one of auto, float32, bfloat16, float16, fp8, not None"),
        ("dtype", "fp8", "dtype fp8 needs an NVIDIA GPU with FP8 units (compute capability 8.9 or later: Ada, Hopper, Blackwell), but the"),
        ("dtype", "float8", "dtype must be one of auto, float32, bfloat16, float16, fp8, not 'float8'"),
        ("max_batch_tokens", 0, "max_batch_tokens must be a whole number of at least 1, or None, not 0"),
    ],
)
def test_a_refused_option_is_named_in_its_field(option, value, message):
    with pytest.raises(ConfigError) as caught:
        open_engine("embed", "qwen3-tiny-demo", backend="torch", **{option: value})
    assert caught.value.option == option
    assert str(caught.value).startswith(message)
