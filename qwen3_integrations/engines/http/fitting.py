"""Cuts the prompts of a job to the server's budget: with the tokenizer on this machine, otherwise with the server's."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from qwen3_integrations.core.planning import fit_prompt
from qwen3_integrations.core.tokenizer import Tokenizer
from qwen3_integrations.core.types import Job, Prompt
from qwen3_integrations.engines.http.attribution import index_in_error, too_long_for
from qwen3_integrations.engines.http.remote_tokens import Post, fit_on_server, may_exceed
from qwen3_integrations.engines.http.server_info import ServerInfo
from qwen3_integrations.errors import AuthenticationFailed, BadReply, ModelNotServed, PromptTooLong, RequestRefused, RouteNotServed

_CAN_NOT_COUNT = (RouteNotServed, ModelNotServed, AuthenticationFailed, RequestRefused, BadReply)
"""Errors of a server that claims to be vLLM, and does not count tokens: a router in front of other servers."""

log = logging.getLogger("qwen3_integrations")


@dataclass(slots=True)
class Fitter:
    """Cuts prompts to a budget.

    Attributes:
        tokenizer: The model's tokenizer; None where it is not on this machine.
        post: Sends JSON to an address and returns the answer's.
        learn: Keeps what an answer showed about the server.
        concurrency: Maximum number of requests in flight of the engine.
        warned: Whether the warning about a server that can't count tokens was logged.
    """

    tokenizer: Tokenizer | None
    post: Post
    learn: Callable[..., None]
    concurrency: int
    warned: bool = False

    async def fit(self, job: Job, server: ServerInfo, budget: int) -> tuple[list[Prompt], frozenset[int]]:
        """Cut the prompts of a job.

        Returns:
            The prompts, and the positions of those that were cut here.

        Raises:
            PromptTooLong: If the parts of a prompt that are never cut exceed the budget.
            EngineError: If the server can't count.
        """
        fitted = list(job.prompts)
        countable = [True]
        # At most half of the requests in flight, so that other callers do not wait until all texts of this job are counted.
        gate = asyncio.Semaphore(max(1, self.concurrency // 2))

        async def count(position: int) -> None:
            async with gate:
                if not countable:
                    return
                try:
                    with index_in_error(job, position):
                        fitted[position] = await fit_on_server(job.prompts[position], budget, server, self.post)
                except _CAN_NOT_COUNT:
                    if server.ids:  # vLLM itself, which was proved by its version
                        raise
                    countable.clear()
                    self.learn(counts=False)
                    self._warn_once(server, budget)

        try:
            async with asyncio.TaskGroup() as group:
                for position, prompt in enumerate(job.prompts):
                    tokens = prompt.tokens
                    if tokens is None and may_exceed(prompt, budget):
                        if server.counts:
                            group.create_task(count(position))
                        else:
                            self._warn_once(server, budget)
                    elif tokens is not None and tokens > budget and self.tokenizer and prompt.body.ids is not None:
                        with index_in_error(job, position):
                            fitted[position] = fit_prompt(
                                prompt.prefix, prompt.body.text, prompt.body.ids, prompt.suffix, self.tokenizer, budget
                            )
        except BaseExceptionGroup as group_error:
            error = group_error.exceptions[0]
            if isinstance(error, PromptTooLong) and budget < job.max_tokens:
                raise too_long_for(server, error) from error
            raise
        cut = frozenset(n for n, (old, new) in enumerate(zip(job.prompts, fitted, strict=True)) if new.truncated and new is not old)
        return fitted, cut

    def _warn_once(self, server: ServerInfo, budget: int) -> None:
        if not self.warned:
            self.warned = True
            log.warning(
                "%s does not count tokens, and no tokenizer of %s is on this machine: texts that may exceed max_tokens=%d are sent "
                "untruncated, and the server may refuse or truncate them. Pass the model's folder: engine_options={'tokenizer': ...}",
                server.url,
                server.model,
                budget,
            )
