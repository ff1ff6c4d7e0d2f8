"""`RerankerSettings`: a component with a `Reranker`."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import Field, PrivateAttr

from qwen3_integrations.adapters.component_settings import ComponentSettings
from qwen3_integrations.adapters.fields import Deadline, Instruction, ModelName, OnError, ScoreThreshold, TopN
from qwen3_integrations.core.deadline import awithin, within
from qwen3_integrations.core.engine import Engine
from qwen3_integrations.core.prompts import DEFAULT_INSTRUCTION
from qwen3_integrations.core.reranker import Reranker
from qwen3_integrations.core.results import Ranking, Usage
from qwen3_integrations.core.types import Task
from qwen3_integrations.errors import EngineError, one_line
from qwen3_integrations.models.catalog import DEFAULT_MODELS

log = logging.getLogger("qwen3_integrations")

RERANK_ERROR = "rerank_error"
"""The metadata entry of a document that was not reranked (`on_error="keep_order"`): the error, in one line."""


@dataclass(frozen=True, slots=True)
class Unranked:
    """Documents that could not be reranked: they keep the retriever's order.

    Attributes:
        positions: Positions of the documents to return, in the retriever's order.
        error: The error, in one line.
    """

    positions: range
    error: str


class RerankerSettings(ComponentSettings):
    """A component with a `Reranker`."""

    task: ClassVar[Task] = "rerank"

    model: ModelName = Field(default=DEFAULT_MODELS["rerank"], strict=True, frozen=True)
    instruction: Instruction = DEFAULT_INSTRUCTION
    top_n: TopN = None
    score_threshold: ScoreThreshold = None
    on_error: OnError = "raise"
    deadline_s: Deadline = None

    _reranker: Reranker = PrivateAttr()

    @property
    def usage(self) -> Usage:
        """Prompts and tokens of all calls so far."""
        return self._reranker.usage

    def _build(self, engine: Engine) -> None:
        given = self.instruction if "instruction" in self.model_fields_set else None
        self._reranker = Reranker(
            engine,
            instruction=given,
            max_tokens=self.max_tokens,
            on_bad_text=self.on_bad_text,
            preprocess=self.preprocess,
        )
        # What the model's folder declares shows on the component.
        self.__dict__ |= {"instruction": self._reranker.instruction, "max_tokens": self._reranker.max_tokens}

    def _ranking(self, query: str, texts: Sequence[str], top_n: int | None, score_threshold: float | None) -> Ranking:
        arguments = (query, texts, top_n, score_threshold, self.instruction)
        if self.deadline_s is None:
            return self._reranker.rank(*arguments)
        return within(lambda: self._reranker.arank(*arguments), self.deadline_s, self.model)

    async def _aranking(self, query: str, texts: Sequence[str], top_n: int | None, score_threshold: float | None) -> Ranking:
        arguments = (query, texts, top_n, score_threshold, self.instruction)
        if self.deadline_s is None:
            return await self._reranker.arank(*arguments)
        return await awithin(lambda: self._reranker.arank(*arguments), self.deadline_s, self.model)

    def _order(self, query: str, texts: Sequence[str], top_n: int | None, score_threshold: float | None) -> Ranking | Unranked:
        """The ranking, or what `on_error` puts in its place."""
        try:
            return self._ranking(query, texts, top_n, score_threshold)
        except EngineError as error:
            if self.on_error == "raise":
                raise
            return _unranked(error, len(texts), top_n)

    async def _aorder(self, query: str, texts: Sequence[str], top_n: int | None, score_threshold: float | None) -> Ranking | Unranked:
        try:
            return await self._aranking(query, texts, top_n, score_threshold)
        except EngineError as error:
            if self.on_error == "raise":
                raise
            return _unranked(error, len(texts), top_n)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        yield from super().__repr_args__()
        yield "top_n", self.top_n
        yield "score_threshold", self.score_threshold
        if self.on_error != "raise":
            yield "on_error", self.on_error
        if self.deadline_s is not None:
            yield "deadline_s", self.deadline_s

    def _repr_html_(self) -> str:
        return self._facts_html({"top_n": self.top_n, "score_threshold": self.score_threshold})


def _unranked(error: EngineError, documents: int, top_n: int | None) -> Unranked:
    words = one_line(f"{type(error).__name__}: {error}")
    log.warning("reranking failed, so %d documents keep the retriever's order: %s", documents, words)
    return Unranked(range(documents if top_n is None else min(top_n, documents)), words)
