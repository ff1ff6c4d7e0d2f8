"""What an SGLang server says of itself beside its list of models, and what requests to its `/v1/score` need.

Source: SGLang 0.5.9: `entrypoints/http_server.py`. A request to `/v1/score` ends a server that was started for embeddings, so that it is
sent only to servers that say that they generate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qwen3_integrations.core.tokenizer import Tokenizer
from qwen3_integrations.core.types import Task
from qwen3_integrations.engines.http.address import Address
from qwen3_integrations.engines.http.numbers import is_name, whole
from qwen3_integrations.engines.http.transport import Transport, retries
from qwen3_integrations.errors import ConfigError, EngineError, RouteNotServed

_ROUTES = ("/model_info", "/get_model_info")
"""The newer name and the older one."""

_CLASSIFIER = "ForSequenceClassification"
"""The end of the names of architectures that score a pair of texts themselves, on `/v1/rerank`."""

_WORDS = ("yes", "no")


@dataclass(frozen=True, slots=True)
class SGLang:
    """A server that answers as SGLang does.

    Attributes:
        generates: Whether it generates text, so that it can score tokens; if not, it embeds.
        classifies: Whether its model has a head of its own for the scores of pairs.
        origin: The folder or name from which it loaded the model; None where it does not report it.
    """

    generates: bool
    classifies: bool = False
    origin: str | None = None

    def check_task(self, task: Task, model: str, address: Address) -> None:
        """Check that it runs its model for a task.

        Raises:
            RouteNotServed: If it runs it for the other task.
        """
        if task == "embed" and self.generates:
            what, advice = "for generating text, not for embeddings", "Start SGLang with --is-embedding, or change base_url"
        elif task == "rerank" and not self.generates and not self.classifies:
            what, advice = "as an embedding model, not for scoring", "Start SGLang without --is-embedding, or change base_url"
        else:
            return
        raise RouteNotServed(f"{address} runs {model} {what}", url=str(address), status=404, model=model, advice=advice)


async def sglang_at(transport: Transport, root: str) -> SGLang | None:
    """What an SGLang server says of itself; None for a server that only claims to be SGLang, such as a router in front of it.

    Args:
        transport: Sends the requests.
        root: The base of the routes outside `/v1`.
    """
    for route in _ROUTES:
        try:
            with retries(1):
                answer = await transport.get(f"{root}{route}")
        except EngineError:
            continue
        if isinstance(answer, Mapping) and isinstance(answer.get("is_generation"), bool):
            return _described(answer)
    return None


def _described(answer: Mapping[str, Any]) -> SGLang:
    names, origin = answer.get("architectures"), answer.get("model_path")
    classifies = isinstance(names, list) and any(isinstance(name, str) and name.endswith(_CLASSIFIER) for name in names)
    return SGLang(answer["is_generation"], classifies, origin if is_name(origin) else None)


async def labels_of(
    transport: Transport, root: str, model: str, tokenizer: Tokenizer | None, declared: tuple[int, int] | None
) -> tuple[int, int] | None:
    """The token ids of "yes" and "no": those that the model's folder declares, else those of these words.

    Args:
        transport: Sends the requests.
        root: The base of the routes outside `/v1`.
        model: The model's served name.
        tokenizer: The model's tokenizer; None to ask the server's `/tokenize`.
        declared: What the model's folder declares; None for nothing.

    Returns:
        The ids; None if the server does not tell them, or a word is not one token.
    """
    if declared is not None:
        return declared
    try:
        if tokenizer is not None:
            return tokenizer.token_id(_WORDS[0]), tokenizer.token_id(_WORDS[1])
        yes, no = [await _token(transport, root, model, word) for word in _WORDS]
    except (ConfigError, EngineError):
        return None
    return None if yes is None or no is None else (yes, no)


async def _token(transport: Transport, root: str, model: str, word: str) -> int | None:
    with retries(1):
        answer = await transport.post(f"{root}/tokenize", {"model": model, "prompt": word, "add_special_tokens": False})
    ids = answer.get("tokens") if isinstance(answer, Mapping) else None
    return whole(ids[0]) if isinstance(ids, list) and len(ids) == 1 else None
