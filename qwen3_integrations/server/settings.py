"""`ServerSettings`: names, limits and what is open, of our HTTP server."""

from __future__ import annotations

from dataclasses import dataclass, field

from qwen3_integrations.core.validation import seconds, whole_number
from qwen3_integrations.errors import ConfigError

MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Settings of an application; see `create_app`.

    Attributes:
        embedder_names: Names under which the embedder is served; the first is listed first. Empty: the model's own name.
        reranker_names: The same for the reranker.
        max_body_mib: Largest body of a request in MiB, after decompression.
        max_items: Largest number of texts or documents in a request.
        max_queued_tokens: Estimated tokens of all requests that wait or run; a request that would exceed it is answered with 429. A single
            request may exceed it.
        body_timeout_s: Seconds in which the body of a request must arrive.
        token_ids: Whether `/v1/embeddings` accepts token ids. Stock clients send the ids of another model's tokenizer, so the default is
            to refuse them.
        open_metrics: Whether `/metrics` needs no key.
        access_log: Whether each request is logged as one line of JSON, without texts.

    Raises:
        ConfigError: For a limit that is not positive, or a name that is empty or has a suffix of ours.
    """

    embedder_names: tuple[str, ...] = ()
    reranker_names: tuple[str, ...] = ()
    max_body_mib: int = 64
    max_items: int = 4096
    max_queued_tokens: int = 4_000_000
    body_timeout_s: float = 30.0
    token_ids: bool = False
    open_metrics: bool = False
    access_log: bool = field(default=False)

    def __post_init__(self) -> None:
        for name in ("max_body_mib", "max_items", "max_queued_tokens"):
            whole_number(getattr(self, name), name)
        seconds(self.body_timeout_s, "body_timeout_s")
        for option in ("embedder_names", "reranker_names"):
            for name in getattr(self, option):
                if not isinstance(name, str) or not name or name.endswith(QUERY_SUFFIX):
                    raise ConfigError(f"must be names without {QUERY_SUFFIX!r} at their end, not {name!r}", option=option)


QUERY_SUFFIX = ":query"
"""Behind an embedder's name: texts are queries, and get the default instruction. For clients that can send no other field."""
