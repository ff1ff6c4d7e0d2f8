"""`EmbedderSettings`: a component with an `Embedder`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from pydantic import Field, PrivateAttr

from qwen3_integrations.adapters.component_settings import ComponentSettings
from qwen3_integrations.adapters.fields import Dimensions, ModelName
from qwen3_integrations.core.embedder import Embedder
from qwen3_integrations.core.engine import Engine, conventions_of
from qwen3_integrations.core.results import Usage
from qwen3_integrations.core.tokenizer import checked_text
from qwen3_integrations.core.types import Rows, Task
from qwen3_integrations.errors import Qwen3Error
from qwen3_integrations.models.catalog import DEFAULT_MODELS


class EmbedderSettings(ComponentSettings):
    """A component with an `Embedder`."""

    task: ClassVar[Task] = "embed"

    model: ModelName = Field(default=DEFAULT_MODELS["embed"], strict=True, frozen=True)
    dimensions: Dimensions = Field(default=None, frozen=True)

    _embedder: Embedder = PrivateAttr()

    @property
    def usage(self) -> Usage:
        """Prompts and tokens of all calls so far."""
        return self._embedder.usage

    def _build(self, engine: Engine) -> None:
        embedder = Embedder(  # each call passes the instruction
            engine,
            dimensions=self.dimensions,
            max_tokens=self.max_tokens,
            on_bad_text=self.on_bad_text,
            preprocess=self.preprocess,
        )
        # What the model's folder declares shows on the component.
        instruction = embedder.instruction if self.instruction is None else self.instruction
        self.__dict__ |= {"instruction": instruction, "max_tokens": self.max_tokens or embedder.max_tokens}
        self._embedder = embedder

    @property
    def query_prompt(self) -> str:
        """The text before a query: the instruction in the model card's template, or the prompt that the model's folder declares."""
        return conventions_of(self._opened).before_query(self.instruction)

    @property
    def document_prompt(self) -> str:
        """The text before a document; empty unless the model's folder declares one."""
        return self._embedder.document_prompt

    @property
    def cache_namespace(self) -> str:
        """A name for a cache of document vectors whose keys are the texts; see `Embedder.cache_namespace`.

        Over HTTP it sends requests: from a coroutine, use `await asyncio.to_thread(getattr, embeddings, "cache_namespace")`.
        """
        return self._embedder.cache_namespace()

    def _text(self, text: str) -> str:
        return checked_text(text, "text", any_text=self.on_bad_text == "replace")

    def _documents(self, texts: Sequence[str]) -> list[list[float]]:
        return _as_lists(self._embedder.embed_documents(texts))

    async def _adocuments(self, texts: Sequence[str]) -> list[list[float]]:
        # Converting 2,048 vectors of 1,024 floats to lists takes about 40 ms, which would block the event loop.
        return await asyncio.to_thread(_as_lists, await self._embedder.aembed_documents(texts))

    def _document(self, text: str) -> list[float]:
        text = self._text(text)
        with _one_text():
            return self._documents([text])[0]

    async def _adocument(self, text: str) -> list[float]:
        text = self._text(text)
        with _one_text():
            return (await self._adocuments([text]))[0]

    def _query(self, text: str) -> list[float]:
        text = self._text(text)
        with _one_text():
            return _as_lists(self._embedder.embed_queries([text], self.instruction))[0]

    async def _aquery(self, text: str) -> list[float]:
        text = self._text(text)
        with _one_text():
            return _as_lists(await self._embedder.aembed_queries([text], self.instruction))[0]

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        yield from super().__repr_args__()
        yield "dimensions", self.dimensions
        if self.instruction is None:
            yield "query_prompt", self.query_prompt
        if self.document_prompt:
            yield "document_prompt", self.document_prompt

    def _repr_html_(self) -> str:
        facts: dict[str, object] = {"dimensions": self.dimensions or self._opened.dimensions}
        facts |= {"query prompt": repr(self.query_prompt)} if self.instruction is None else {}
        facts |= {"document prompt": repr(self.document_prompt)} if self.document_prompt else {}
        return self._facts_html(facts)


@contextmanager
def _one_text() -> Iterator[None]:
    """Errors without an index: the caller passed one text and no list."""
    try:
        yield
    except Qwen3Error as error:
        raise error.replace(index=None) from error.__cause__


def _as_lists(rows: Rows) -> list[list[float]]:
    # Row by row, so that other threads can run between rows.
    return [row.tolist() for row in rows]
