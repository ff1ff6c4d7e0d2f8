"""Counts and cuts with the server's tokenizer, where the model's tokenizer is not on this machine."""

from __future__ import annotations

import unicodedata
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from qwen3_integrations.core.planning import prompt_too_long
from qwen3_integrations.core.types import Prompt, PromptPart
from qwen3_integrations.engines.http.bodies import spoken_parts
from qwen3_integrations.engines.http.server_info import ServerInfo
from qwen3_integrations.errors import BadReply

Post = Callable[[str, Mapping[str, Any]], Awaitable[Any]]

_INCOMPLETE_CHARACTER = "\ufffd"


def may_exceed(prompt: Prompt, budget: int) -> bool:
    """Whether a prompt may have more tokens than the budget. Only such prompts are counted.

    Byte-level BPE never makes more tokens than a text has UTF-8 bytes in NFC. The tokenizer converts to NFC first, which can make a
    text longer: U+0958 becomes two characters.
    """
    text = prompt.text
    return (len(text) if text.isascii() else len(unicodedata.normalize("NFC", text).encode())) >= budget


async def fit_on_server(prompt: Prompt, budget: int, server: ServerInfo, post: Post) -> Prompt:
    """Cut the body of a prompt, so that the server counts at most `budget` tokens.

    A cut prompt contains the server's token ids where the server accepts ids, otherwise text.

    Args:
        prompt: A prompt without ids, for which `may_exceed` is True.
        budget: Tokens, with template and end token.
        server: A server with `/tokenize` and `/detokenize`.
        post: Sends JSON to an address and returns the answer's.

    Raises:
        PromptTooLong: If prefix and suffix alone exceed the budget.
        BadReply: If the server's token counts contradict each other.
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
    if server.dialect.takes_ids:  # exact even if the cut is inside a character
        first, rest, last = (np.asarray(ids, dtype=np.int32) for ids in (whole[:before], inner[:room], whole[len(whole) - behind :]))
        return Prompt(replace(prompt.prefix, ids=first), PromptPart("", rest), PromptPart("", last), truncated=True, literal=False)
    while True:
        beginning = (await _decode(inner[:room], server, post)).rstrip(_INCOMPLETE_CHARACTER) if room else ""
        if len(await _encode(prefix + beginning + suffix, server, post, end=True)) <= budget:
            cut = replace(prompt.prefix, text=prefix)
            return Prompt(cut, PromptPart(beginning), prompt.suffix, truncated=True)
        room -= 1
        if room < 0:
            raise BadReply(f"{server.root}/tokenize and /detokenize contradict each other, so the text can't be cut to {budget} tokens")


async def _encode(text: str, server: ServerInfo, post: Post, *, end: bool = False) -> list[int]:
    """The server's token ids of a text; with `end`, its tokenizer's end token included."""
    body = {"model": server.model, "prompt": text, "add_special_tokens": end}
    tokens = _field(await post(f"{server.root}/tokenize", body), "tokens", server)
    if not isinstance(tokens, list):
        raise BadReply(f"{server.root}/tokenize did not send a list of tokens")
    return tokens


async def _decode(tokens: list[int], server: ServerInfo, post: Post) -> str:
    return str(_field(await post(f"{server.root}/detokenize", {"model": server.model, "tokens": tokens}), "prompt", server))


def _field(answer: Any, name: str, server: ServerInfo) -> Any:
    if not isinstance(answer, Mapping) or name not in answer:
        raise BadReply(f"{server.root} counts tokens, but its answer has no field {name!r}")
    return answer[name]
