"""Settings and core object of all LangChain and LlamaIndex components.

Only the adapters import this module, because the host frameworks use pydantic and the core does not.
"""

from __future__ import annotations

import asyncio
import re
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_serializer,
)
from pydantic.json_schema import SkipJsonSchema

from qwen3_integrations.core.embedder import Embedder
from qwen3_integrations.core.engine import Engine
from qwen3_integrations.core.html import engine_facts, facts_table, usage_words
from qwen3_integrations.core.prompts import DEFAULT_INSTRUCTION
from qwen3_integrations.core.reranker import Reranker
from qwen3_integrations.core.results import Ranking, Usage
from qwen3_integrations.core.tokenizer import checked_text
from qwen3_integrations.core.types import Rows, Task
from qwen3_integrations.core.validation import checked_cut, checked_dimensions, optional_whole_number, suggest, whole_number
from qwen3_integrations.engines.registry import KEY_VARIABLE, checked_backend, open_engine
from qwen3_integrations.errors import ConfigError, Qwen3Error
from qwen3_integrations.models.catalog import CHECKPOINTS, DEFAULT_MODELS, checked_model

STRICT = ConfigDict(extra="forbid", validate_assignment=True, hide_input_in_errors=True, arbitrary_types_allowed=True)
"""Unknown settings are refused, assignments are checked, and error messages do not contain values, which may be secret."""

_SECRET_OPTION = re.compile(r"key|token$|secret|password|header|client|auth|cookie", re.IGNORECASE)
_CREDENTIALS = re.compile(r"(?<=//)[^/?#]*@")


def _instruction(value: Any) -> Any:
    return checked_text(value, "instruction")


def _count(value: Any, info: ValidationInfo) -> int:
    return whole_number(value, str(info.field_name))


def _top_n(value: Any) -> int | None:
    return checked_cut(value, None)[0]


def _score_threshold(value: Any) -> float | None:
    return checked_cut(None, value)[1]


def _fetch_k(value: Any) -> int | None:
    return optional_whole_number(value, "fetch_k", note=", or None for the retriever's own")


def _dimensions(value: Any, info: ValidationInfo) -> int | None:
    model = str(info.data.get("model", "the model"))
    known = CHECKPOINTS.get(model)
    return checked_dimensions(value, known.width if known else None, model)


Instruction = Annotated[str, BeforeValidator(_instruction)]
BackendName = Annotated[str, BeforeValidator(checked_backend)]
Count = Annotated[int, BeforeValidator(_count)]
"""A whole number of at least 1; NumPy's integers become plain ones."""

Dimensions = Annotated[int | None, BeforeValidator(_dimensions)]
TopN = Annotated[int | None, BeforeValidator(_top_n)]
FetchK = Annotated[int | None, BeforeValidator(_fetch_k)]
ScoreThreshold = Annotated[float | None, BeforeValidator(_score_threshold)]


class StrictModel(BaseModel):
    """A pydantic model that raises this package's `ConfigError`, which is also a `ValueError`.

    If another pydantic model creates it from a dictionary, pydantic wraps the error in its own `ValidationError` with the same message.
    """

    model_config = STRICT

    if not TYPE_CHECKING:  # type checkers and editors must see the fields, not **settings

        def __init__(self, **settings: Any) -> None:
            try:
                super().__init__(**settings)
            except ValidationError as error:
                raise _refusal(type(self), error) from None

        def __setattr__(self, name: str, value: Any) -> None:
            try:
                super().__setattr__(name, value)
            except ValidationError as error:
                raise _refusal(type(self), error) from None


class ComponentSettings(StrictModel):
    """Settings of embedding and reranking components.

    The constructor opens the engine, so that errors are raised there. `instruction`, and `top_n` and `score_threshold` of a reranker, may
    be assigned later. All other settings are fixed. A copy is a separate component with the same engine.

    A component can be pickled if it has no secret and was not made with an opened engine. The copy opens its own engine.
    """

    task: ClassVar[Task]

    model: str = Field(default="", strict=True, frozen=True)
    base_url: str | None = Field(default=None, strict=True, frozen=True)
    if TYPE_CHECKING:
        api_key: SecretStr | str | None = Field(default=None, frozen=True, exclude=True, repr=False)
    else:  # a string becomes a SecretStr
        api_key: SecretStr | None = Field(default=None, frozen=True, exclude=True, repr=False)
    instruction: Instruction = DEFAULT_INSTRUCTION
    max_tokens: Count = Field(default=8192, frozen=True)
    backend: BackendName = Field(default="auto", frozen=True)
    engine: SkipJsonSchema[Engine | None] = Field(default=None, frozen=True, exclude=True, repr=False)  # an engine can't be JSON
    engine_options: dict[str, Any] | None = Field(default=None, frozen=True)

    _opened: Engine = PrivateAttr()

    if not TYPE_CHECKING:

        def __init__(self, **settings: Any) -> None:
            given = settings.get("engine")
            if isinstance(given, Engine):
                settings = _with_engine(settings, given)
            super().__init__(**settings)
            self._check()
            self._opened = given if given is not None else self._open()
            try:
                self._build(self._opened)
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Close the engine that this component opened. An engine that was passed in stays open. May be called twice."""
        if self.engine is None:
            self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _check(self) -> None:
        """Check the settings before the model is loaded."""
        checked_model(self.model, self.task)

    @abstractmethod
    def _build(self, engine: Engine) -> None:
        """Create the core object of the component."""

    def _open(self) -> Engine:
        options = self.engine_options or {}
        taken = sorted({"task", "model", "base_url", "api_key", "backend"} & options.keys())
        if taken:
            reason = f"of {type(self).__name__} can't contain {', '.join(taken)}: each is a setting of its own"
            raise ConfigError(reason, option="engine_options")
        key = self.api_key.get_secret_value() if isinstance(self.api_key, SecretStr) else self.api_key
        return open_engine(self.task, self.model, base_url=self.base_url, api_key=key, backend=self.backend, **options)

    @field_serializer("base_url")
    def _without_credentials(self, url: str | None) -> str | None:
        return None if url is None else _CREDENTIALS.sub("", url)

    @field_serializer("engine_options")
    def _without_secrets(self, options: dict[str, Any] | None) -> dict[str, Any] | None:
        return None if options is None else {name: value for name, value in options.items() if not _SECRET_OPTION.search(name)}

    def _settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in type(self).model_fields}

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:  # noqa: ARG002
        """A separate component with the same engine, with some settings changed and checked.

        Args:
            update: Settings to change.
            deep: Has no effect: settings are values, and an engine is never copied.
        """
        return type(self)(**{**self._settings(), **(update or {})})

    def __copy__(self) -> Self:
        return self.model_copy()

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self.model_copy()

    def __reduce__(self) -> tuple[Any, ...]:
        name = type(self).__name__
        if self.engine is not None:
            raise ConfigError(
                f"{name} can't be pickled, since it was made with an opened engine",
                advice="Make it with model, base_url and backend instead of engine: then each process opens its own",
            )
        secret_options = any(_SECRET_OPTION.search(option) for option in self.engine_options or {})
        if self.api_key is not None or secret_options or _CREDENTIALS.search(self.base_url or ""):
            raise ConfigError(
                f"{name} can't be pickled: the pickle would contain the secret in its api_key, base_url or engine_options",
                advice=f"Set {KEY_VARIABLE} in the environment of both processes, and leave the setting out",
            )
        fields = type(self).model_fields.items()
        return _remade, (type(self), {field: getattr(self, field) for field, about in fields if not about.exclude})

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        yield "model", self.model
        opened = (self.__pydantic_private__ or {}).get("_opened")
        if opened is not None:  # None if the constructor failed
            yield "backend", opened.backend
            yield "engine", opened
        yield "instruction", self.instruction
        yield "max_tokens", self.max_tokens

    @property
    @abstractmethod
    def usage(self) -> Usage:
        """Prompts and tokens of all calls so far."""

    def _facts_html(self, more: Mapping[str, object]) -> str:
        facts = {"budget": f"{self.max_tokens:,} tokens", "instruction": self.instruction or "none", "so far": usage_words(self.usage)}
        return facts_table(type(self).__name__, engine_facts(self._opened) | dict(more) | facts)


class EmbedderSettings(ComponentSettings):
    """A component with an `Embedder`."""

    task: ClassVar[Task] = "embed"

    model: str = Field(default=DEFAULT_MODELS["embed"], strict=True, frozen=True)
    dimensions: Dimensions = Field(default=None, frozen=True)

    _embedder: Embedder = PrivateAttr()

    @property
    def usage(self) -> Usage:
        """Prompts and tokens of all calls so far."""
        return self._embedder.usage

    def _build(self, engine: Engine) -> None:
        self._embedder = Embedder(engine, instruction=self.instruction, dimensions=self.dimensions, max_tokens=self.max_tokens)

    def _documents(self, texts: Sequence[str]) -> list[list[float]]:
        return _as_lists(self._embedder.embed_documents(texts))

    async def _adocuments(self, texts: Sequence[str]) -> list[list[float]]:
        # Converting 2,048 vectors of 1,024 floats to lists takes about 40 ms, which would block the event loop.
        return await asyncio.to_thread(_as_lists, await self._embedder.aembed_documents(texts))

    def _document(self, text: str) -> list[float]:
        text = checked_text(text, "text")
        with _one_text():
            return self._documents([text])[0]

    async def _adocument(self, text: str) -> list[float]:
        text = checked_text(text, "text")
        with _one_text():
            return (await self._adocuments([text]))[0]

    def _query(self, text: str) -> list[float]:
        text = checked_text(text, "text")
        with _one_text():
            return _as_lists(self._embedder.embed_queries([text], self.instruction))[0]

    async def _aquery(self, text: str) -> list[float]:
        text = checked_text(text, "text")
        with _one_text():
            return _as_lists(await self._embedder.aembed_queries([text], self.instruction))[0]

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        yield from super().__repr_args__()
        yield "dimensions", self.dimensions

    def _repr_html_(self) -> str:
        return self._facts_html({"dimensions": self.dimensions or self._opened.dimensions})


class RerankerSettings(ComponentSettings):
    """A component with a `Reranker`."""

    task: ClassVar[Task] = "rerank"

    model: str = Field(default=DEFAULT_MODELS["rerank"], strict=True, frozen=True)
    top_n: TopN = None
    score_threshold: ScoreThreshold = None

    _reranker: Reranker = PrivateAttr()

    @property
    def usage(self) -> Usage:
        """Prompts and tokens of all calls so far."""
        return self._reranker.usage

    def _build(self, engine: Engine) -> None:
        self._reranker = Reranker(engine, instruction=self.instruction, max_tokens=self.max_tokens)

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


def _with_engine(settings: dict[str, Any], engine: Engine) -> dict[str, Any]:
    """Settings together with an opened engine: adds its model's name, and refuses settings for opening an engine."""
    ignored = [name for name in ("base_url", "api_key", "engine_options") if settings.get(name)]
    if settings.get("backend", "auto") != "auto":
        ignored.append("backend")
    if ignored:
        raise ConfigError(
            f"is open already, so {', '.join(ignored)} would have no effect",
            option="engine",
            advice=f"Pass {', '.join(ignored)} to open_engine, or leave engine out",
        )
    if settings.get("model", engine.model) != engine.model:
        reason = f"is {settings['model']!r}, but the engine that was passed runs {engine.model!r}"
        raise ConfigError(reason, option="model", advice="Leave one of them out")
    return {**settings, "model": engine.model}


def _remade(cls: type[ComponentSettings], settings: dict[str, Any]) -> ComponentSettings:
    return cls(**settings)


def _refusal(cls: type[BaseModel], error: ValidationError) -> Qwen3Error:
    """Pydantic's error as an error of this package, without the refused values."""
    items = error.errors(include_input=False, include_url=False)
    causes = [item.get("ctx", {}).get("error") for item in items]
    refusals = [_one_refusal(cls, item, cause) for item, cause in zip(items, causes, strict=True)]
    return refusals[0] if len(refusals) == 1 else ConfigError("; ".join(map(str, refusals)))


def _one_refusal(cls: type[BaseModel], item: Mapping[str, Any], cause: object) -> Qwen3Error:
    if isinstance(cause, Qwen3Error):
        return cause
    name = ".".join(map(str, item["loc"]))
    fields: Iterable[str] = cls.model_fields
    match item["type"]:
        case "extra_forbidden" | "no_such_attribute":
            advice = f"The settings are: {', '.join(sorted(fields))}"
            return ConfigError(f"is not a setting of {cls.__name__}{suggest(name, fields)}", option=name, advice=advice)
        case "frozen_field":
            return ConfigError(f"of {cls.__name__} is fixed once the engine is open", option=name, advice=f"Make a new {cls.__name__}")
        case _:
            return ConfigError(f"of {cls.__name__} can't be used: {cause or item['msg']}", option=name)


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
