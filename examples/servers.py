"""Start a server, use it from many concurrent tasks, show its status, stop it: `python examples/servers.py`.

Needs vLLM. The bundled toy reranker is ready in half a minute on a CPU; for a real one: --model Qwen/Qwen3-Reranker-0.6B.
"""

from __future__ import annotations

import argparse
import asyncio

from qwen3_integrations import Reranker
from qwen3_integrations.serving import Server, ServerOptions, astart

DOCUMENTS = ["os.remove deletes a file.", "shutil.copyfile copies a file to another file.", "csv.reader reads the rows of a table."]
QUERIES = ["How do I copy a file?", "How do I delete a file?", "How do I read a table?"] * 10
TOY = {"dtype": "float32", "max_tokens": 1024, "enforce_eager": True, "max_num_seqs": 64}
"""Small sizes for the toy model on a CPU. A real model on a GPU needs none of them, because its memory is planned."""


async def use(server: Server) -> None:
    with server.engine() as engine:
        reranker = Reranker(engine)
        rankings = await asyncio.gather(*(reranker.arank(query, DOCUMENTS) for query in QUERIES))
    for ranking in rankings[:3]:
        print(f"{ranking[0].score:.3f}  {ranking.query}  {ranking[0].document}")


async def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--model", default="qwen3-tiny-demo")
    chosen = options.parse_args()

    wanted = ServerOptions(task="rerank", model=chosen.model, **(TOY if chosen.model == "qwen3-tiny-demo" else {}))
    outcome = await astart(wanted, on_progress=lambda progress: print(progress.phase))
    # Launched, or Reused if one with the same options was running already. For Failed and TimedOut, running() raises an error.
    async with outcome.running() as server:
        print(f"{server.name} on {server.program}: {server.url}")
        await use(server)
        status = server.status()
        print(f"{status.load.requests} prompts answered, {status.load.waiting} waiting, up {status.uptime_s:.0f} s")
    print(f"{server.name}: {server.state}")


if __name__ == "__main__":
    asyncio.run(main())
