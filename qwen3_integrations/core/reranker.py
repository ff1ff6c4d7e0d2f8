"""A query and documents to a ranking: plan, run, finish."""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from qwen3_integrations.core.call_result import CallResult, Report, arun_call, run_call
from qwen3_integrations.core.component import Component
from qwen3_integrations.core.engine import Engine, conventions_of
from qwen3_integrations.core.html import engine_facts, facts_table, usage_words
from qwen3_integrations.core.pipeline import QUICK_ITEMS, is_quick
from qwen3_integrations.core.planned import Plan, Work
from qwen3_integrations.core.planning import PairPlanner, declared_budget
from qwen3_integrations.core.preparation import OnBadText, Preprocess
from qwen3_integrations.core.prompts import DEFAULT_INSTRUCTION, Separator
from qwen3_integrations.core.results import Hit, Ranking, Timing
from qwen3_integrations.core.tokenizer import checked_text, checked_texts
from qwen3_integrations.core.types import Rows
from qwen3_integrations.core.validation import checked_budget, checked_cut, checked_list, plain_text
from qwen3_integrations.errors import BadReply, ConfigError, Qwen3Error

log = logging.getLogger("qwen3_integrations")


class Reranker(Component):
    """Scores and ranks documents with a Qwen3-Reranker model behind any engine.

    Args:
        engine: An opened engine for the task `rerank`.
        instruction: The meaning of relevance; one English sentence. None: the one that the model's folder declares, else the model card's.
        max_tokens: Budget of a prompt, template included. Only the document is cut to fit. None: 8192, or what the model's folder
            declares (`max_seq_length`) where that is less.
        separator: Separator between instruction, query and document: one newline as in the model card, or two as in the official
            repository's evaluation.
        on_bad_text: What happens to a text with lone surrogates, which UTF-8 can't encode: `error`, or `replace` each by U+FFFD. The
            number of such pairs is logged and counted in `usage`.
        preprocess: A function that is called with one document and returns the text that the model reads; see `Embedder`. Hits have the
            caller's own documents.

    Raises:
        ConfigError: For an engine of the other task, a budget that is not a whole number of at least 1, or another separator.

    Example:
        >>> from qwen3_integrations import Reranker, open_engine
        >>> reranker = Reranker(open_engine("rerank", "qwen3-tiny-demo", backend="torch"))
        >>> ranking = reranker.rank("how do I read a csv file", ["Gravity attracts bodies.", "The csv module reads csv files."])
        >>> [hit.index for hit in ranking]
        [1, 0]
        >>> bool(ranking[0].score > 0.5)
        True
    """

    def __init__(
        self,
        engine: Engine,
        *,
        instruction: str | None = None,
        max_tokens: int | None = None,
        separator: Separator = "\n",
        on_bad_text: OnBadText = "error",
        preprocess: Preprocess | None = None,
    ) -> None:
        if engine.task != "rerank":
            raise ConfigError(f"must be opened for rerank, but it runs {engine.model} for {engine.task}", option="engine")
        if separator not in ("\n", "\n\n"):
            raise ConfigError(f"must be one newline or two, not {separator!r}", option="separator")
        super().__init__(engine, on_bad_text, preprocess)
        conventions = conventions_of(engine)
        declared = conventions.instruction or DEFAULT_INSTRUCTION
        self.instruction = declared if instruction is None else checked_text(instruction, "instruction")
        self.max_tokens = checked_budget(declared_budget(conventions) if max_tokens is None else max_tokens, engine.max_tokens)
        self.separator: Separator = separator

    def _settings(self) -> dict[str, Any]:
        return {"instruction": self.instruction, "max_tokens": self.max_tokens, "separator": self.separator}

    def rank(
        self,
        query: str,
        documents: Iterable[str],
        top_n: int | None = None,
        score_threshold: float | None = None,
        instruction: str | None = None,
    ) -> Ranking:
        """Rank documents by their relevance to a query.

        Args:
            query: The query.
            documents: Texts in the retriever's order; an empty one gets a score like any other.
            top_n: Maximum number of documents to keep, at least 1; None for all.
            score_threshold: Least score of a kept document, in [0, 1]; None for any score.
            instruction: Replaces the reranker's instruction.

        Returns:
            A `Ranking`, best first; equal scores keep the order of `documents`.

        Raises:
            PromptTooLong: If template, instruction and query alone exceed `max_tokens`.
            ConfigError: For `top_n` or `score_threshold` outside their range.
            TypeError: For an item that is not a string; the message has its index.
            InvalidText: For lone surrogates, unless they are replaced; the message has the index.
            PreprocessFailed: If `preprocess` raises an error or does not return text; the message has the index.
            EngineError: If the engine or its server fails; the tree is in `qwen3_integrations.errors`.
        """
        top_n, score_threshold = checked_cut(top_n, score_threshold)
        started = time.perf_counter()
        work = self._work(instruction)
        checked_text(query, "query", any_text=self._takes_any_text)
        listed = self._checked(documents)  # a new list: a column of a data frame is indexed by its labels
        result = run_call(self.engine, work, [(query, document) for document in listed])
        return self._ranking(query, listed, instruction, result, started, top_n, score_threshold)

    def rank_valid(
        self, query: str, documents: Sequence[str], top_n: int | None = None, score_threshold: float | None = None
    ) -> tuple[Ranking, Mapping[int, Qwen3Error]]:
        """As `rank`, without the documents that can't be ranked.

        Args:
            query, top_n, score_threshold: As in `rank`.
            documents: Checked texts.

        Returns:
            The ranking of the other documents, whose `index` counts these alone; and the errors, by position in `documents`.

        Raises:
            Qwen3Error: As in `rank`, for errors that are not about a single document.
        """
        top_n, score_threshold = checked_cut(top_n, score_threshold)
        started = time.perf_counter()
        checked_text(query, "query", any_text=self._takes_any_text)
        result = run_call(self.engine, self._work(None), [(query, document) for document in documents], skip=True)
        if not result.failed:
            return self._ranking(query, documents, None, result, started, top_n, score_threshold), {}
        valid = [at for at in range(len(documents)) if at not in result.failed]
        numbers = {at: number for number, at in enumerate(valid)}

        def numbered(positions: frozenset[int]) -> frozenset[int]:
            return frozenset(numbers[at] for at in positions)

        result = replace(
            result,
            rows=result.rows[valid],
            truncated=numbered(result.truncated),
            replaced=numbered(result.replaced),
            preprocessed=numbered(result.preprocessed),
        )
        ranked = [documents[at] for at in valid]
        return self._ranking(query, ranked, None, result, started, top_n, score_threshold), result.failed

    async def arank(
        self,
        query: str,
        documents: Iterable[str],
        top_n: int | None = None,
        score_threshold: float | None = None,
        instruction: str | None = None,
        *,
        report: Report | None = None,
    ) -> Ranking:
        """As `rank`, without blocking the event loop. `report` is called with the number of documents of each finished slice."""
        top_n, score_threshold = checked_cut(top_n, score_threshold)
        started = time.perf_counter()
        work = self._work(instruction)
        checked_text(query, "query", any_text=self._takes_any_text)
        listed = self._checked(documents) if is_quick(documents) else await asyncio.to_thread(self._checked, documents)
        result = await arun_call(self.engine, work, [(query, document) for document in listed], report)
        return self._ranking(query, listed, instruction, result, started, top_n, score_threshold)

    def score(self, pairs: Iterable[tuple[str, str]], instruction: str | None = None) -> Rows:
        """Score pairs of query and document.

        Args:
            pairs: Any number of `(query, document)`; engines may compute the common prefix of equal queries once.
            instruction: Replaces the reranker's instruction.

        Returns:
            float32, shape (pairs,), the model's probability of "yes" in [0, 1], in the order of `pairs`.

        Raises:
            PromptTooLong, TypeError, InvalidText, EngineError: As in `rank`.
        """
        work, checked = self._work(instruction), _checked_pairs(pairs, self._takes_any_text)
        return self._counted(run_call(self.engine, work, checked)).rows

    async def ascore(self, pairs: Iterable[tuple[str, str]], instruction: str | None = None) -> Rows:
        """As `score`, without blocking the event loop."""
        work, quick = self._work(instruction), is_quick(_flat(pairs))
        any_text = self._takes_any_text
        checked = _checked_pairs(pairs, any_text) if quick else await asyncio.to_thread(_checked_pairs, pairs, any_text)
        return self._counted(await arun_call(self.engine, work, checked)).rows

    def _work(self, instruction: str | None) -> Work[tuple[str, str]]:
        instruction = self.instruction if instruction is None else checked_text(instruction, "instruction")
        planner = PairPlanner(instruction, self.separator, self.engine.tokenizer, self.max_tokens)

        def plan(pairs: Sequence[tuple[str, str]]) -> Plan:
            queries = self._preparation.queries([query for query, _ in pairs])
            documents = self._preparation.documents([document for _, document in pairs], "documents")
            prompts = planner.plan(list(zip(queries.texts, documents.texts, strict=True)))
            return Plan(prompts, replaced=queries.replaced | documents.replaced, preprocessed=documents.preprocessed)

        return Work(
            task="rerank",
            max_tokens=self.max_tokens,
            plan=plan,
            finish=lambda rows, plan, begin: probabilities(rows, len(plan.prompts), begin),
            characters=lambda pair: len(instruction) + len(pair[0]) + len(pair[1]),
            blocks=self.preprocess is not None,
        )

    def _checked(self, documents: Iterable[str]) -> list[str]:
        return checked_texts(documents, "documents", any_text=self._takes_any_text)

    def _counted(self, result: CallResult) -> CallResult:
        """The result of a call; counts its usage and logs the number of cut documents."""
        used = result.usage
        self._count(used)
        if used.truncated:
            limit = result.max_tokens or self.max_tokens
            log.warning("%d of %d documents were truncated so that no prompt exceeds %d tokens", used.truncated, used.prompts, limit)
        if used.replaced:
            log.warning("lone surrogates in %d of %d pairs of query and document were replaced by U+FFFD", used.replaced, used.prompts)
        return result

    def _ranking(
        self,
        query: str,
        documents: Sequence[str],
        instruction: str | None,
        result: CallResult,
        started: float,
        top_n: int | None,
        score_threshold: float | None,
    ) -> Ranking:
        timing = Timing(result.planned_at - started, time.perf_counter() - result.planned_at)
        scores = self._counted(result).rows
        order = np.argsort(-scores, kind="stable")
        hits = [
            Hit(
                index=index,
                rank=rank,
                score=float(scores[index]),
                document=documents[index],
                truncated=index in result.truncated,
                replaced=index in result.replaced,
                preprocessed=index in result.preprocessed,
            )
            for rank, index in enumerate(order.tolist())
        ]
        passing = sum(score_threshold is None or hit.score >= score_threshold for hit in hits)
        kept = passing if top_n is None else min(top_n, passing)
        return Ranking(
            query=query,
            instruction=self.instruction if instruction is None else instruction,
            model=self.engine.model,
            hits=tuple(hits[:kept]),
            dropped=tuple(hits[kept:]),
            usage=result.usage,
            timing=timing,
            top_n=top_n,
            score_threshold=score_threshold,
            _reranker=weakref.ref(self),
        )

    def __repr__(self) -> str:
        return f"Reranker({self.engine!r}, max_tokens={self.max_tokens}, instruction={self.instruction!r}{self._preparation_words()})"

    def _repr_html_(self) -> str:
        facts = engine_facts(self.engine) | {
            "budget": f"{self.max_tokens:,} tokens",
            "instruction": self.instruction or "none",
            **self._preparation_facts(),
            "so far": usage_words(self.usage),
        }
        return facts_table("Reranker", facts)


def probabilities(rows: Rows, count: int, first: int = 0) -> Rows:
    """Checked scores: the right number, finite and in [0, 1].

    Args:
        rows: The engine's scores.
        count: The required number of scores.
        first: Position of the first score in the whole call, for messages.

    Raises:
        BadReply: If the count is wrong, or a score is not in [0, 1].
    """
    scores = np.asarray(rows, dtype=np.float32)
    if count == 0:
        return np.empty(0, dtype=np.float32)
    if scores.shape != (count,):
        raise BadReply(f"the engine returned an array of shape {scores.shape} for {count} prompts, not one score for each")
    bad = np.flatnonzero(~((scores >= 0) & (scores <= 1)))
    if len(bad):
        reason = f"the score {scores[bad[0]]} is not in [0, 1] ({len(bad)} of {count} scores)"
        raise BadReply(reason, index=first + int(bad[0]))
    return scores


def _checked_pairs(pairs: Iterable[tuple[str, str]], any_text: bool) -> list[tuple[str, str]]:
    if isinstance(pairs, list | tuple) and len(pairs) == 2 and all(isinstance(text, str) for text in pairs):
        raise TypeError("pairs must be a list of (query, document), not one pair: pass [(query, document)]")
    items = checked_list(pairs, "pairs", "(query, document)", "[(query, document)]")
    listed = [_pair(pair, index) for index, pair in enumerate(items)]
    checked_texts((query for query, _ in listed), "queries", any_text=any_text)
    checked_texts((document for _, document in listed), "documents", any_text=any_text)
    return listed


def _flat(pairs: object) -> list[object] | None:
    """Queries and documents of unchecked pairs; None for more than `QUICK_ITEMS` pairs."""
    if not isinstance(pairs, list | tuple) or len(pairs) > QUICK_ITEMS:
        return None
    return [text for pair in pairs if isinstance(pair, list | tuple) for text in pair]


def _pair(pair: object, index: int) -> tuple[str, str]:
    listed = pair.tolist() if isinstance(pair, np.ndarray) else pair  # a row of a table is a pair too
    if not isinstance(listed, list | tuple) or len(listed) != 2:
        raise TypeError(f"pairs[{index}] must be (query, document), not {pair!r:.80}")
    return plain_text(listed[0]), plain_text(listed[1])
