"""Counting and cutting on the server, where the model's tokenizer is not on this machine."""

from __future__ import annotations

import unicodedata
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from qwen3_integrations.core.planning import prompt_too_long
from qwen3_integrations.core.types import Prompt, PromptPart
from qwen3_integrations.engines.http.dialects import spoken_parts
from qwen3_integrations.engines.http.discovery import ServerInfo
from qwen3_integrations.errors import BadReply

Post = Callable[[str, Mapping[str, Any]], Awaitable[Any]]

_HALF_A_CHARACTER = "\ufffd"


def may_exceed(prompt: Prompt, budget: int) -> bool:
    """Whether a prompt could take more tokens than the budget; only such are worth counting.

    Byte-level BPE never makes more tokens than a text has UTF-8 bytes (once it is in NFC, as the tokenizer puts it: that
    can be longer, U+0958 becomes two characters).
    """
    text = prompt.text
    return (len(text) if text.isascii() else len(unicodedata.normalize("NFC", text).encode())) >= budget


async def fit_on_server(prompt: Prompt, budget: int, server: ServerInfo, post: Post) -> Prompt:
    """The prompt, its body cut so that the whole is at most `budget` tokens as the server counts them.

    A cut prompt goes as the server's own ids where it takes ids, else as text.

    Args:
        prompt: Without ids, and one that `may_exceed` the budget.
        budget: Tokens, template and end token included.
        server: Where `/tokenize` and `/detokenize` are.
        post: Sends JSON to an address and gives the answer's.

    Raises:
        PromptTooLong: If prefix and suffix alone exceed the budget.
        BadReply: If the server's counting makes no sense.
    """
    prefix, body, suffix = spoken_parts(prompt)
    whole = await _encode(prefix + body + suffix, server, post, end=True)
    if len(whole) <= budget:
        return prompt
    before = len(await _encode(prefix, server, post)) if prefix else 0
    behind = len(await _encode(suffix, server, post)) if suffix else 1  # the end token, which the server appends
    room = budget - before - behind
    if room < 0 or not body:
        raise prompt_too_long(before + behind, budget)
    inner = whole[before : len(whole) - behind]
    if server.dialect.takes_ids:  # exact even where the cut falls inside a character
        first, rest, last = (np.asarray(ids, dtype=np.int32) for ids in (whole[:before], inner[:room], whole[len(whole) - behind :]))
        return Prompt(replace(prompt.prefix, ids=first), PromptPart("", rest), PromptPart("", last), truncated=True, literal=False)
    while True:
        beginning = (await _decode(inner[:room], server, post)).rstrip(_HALF_A_CHARACTER) if room else ""
        if len(await _encode(prefix + beginning + suffix, server, post, end=True)) <= budget:
            cut = replace(prompt.prefix, text=prefix)
            return Prompt(cut, PromptPart(beginning), prompt.suffix, truncated=True)
        room -= 1
        if room < 0:
            raise BadReply(f"{server.root}/tokenize and /detokenize contradict each other, so the text can't be cut to {budget} tokens")


async def _encode(text: str, server: ServerInfo, post: Post, *, end: bool = False) -> list[int]:
    """Token ids as the server reads a text; with what its tokenizer appends, or without."""
    body = {"model": server.model, "prompt": text, "add_special_tokens": end}
    tokens = _field(await post(f"{server.root}/tokenize", body), "tokens", server)
    if not isinstance(tokens, list):
        raise BadReply(f"{server.root}/tokenize did not send a list of tokens")
    return tokens


async def _decode(tokens: list[int], server: ServerInfo, post: Post) -> str:
    return str(_field(await post(f"{server.root}/detokenize", {"model": server.model, "tokens": tokens}), "prompt", server))


def _field(answer: Any, name: str, server: ServerInfo) -> Any:
    if not isinstance(answer, Mapping) or name not in answer:
        raise BadReply(f"{server.root} counts tokens, but its answer lacks {name!r}")
    return answer[name]
