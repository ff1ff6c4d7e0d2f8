"""The models of an application and the names under which they are served."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qwen3_integrations.core.embedder import Embedder
from qwen3_integrations.core.reranker import Reranker
from qwen3_integrations.core.types import Task
from qwen3_integrations.core.validation import suggest
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.server.refusal import Refusal
from qwen3_integrations.server.settings import QUERY_SUFFIX, ServerSettings


@dataclass(frozen=True, slots=True)
class Served:
    """An embedder, a reranker, or both.

    Args:
        embedder: Serves `embed`; None for none.
        reranker: Serves `rerank`; None for none.
        settings: Have the names.

    Raises:
        ConfigError: For no model, a model for the other task, or a name that both would have.
    """

    embedder: Embedder | None
    reranker: Reranker | None
    settings: ServerSettings

    def __post_init__(self) -> None:
        if self.embedder is None and self.reranker is None:
            raise ConfigError("there is nothing to serve", advice="Pass embedder=Embedder(...), reranker=Reranker(...), or both")
        for name, kind, value in (("embedder", Embedder, self.embedder), ("reranker", Reranker, self.reranker)):
            if value is not None and not isinstance(value, kind):
                raise ConfigError(f"must be {kind.__name__}(engine), not {type(value).__name__}", option=name)
        both = set(self.names("embed")) & set(self.names("rerank"))
        if both:
            raise ConfigError(
                f"{sorted(both)[0]!r} would be the name of both models", option="reranker_names", advice="Give them other names"
            )

    def names(self, task: Task) -> tuple[str, ...]:
        """The names of the model for a task; empty for none."""
        component: Embedder | Reranker | None = self.embedder if task == "embed" else self.reranker
        if component is None:
            return ()
        given = self.settings.embedder_names if task == "embed" else self.settings.reranker_names
        return given or (component.engine.model,)

    def embedder_named(self, name: str | None) -> tuple[Embedder, bool]:
        """The embedder, and whether the name says that texts are queries.

        Raises:
            Refusal: 404, if it is not served under that name.
        """
        is_query = bool(name) and str(name).endswith(QUERY_SUFFIX)
        self._check(str(name).removesuffix(QUERY_SUFFIX) if is_query else name, "embed")
        assert self.embedder is not None
        return self.embedder, is_query

    def reranker_named(self, name: str | None) -> Reranker:
        """The reranker.

        Raises:
            Refusal: 404, if it is not served under that name.
        """
        self._check(name, "rerank")
        assert self.reranker is not None
        return self.reranker

    def _check(self, name: str | None, task: Task) -> None:
        own = self.names(task)
        if own and (not name or name in own):
            return
        other = self.names("rerank" if task == "embed" else "embed")
        verb = "embeds texts" if task == "embed" else "ranks documents"
        if not own:
            raise Refusal(404, f"this server has no model that {verb}; it serves {_listed(other)}", code="model_not_found", field="model")
        if name in other:
            raise Refusal(
                404, f"{name!r} is served, but is no model that {verb}; that is {_listed(own)}", code="model_not_found", field="model"
            )
        near = suggest(str(name), own)
        raise Refusal(404, f"the model {name!r} is not served here{near}; {_listed(own)} is", code="model_not_found", field="model")


def _listed(names: Sequence[str]) -> str:
    return " or ".join(map(repr, names))
