"""Lower bound for any client: the same request bodies, the same number in flight, answers read completely and discarded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from compare import Rows, Side
from inputs import Texts, salted
from targets import BARE
from workbench import Workbench


@dataclass
class Recorded:
    """The requests of our own client for a work.

    Attributes:
        url: The address of the requests.
        bodies: The bodies, in the order of sending.
        at_once: The largest number of requests in flight.
    """

    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    at_once: int = 0
    _in_flight: int = 0

    async def sent(self, request: Any) -> None:
        """Record a request that is sent."""
        body = json.loads(request.content) if request.method == "POST" else {}
        if isinstance(body.get("input"), list):
            self.url = str(request.url)
            self.bodies.append(body)
        self._in_flight += 1
        self.at_once = max(self.at_once, self._in_flight)

    async def answered(self, _: Any) -> None:
        """Count a request as answered when its response begins."""
        self._in_flight -= 1


def embed(bench: Workbench, work: Texts) -> Side:
    """Send the bodies that our HTTP engine sent for the same work, with the same number in flight."""
    server = bench.server("embed")
    recorded = _recorded(server, work)
    bench.show(f"  our client sent {len(recorded.bodies)} requests, {recorded.at_once} in flight")

    def prepare(salted_work: Texts) -> list[bytes]:
        old = {salted(text, 0): text for text in work.items}
        wanted = set(salted_work.items)
        bodies = []
        for body in recorded.bodies:
            texts = [old[text] for text in body["input"]]
            again = [salted(text, salted_work.salt) for text in texts if text in wanted]
            if again:
                bodies.append(json.dumps(body | {"input": again}, ensure_ascii=False).encode())
        return bodies

    def run(bodies: Sequence[bytes]) -> int:
        return asyncio.run(_posted(recorded.url, bodies, recorded.at_once))

    return Side(BARE, run, prepare, rows=_nothing, compared=False)


def _recorded(server: Any, work: Texts) -> Recorded:
    import openai

    from qwen3_integrations import Embedder, open_engine

    recorded = Recorded()
    hooks: dict[str, list[Callable[..., Any]]] = {"request": [recorded.sent], "response": [recorded.answered]}
    client = openai.AsyncOpenAI(
        base_url=f"{server.url}/v1", api_key="none", http_client=openai.DefaultAsyncHttpxClient(trust_env=False, event_hooks=hooks)
    )
    options: dict[str, Any] = {"client": client, "handshake": "off", "tokenizer": str(server.model_folder)}
    with open_engine("embed", server.model, base_url=server.url, **options) as engine:
        Embedder(engine).embed_documents(work.salted(0).texts)
    if not recorded.bodies:
        raise RuntimeError("our client's requests could not be recorded")
    return recorded


async def _posted(url: str, bodies: Sequence[bytes], at_once: int) -> int:
    import httpx

    left = iter(bodies)
    failed = 0
    limits = httpx.Limits(max_connections=at_once, max_keepalive_connections=at_once)
    async with httpx.AsyncClient(timeout=600, limits=limits, trust_env=False) as client:

        async def one() -> None:
            nonlocal failed
            for body in left:
                answer = await client.post(url, content=body, headers={"Content-Type": "application/json"})
                failed += answer.status_code != 200

        await asyncio.gather(*(one() for _ in range(at_once)))
    if failed:
        raise RuntimeError(f"{failed} of {len(bodies)} requests of the bare client failed")
    return len(bodies)


def _nothing(_: Any) -> Rows:
    return np.empty(0)
