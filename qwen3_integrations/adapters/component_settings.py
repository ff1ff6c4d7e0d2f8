"""`ComponentSettings`: the settings, the engine and the life cycle that all LangChain and LlamaIndex components share.

Only the adapters import this module, because the host frameworks use pydantic and the core does not.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, PrivateAttr, SecretStr, field_serializer
from pydantic.json_schema import SkipJsonSchema

from qwen3_integrations.adapters.fields import BackendName, BadText, DeclaredCount, DeclaredInstruction, DocumentFunction, ModelName
from qwen3_integrations.adapters.strict_model import StrictModel
from qwen3_integrations.core.engine import Engine
from qwen3_integrations.core.html import engine_facts, facts_table, usage_words
from qwen3_integrations.core.preparation import check_can_be_pickled, name_of
from qwen3_integrations.core.results import Usage
from qwen3_integrations.core.types import Task
from qwen3_integrations.engines.registry import open_engine, server_of
from qwen3_integrations.engines.secrets import check_no_secrets, without_credentials, without_secrets
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.catalog import checked_model, model_name


class ComponentSettings(StrictModel):
    """Settings of embedding and reranking components.

    The constructor opens the engine, so that errors are raised there. `instruction`, and `top_n` and `score_threshold` of a reranker, may
    be assigned later. All other settings are fixed. A copy is a separate component with the same engine.

    A component can be pickled if it has no secret and was not made with an opened engine. The copy opens its own engine.
    """

    task: ClassVar[Task]

    model: ModelName = Field(default="", strict=True, frozen=True)
    base_url: str | None = Field(default=None, strict=True, frozen=True)
    if TYPE_CHECKING:
        api_key: SecretStr | str | None = Field(default=None, frozen=True, exclude=True, repr=False)
    else:  # a string becomes a SecretStr
        api_key: SecretStr | None = Field(default=None, frozen=True, exclude=True, repr=False)
    instruction: DeclaredInstruction = None
    max_tokens: DeclaredCount = Field(default=None, frozen=True)
    on_bad_text: BadText = Field(default="error", frozen=True)
    preprocess: SkipJsonSchema[DocumentFunction] = Field(default=None, frozen=True, exclude=True, repr=False)  # a function can't be JSON
    backend: BackendName = Field(default="auto", frozen=True)
    engine: SkipJsonSchema[Engine | None] = Field(default=None, frozen=True, exclude=True, repr=False)  # an engine can't be JSON
    engine_options: dict[str, Any] | None = Field(default=None, frozen=True)

    _opened: Engine = PrivateAttr()
    _from_environment: frozenset[str] = PrivateAttr(default=frozenset())

    if not TYPE_CHECKING:

        def __init__(self, **settings: Any) -> None:
            given = settings.get("engine")
            if isinstance(given, Engine):
                settings = _with_engine(settings, given)
            super().__init__(**settings)
            self._check()
            if given is None:
                self._read_environment()
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

    def _read_environment(self) -> None:
        """Show the server of the environment as settings: `base_url`, and `api_key` as a secret."""
        given = {"base_url": self.base_url, "api_key": self._key()}
        url, key = server_of(self.task, self.backend, **given)
        found = {"base_url": url, "api_key": key if url else None}
        self._from_environment = frozenset(name for name, value in found.items() if value and not given[name])
        for name in self._from_environment:
            value = found[name]
            self.__dict__[name] = SecretStr(value) if value and name == "api_key" else value  # not by assignment: the fields are frozen

    def _key(self) -> str | None:
        return self.api_key.get_secret_value() if isinstance(self.api_key, SecretStr) else self.api_key

    def _open(self) -> Engine:
        options = self.engine_options or {}
        taken = sorted({"task", "model", "base_url", "api_key", "backend"} & options.keys())
        if taken:
            reason = f"of {type(self).__name__} can't contain {', '.join(taken)}: each is a separate setting"
            raise ConfigError(reason, option="engine_options")
        return open_engine(self.task, self.model, base_url=self.base_url, api_key=self._key(), backend=self.backend, **options)

    @field_serializer("base_url")
    def _without_credentials(self, url: str | None) -> str | None:
        return None if url is None else without_credentials(url)

    @field_serializer("engine_options")
    def _without_secrets(self, options: dict[str, Any] | None) -> dict[str, Any] | None:
        return None if options is None else without_secrets(options)

    def _settings(self) -> dict[str, Any]:
        """The settings that a copy is made with: all but those from the environment."""
        return {name: None if name in self._from_environment else getattr(self, name) for name in type(self).model_fields}

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
                f"{name} can't be pickled, because it was made with an opened engine",
                advice="Make it with model, base_url and backend instead of engine: each process then opens its own engine",
            )
        check_can_be_pickled(self.preprocess)
        own = {field: value for field, value in self._settings().items() if not type(self).model_fields[field].exclude}
        own |= {"preprocess": self.preprocess} if self.preprocess else {}
        check_no_secrets(name, own["base_url"], None if "api_key" in self._from_environment else self.api_key, self.engine_options)
        return _remade, (type(self), own)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        yield "model", self.model
        opened = (self.__pydantic_private__ or {}).get("_opened")
        if opened is not None:  # None if the constructor failed
            yield "backend", opened.backend
            yield "engine", opened
        yield "instruction", self.instruction
        yield "max_tokens", self.max_tokens
        yield from self._preparation_args()

    def _preparation_args(self) -> Iterator[tuple[str, Any]]:
        if self.on_bad_text != "error":
            yield "on_bad_text", self.on_bad_text
        if self.preprocess is not None:
            yield "preprocess", name_of(self.preprocess)

    @property
    @abstractmethod
    def usage(self) -> Usage:
        """Prompts and tokens of all calls so far."""

    def _facts_html(self, more: Mapping[str, object]) -> str:
        facts: dict[str, object] = {"budget": f"{self.max_tokens:,} tokens", "instruction": self.instruction or "none"}
        facts |= {**dict(self._preparation_args()), "so far": usage_words(self.usage)}
        return facts_table(type(self).__name__, engine_facts(self._opened) | dict(more) | facts)


def _with_engine(settings: dict[str, Any], engine: Engine) -> dict[str, Any]:
    """Settings together with an opened engine: adds its model's name, and refuses settings for opening an engine."""
    ignored = [name for name in ("base_url", "api_key", "engine_options") if settings.get(name)]
    if settings.get("backend", "auto") != "auto":
        ignored.append("backend")
    if ignored:
        raise ConfigError(
            f"is already open, so {', '.join(ignored)} would have no effect",
            option="engine",
            advice=f"Pass {', '.join(ignored)} to open_engine, or leave engine out",
        )
    if model_name(settings.get("model", engine.model)) != engine.model:
        reason = f"is {settings['model']!r}, but the engine that was passed runs {engine.model!r}"
        raise ConfigError(reason, option="model", advice="Leave one of them out")
    return {**settings, "model": engine.model}


def _remade(cls: type[ComponentSettings], settings: dict[str, Any]) -> ComponentSettings:
    return cls(**settings)
