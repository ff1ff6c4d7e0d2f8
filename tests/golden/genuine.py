"""The genuine Qwen3 tokenizer, rebuilt from the byte-pair ranks that the `dashscope` package ships."""

from __future__ import annotations

import base64
import importlib.util
import json
from functools import cache
from pathlib import Path

from qwen3_integrations.core.tokenizer import CONTROL_TOKENS

SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
FIRST_PLAIN = "<tool_call>"  # from here on the added tokens are not "special"


@cache
def genuine_tokenizer() -> str:
    """A `tokenizer.json` of 151,669 tokens; the end token is left to the caller, as in the reranker's file."""
    found = importlib.util.find_spec("dashscope")
    assert found is not None, "pip install --no-deps dashscope==1.24.0"
    ranks_file = Path(found.submodule_search_locations[0]) / "resources" / "qwen.tiktoken"
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in ranks_file.read_bytes().splitlines())}
    letters = _byte_letters()

    def spell(token: bytes) -> str:
        return "".join(letters[byte] for byte in token)

    pairs = (_last_merge(token, ranks) for token in sorted(ranks, key=ranks.__getitem__) if len(token) > 1)
    first_special = CONTROL_TOKENS.index(FIRST_PLAIN)
    added = [
        {
            "id": len(ranks) + n,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": n < first_special,
        }
        for n, token in enumerate(CONTROL_TOKENS)
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": added,
            "normalizer": {"type": "NFC"},
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [{"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": False}, byte_level],
            },
            "post_processor": None,
            "decoder": byte_level,
            "model": {
                "type": "BPE",
                "vocab": {spell(token): rank for token, rank in ranks.items()},
                "merges": [[spell(left), spell(right)] for left, right in pairs],
            },
        }
    )


def _last_merge(token: bytes, ranks: dict[bytes, int]) -> tuple[bytes, bytes]:
    """The two parts a token was merged from: merge its bytes by rank, as training did, until two are left."""
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        best = min(range(len(parts) - 1), key=lambda i: ranks.get(parts[i] + parts[i + 1], len(ranks)))
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    return parts[0], parts[1]


def _byte_letters() -> dict[int, str]:
    """GPT-2's printable letter for each byte. Source: `bytes_to_unicode` of the GPT-2 encoder."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(rest)}


def with_end_token(spec: str) -> str:
    """A tokenizer that appends `<|endoftext|>` to every text, as those of the published embedding models do."""
    content = json.loads(spec)
    number = next(token["id"] for token in content["added_tokens"] if token["content"] == "<|endoftext|>")
    end = {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"Sequence": {"id": "A", "type_id": 0}}, end],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, end, {"Sequence": {"id": "B", "type_id": 0}}, end],
        "special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [number], "tokens": ["<|endoftext|>"]}},
    }
    return json.dumps(content)
