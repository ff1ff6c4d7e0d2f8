"""A deterministic engine without weights, for users' own tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from qwen3_integrations.core.engine import Capabilities, Opened, check_task
from qwen3_integrations.core.fingerprint import Fingerprint, templates_digest
from qwen3_integrations.core.tokenizer import Tokenizer
from qwen3_integrations.core.types import Ids, Job, Prompt, Reply, Rows, Task
from qwen3_integrations.core.validation import whole_number
from qwen3_integrations.errors import EngineClosed, EngineError, own_copy
from qwen3_integrations.models.catalog import CHECKPOINTS, TINY
from qwen3_integrations.models.config import read_config
from qwen3_integrations.models.modules import embedding_modules
from qwen3_integrations.models.tokenizer_files import read_tokenizer

_TINY = Path(__file__).parent.parent / "tiny"

OTHER_WIDTH = 64
"""Width for names that are neither a published model nor a folder."""


class FakeEngine(Opened):
    """Computes simple, deterministic rows, for tests.

    Prompts, budgets and truncation are the same as with a real engine. Tokens are counted with the tokenizer of the bundled tiny models.
    Only the model is replaced:

    - `embed`: every token id has a fixed random direction. The vector of a text is the sum over its tokens. Texts with common words
      have similar vectors, and equal texts have equal vectors. The instruction counts like other words.
    - `rerank`: the share of the query's distinct tokens that the document contains, scaled to [0.01, 0.99].

    Args:
        task: `embed` or `rerank`.
        model: The model that the fake stands for.
        dimensions: Width of the vectors; None for the width of the model: of a published one, of the
            toy, or of a folder. It is 64 for every other name.
        score: Called with `(query, document)` instead of the rule above; must return a value in [0, 1].
        error: Every run raises a copy of this error, so that tests can check how your code handles it.

    Attributes:
        jobs: All jobs so far, in order. They have the prompts that a model would read.
    """

    backend = "fake"
    reopens_itself = True
    """It works in a forked process too."""
    capabilities = Capabilities(exact=True)

    def __init__(
        self,
        task: Task,
        model: str = "fake",
        *,
        dimensions: int | None = None,
        max_tokens: int = 32768,
        score: Callable[[str, str], float] | None = None,
        error: EngineError | None = None,
    ) -> None:
        self.task: Task = task
        self.model = model
        self.tokenizer = _tiny_tokenizer()
        self.max_tokens = whole_number(max_tokens, "max_tokens")
        width = None if dimensions is None else whole_number(dimensions, "dimensions")
        self.dimensions = (width or _width_of(model)) if task == "embed" else None
        self.jobs: list[Job] = []
        self._score = score
        self._error = error
        self._closed = False

    def run(self, job: Job) -> Reply:
        """Run a job. The class describes the rules."""
        check_task(self, job)
        if self._closed:
            raise EngineClosed("this FakeEngine is closed", advice="Make a new one")
        if self._error:
            raise own_copy(self._error)
        self.jobs.append(job)
        ids = [_ids(prompt) for prompt in job.prompts]
        rows = self._embed(ids) if job.task == "embed" else self._rerank(job.prompts)
        return Reply(rows, tuple(map(len, ids)))

    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the rule; partial if `score` is set."""
        identity = {
            "task": self.task,
            "weights": "fake",
            "tokenizer": self.tokenizer.digest,
            "templates": templates_digest(),
            "pooling": "sum of token directions" if self.task == "embed" else "share of the query's tokens",
            "prompts": None,
            "adapter": None,
            "width": self.dimensions,
        }
        if self._score is not None:
            del identity["pooling"]
        numerics = {"backend": self.backend, "dtype": "float32", "quantisation": None}
        return Fingerprint(identity, numerics, partial=self._score is not None)

    async def arun(self, job: Job) -> Reply:
        """As `run`. Other tasks of the event loop can run first, as with a real engine."""
        await asyncio.sleep(0)
        return self.run(job)

    def close(self) -> None:
        """Refuse further runs."""
        self._closed = True

    def _embed(self, ids: list[Ids]) -> Rows:
        width = self.dimensions or 0
        if not ids:
            return np.empty((0, width), dtype=np.float32)
        directions = _directions(width)
        return np.stack([directions[own % len(directions)].sum(axis=0) for own in ids]).astype(np.float32)

    def _rerank(self, prompts: tuple[Prompt, ...]) -> Rows:
        return np.asarray([self._score_of(prompt) for prompt in prompts], dtype=np.float32)

    def _score_of(self, prompt: Prompt) -> float:
        query, document = prompt.prefix.query or "", prompt.body.text[1:]
        if self._score:
            return self._score(query, document)
        query_tokens, document_tokens = (set(own.tolist()) for own in self.tokenizer.encode([f" {query.lower()}", f" {document.lower()}"]))
        return 0.01 + 0.98 * len(query_tokens & document_tokens) / max(len(query_tokens), 1)

    def __repr__(self) -> str:
        return f"FakeEngine({self.task!r}, {self.model!r})" if self.model != "fake" else f"FakeEngine({self.task!r})"


@cache
def _tiny_tokenizer() -> Tokenizer:
    return read_tokenizer(_TINY / "embedding")


@cache
def _directions(width: int) -> Rows:
    return np.random.default_rng(20260101).standard_normal((8192, width)).astype(np.float32)


def _width_of(model: str) -> int:
    if known := CHECKPOINTS.get(model):
        return known.width
    folder = _TINY / "embedding" if model == TINY else Path(model).expanduser()
    if not (folder / "config.json").is_file():
        return OTHER_WIDTH
    hidden_size = int(read_config(folder)["hidden_size"])
    return embedding_modules(folder, hidden_size).width(hidden_size)


def _ids(prompt: Prompt) -> Ids:
    ids = prompt.ids
    assert ids is not None  # this engine has a tokenizer, so every planned prompt has ids
    return ids
