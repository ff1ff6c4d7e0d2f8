"""Questions with one home: no second module parses a weight index, uses NVML, or brings an HTTP client."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import qwen3_integrations

PACKAGE = Path(qwen3_integrations.__file__).parent


@pytest.mark.parametrize(
    ("pattern", "homes"),
    [
        (r"model\.safetensors\.index\.json", {"models/weights.py"}),
        (r"\bsafe_open\b", {"models/weights.py"}),
        (r"\bpynvml\b", {"models/devices.py"}),
        (r"\bnum_hidden_layers\b", {"models/config.py", "models/shapes.py"}),
        (
            r"^\s*(import|from) (urllib\.request|urllib\.error|http\.client|httpx2?|requests|aiohttp)\b",
            {"serving/snippets.py", "engines/http/network.py"},
        ),  # in the code that it prints; the proxies of the environment
        (r"\bDefaultAsyncHttpxClient\.__base__", {"engines/http/library.py"}),
    ],
)
def test_only_its_home_asks(pattern, homes):
    found = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if re.search(pattern, path.read_text(), re.MULTILINE)}
    assert found == homes
