"""`RerankerSettings`: a component with a `Reranker`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from pydantic import Field, PrivateAttr

from qwen3_integrations.adapters.component_settings import ComponentSettings
from qwen3_integrations.adapters.fields import Instruction, ModelName, ScoreThreshold, TopN
from qwen3_integrations.core.engine import Engine
from qwen3_integrations.core.prompts import DEFAULT_INSTRUCTION
from qwen3_integrations.core.reranker import Reranker
from qwen3_integrations.core.results import Ranking, Usage
from qwen3_integrations.core.types import Task
from qwen3_integrations.models.catalog import DEFAULT_MODELS


class RerankerSettings(ComponentSettings):
    """A component with a `Reranker`."""

    task: ClassVar[Task] = "rerank"

    model: ModelName = Field(default=DEFAULT_MODELS["rerank"], strict=True, frozen=True)
    instruction: Instruction = DEFAULT_INSTRUCTION
    top_n: TopN = None
    score_threshold: ScoreThreshold = None

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

    def _ranking(self, query: str, texts: Sequence[str], top_n: int | None) -> Ranking:
        return self._reranker.rank(query, texts, top_n, self.score_threshold, self.instruction)

    async def _aranking(self, query: str, texts: Sequence[str], top_n: int | None) -> Ranking:
        return await self._reranker.arank(query, texts, top_n, self.score_threshold, self.instruction)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        yield from super().__repr_args__()
        yield "top_n", self.top_n
        yield "score_threshold", self.score_threshold

    def _repr_html_(self) -> str:
        return self._facts_html({"top_n": self.top_n, "score_threshold": self.score_threshold})
