"""Which arguments of a call a LangChain retriever, vector store or reranker reads, so that others can be refused.

LangChain does not pass all of `invoke(query, **arguments)` on: a retriever whose `_get_relevant_documents` names no arguments gets none,
and a store whose search has `**kwargs` may ignore unknown arguments. If a filter by tenant is dropped, users see documents of other
tenants.
"""

from __future__ import annotations

import dis
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import reduce
from types import CodeType
from typing import Any, Protocol, runtime_checkable

from langchain_core.documents import BaseDocumentCompressor
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import Runnable, RunnableLambda, RunnableSequence, RunnableWithFallbacks
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.runnables.configurable import DynamicRunnable, RunnableConfigurableAlternatives
from langchain_core.vectorstores import VectorStore, VectorStoreRetriever

Names = frozenset[str] | None
"""Names of arguments; None for any name."""

_NONE: frozenset[str] = frozenset()
_PASSED_BY_LANGCHAIN = frozenset({"self", "query", "input", "config", "run_manager", "callbacks"})
_READ_BY_INVOKE = frozenset({"verbose", "run_id"})
"""Arguments that the `invoke` of every retriever reads."""

_SEARCH_PARAMETERS = frozenset({"self", "query", "k", "embedding"})
"""Parameters of search methods that are never arguments of a call."""

_SEARCHES: Mapping[str, str] = {
    "similarity": "similarity_search",
    "similarity_score_threshold": "similarity_search_with_relevance_scores",
    "mmr": "max_marginal_relevance_search",
}
"""Search type -> the store's method that a `VectorStoreRetriever` calls."""


@runtime_checkable
class Declaring(Protocol):
    """A retriever that declares the arguments that it reads."""

    def _call_arguments(self, *, asynchronous: bool) -> Names: ...


def read_by(retriever: object, *, asynchronous: bool) -> Names:
    """The arguments of `invoke`, or of `ainvoke`, that a retriever or vector store reads.

    Args:
        retriever: A vector store, a retriever, or a runnable from a query to documents.
        asynchronous: True for `ainvoke`.

    Returns:
        Their names; None if it reads arguments of any name. Empty for an unknown kind of runnable.
    """
    if isinstance(retriever, Declaring):
        return retriever._call_arguments(asynchronous=asynchronous)
    if isinstance(retriever, VectorStore):
        return _read_by_search(type(retriever), "similarity", asynchronous)
    if isinstance(retriever, BaseRetriever):
        return _read_by_retriever(retriever, asynchronous)
    if isinstance(retriever, RunnableLambda):
        function = _function_of(retriever, asynchronous)
        owner, name = getattr(function, "__self__", None), getattr(function, "__name__", "")
        if isinstance(owner, Runnable) and name in ("invoke", "ainvoke"):  # its own **kwargs say nothing about the arguments it reads
            return read_by(owner, asynchronous=name == "ainvoke")
        return _keywords(function, skip=1)
    return _common(read_by(inner, asynchronous=asynchronous) for inner in _passed_on_to(retriever))


def _function_of(runnable: RunnableLambda[Any, Any], asynchronous: bool) -> Callable[..., Any]:
    return (asynchronous and getattr(runnable, "afunc", None)) or getattr(runnable, "func", None) or runnable.afunc


def bound_in_vain(runnable: object, *, asynchronous: bool) -> Iterator[tuple[str, str]]:
    """The arguments that were bound to a retriever with `bind` but that it would drop, each with the class of the retriever."""
    if isinstance(runnable, RunnableBindingBase):
        for retriever in _retrievers_of(runnable):
            read = read_by(retriever, asynchronous=asynchronous)
            dropped = set[str]() if read is None else set(runnable.kwargs) - read - _READ_BY_INVOKE
            yield from ((name, type(retriever).__name__) for name in sorted(dropped))
    for inner in _passed_on_to(runnable):
        yield from bound_in_vain(inner, asynchronous=asynchronous)


def _retrievers_of(runnable: object) -> Iterator[BaseRetriever]:
    """The retrievers to which a composed runnable passes its arguments."""
    if isinstance(runnable, BaseRetriever):
        yield runnable
    for inner in _passed_on_to(runnable):
        yield from _retrievers_of(inner)


CUT = frozenset({"top_n", "score_threshold"})
"""The arguments of a call that limit a reranker's result."""


def cut_arguments(reranker: BaseDocumentCompressor | Runnable[Any, Any], *, asynchronous: bool) -> frozenset[str]:
    """Which of `top_n` and `score_threshold` a compressor accepts, as arguments or as fields of a copy.

    A runnable that is no compressor accepts those that all runnables accept to which it passes its arguments.
    """
    if isinstance(reranker, BaseDocumentCompressor):
        return CUT & (_compressor_keywords(reranker, asynchronous) | set(type(reranker).model_fields))
    return CUT & (_read_by_reranker(reranker, asynchronous) or _NONE)


def _read_by_reranker(reranker: object, asynchronous: bool) -> Names:
    if isinstance(reranker, BaseDocumentCompressor):
        return _compressor_keywords(reranker, asynchronous)
    if isinstance(reranker, RunnableLambda):
        names = _keywords(_function_of(reranker, asynchronous), skip=1)
        return CUT if names is None else names
    return _common(_read_by_reranker(inner, asynchronous) for inner in _passed_on_to(reranker))


def with_cut(
    reranker: BaseDocumentCompressor, cut: Mapping[str, Any], *, asynchronous: bool
) -> tuple[BaseDocumentCompressor, dict[str, Any]]:
    """The compressor to call for a cut, and the arguments of that call. The caller's compressor is not changed.

    Args:
        reranker: The caller's compressor.
        cut: Values by name; each name is in `cut_arguments`.
        asynchronous: True if `acompress_documents` will be called.
    """
    keywords = _compressor_keywords(reranker, asynchronous)
    fields = {name: value for name, value in cut.items() if name not in keywords}
    changed = reranker.model_copy(update=fields) if fields else reranker
    return changed, {name: value for name, value in cut.items() if name in keywords}


def _compressor_keywords(reranker: BaseDocumentCompressor, asynchronous: bool) -> frozenset[str]:
    return _keywords(reranker.acompress_documents if asynchronous else reranker.compress_documents) or _NONE


def _passed_on_to(runnable: object) -> list[object]:
    """The runnables to which a composed runnable passes its arguments; empty if it passes them to none."""
    if isinstance(runnable, RunnableBindingBase):
        return [runnable.bound]
    if isinstance(runnable, RunnableSequence):
        return [runnable.first]
    if isinstance(runnable, RunnableWithFallbacks):
        return list(runnable.runnables)
    if isinstance(runnable, RunnableConfigurableAlternatives):
        return [runnable.default, *runnable.alternatives.values()]
    if isinstance(runnable, DynamicRunnable):
        return [runnable.default]
    return []


def _read_by_retriever(retriever: BaseRetriever, asynchronous: bool) -> Names:
    kind = type(retriever)
    if kind.invoke is not BaseRetriever.invoke or kind.ainvoke is not BaseRetriever.ainvoke:
        # Such a class, for example EnsembleRetriever, may not pass its **kwargs on.
        return _keywords(kind.ainvoke if asynchronous else kind.invoke) or _NONE
    names = _keywords(kind._get_relevant_documents)
    if asynchronous:
        names = _common([names, _keywords(kind._aget_relevant_documents)])
    if names is not None:
        return names
    if isinstance(retriever, VectorStoreRetriever):
        read = _read_by_search(type(retriever.vectorstore), retriever.search_type, asynchronous)
        return read if read is None else read | retriever.search_kwargs.keys() - _SEARCH_PARAMETERS
    if "base_retriever" in kind.model_fields:  # LangChain's ContextualCompressionRetriever
        return read_by(getattr(retriever, "base_retriever"), asynchronous=asynchronous)  # noqa: B009  no field of the base class
    return None


def _read_by_search(store: type[VectorStore], search_type: str, asynchronous: bool) -> frozenset[str]:
    """Parameters of a store's search method, and of the store's other search methods to which it passes `**kwargs`.

    The filter may be a parameter of any of these methods: in langchain-qdrant of the first, in `InMemoryVectorStore` of the third. A method
    is searched if its name contains "search" and the code of a method before it mentions the name.
    """
    start = _SEARCHES.get(search_type, "similarity_search")
    waiting, names = [f"a{start}" if asynchronous else start], set[str]()
    seen = set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for method in _definitions(store, name):
            parameters = inspect.signature(method).parameters.values()
            names |= {each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}
            rest = next((each.name for each in parameters if each.kind is each.VAR_KEYWORD), None)
            if rest is None or not _loads(method.__code__, rest):
                break
            mentioned = set(_mentioned(method.__code__))
            waiting += [other for other in mentioned if "search" in other and callable(getattr(store, other, None))]
            if "super" not in mentioned:
                break
    return frozenset(names) - _SEARCH_PARAMETERS


def _definitions(kind: type, name: str) -> Iterator[Any]:
    """The definitions of a method: first the one that is called, then those that `super()` calls."""
    for base in kind.__mro__:
        method = inspect.unwrap(vars(base)[name]) if name in vars(base) else None
        if inspect.isfunction(method):
            yield method


def _loads(code: CodeType, variable: str) -> bool:
    """Whether a function, or a function inside it, reads a variable."""
    loaded = (each.argval for each in dis.get_instructions(code) if "LOAD" in each.opname)
    return variable in code.co_cellvars or any(variable in (name if isinstance(name, tuple) else (name,)) for name in loaded)


def _mentioned(code: CodeType) -> Iterator[str]:
    """Global names and attributes in a function's code, functions inside it included."""
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _mentioned(inner)


def _keywords(function: Callable[..., Any], skip: int = 0) -> Names:
    """Names of a function's keyword arguments, without those that LangChain passes; None if it accepts any name."""
    parameters = list(inspect.signature(function).parameters.values())[skip:]
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return None
    named = {each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}
    return frozenset(named) - _PASSED_BY_LANGCHAIN


def _common(names: Iterable[Names]) -> Names:
    """The names that all read; empty for an empty list."""
    listed = list(names)
    return reduce(lambda left, right: right if left is None else left if right is None else left & right, listed) if listed else _NONE
