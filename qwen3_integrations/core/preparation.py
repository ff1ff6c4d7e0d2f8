"""Texts as the model reads them: lone surrogates are refused or replaced, and the caller's `preprocess` changes documents."""

from __future__ import annotations

import functools
import hashlib
import inspect
import pickle
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import CodeType
from typing import Any, Literal, TypeAlias, get_args

from qwen3_integrations.core.validation import check_choice, kind_of
from qwen3_integrations.errors import ConfigError, PreprocessFailed

OnBadText: TypeAlias = Literal["error", "replace"]
"""What happens to a text with lone surrogates: an error, or U+FFFD for each."""

Preprocess: TypeAlias = Callable[[str], str]
"""From a document to the text that the model reads instead of it."""

_NONE: frozenset[int] = frozenset()
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """Texts as the model reads them.

    Attributes:
        texts: One for each of the caller's texts, in their order.
        replaced: Positions of the texts whose lone surrogates were replaced.
        preprocessed: Positions of the texts that `preprocess` changed.
    """

    texts: Sequence[str]
    replaced: frozenset[int] = _NONE
    preprocessed: frozenset[int] = _NONE


@dataclass(frozen=True, slots=True)
class Preparation:
    """What happens to texts before they become prompts. Results still have the caller's own texts.

    Args:
        on_bad_text: `error` for texts that are already checked; `replace` puts U+FFFD in the place of each lone surrogate.
        preprocess: Called with one document, which has no lone surrogates; returns the text that the model reads. None for no change.

    Raises:
        ConfigError: For another word, or a value that is not an ordinary function.
    """

    on_bad_text: OnBadText = "error"
    preprocess: Preprocess | None = None

    def __post_init__(self) -> None:
        check_choice(self.on_bad_text, get_args(OnBadText), "on_bad_text")
        check_preprocess(self.preprocess)

    def documents(self, texts: Sequence[str], argument: str) -> Prepared:
        """Documents as the model reads them.

        Args:
            texts: Strings; without lone surrogates if `on_bad_text` is `error`.
            argument: The argument's name, for messages.

        Raises:
            PreprocessFailed: If `preprocess` raises an error or does not return text; names the index.
        """
        repaired = self.queries(texts)
        if self.preprocess is None:
            return repaired
        made = [self._preprocessed(text, argument, index) for index, text in enumerate(repaired.texts)]
        replaced = {index for index, (_, is_replaced) in enumerate(made) if is_replaced}
        changed = {index for index, ((new, _), old) in enumerate(zip(made, repaired.texts, strict=True)) if new != old}
        return Prepared([text for text, _ in made], repaired.replaced | replaced, frozenset(changed))

    def queries(self, texts: Sequence[str]) -> Prepared:
        """Queries as the model reads them: `preprocess` is for documents only."""
        if self.on_bad_text == "error":
            return Prepared(texts)
        made = [without_surrogates(text) for text in texts]
        replaced = frozenset(index for index, (new, old) in enumerate(zip(made, texts, strict=True)) if new is not old)
        return Prepared(made, replaced) if replaced else Prepared(texts)

    def _preprocessed(self, text: str, argument: str, index: int) -> tuple[str, bool]:
        """What `preprocess` makes of a document, and whether lone surrogates in that were replaced."""
        assert self.preprocess is not None
        name = name_of(self.preprocess)
        try:
            made = self.preprocess(text)
        except Exception as error:
            raise PreprocessFailed(f"can't be preprocessed: {name} raised {_raised(error)}", argument=argument, index=index) from error
        if not isinstance(made, str):
            if inspect.iscoroutine(made):
                made.close()
            raise PreprocessFailed(
                f"can't be preprocessed: {name} returned {_kind(made)}, not a string",
                argument=argument,
                index=index,
                advice="It is called with one text, and must return one text",
            )
        valid = without_surrogates(made)
        if valid is not made and self.on_bad_text == "error":
            raise PreprocessFailed(
                f"can't be preprocessed: {name} returned a text with lone surrogates, which UTF-8 can't encode",
                argument=argument,
                index=index,
                advice="Repair the function, or set on_bad_text='replace'",
            )
        return valid, valid is not made


def without_surrogates(text: str) -> str:
    """The text with U+FFFD for each lone surrogate; a pair of surrogates becomes its character. The same object if there are none."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def check_preprocess(function: object) -> None:
    """Refuse what can't be called with a text.

    Raises:
        ConfigError: If it is neither None nor a function, or if it is an async function.
    """
    if function is None:
        return
    if not callable(function):
        raise ConfigError(f"must be a function from text to text, or None, not {kind_of(function)}", option="preprocess")
    called = getattr(function, "__call__", None)  # noqa: B004  the method of an object
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called):
        raise ConfigError(f"{name_of(function)} is async", option="preprocess", advice="Pass an ordinary function from text to text")


def check_can_be_pickled(function: Preprocess | None) -> None:
    """Refuse a function that pickle can't store.

    Raises:
        ConfigError: For a lambda, a function inside a function, and the like.
    """
    try:
        pickle.dumps(function)
    except Exception as error:
        kind = "a lambda" if "<lambda>" in name_of(function) else "a local function" if "<locals>" in name_of(function) else "of a kind"
        raise ConfigError(
            f"{name_of(function)} can't be pickled: it is {kind}{' that pickle refuses' if kind == 'of a kind' else ''}",
            option="preprocess",
            advice="Define the function with def at the top of a module",
        ) from error


def name_of(function: object) -> str:
    """The name of a function as `module:qualified.name`, for messages. The same name may mean another function tomorrow."""
    inner = _innermost(function)
    named = inner if hasattr(inner, "__qualname__") else type(inner)
    module = getattr(named, "__module__", None)
    return f"{module}:{named.__qualname__}" if module else str(named.__qualname__)


def identity_of(function: object) -> str:
    """The name of a function, and a digest of its own code, defaults, enclosed values and bound arguments.

    It differs when the function is edited, and between versions of Python. It does not cover the functions and globals that this one
    uses, and for an object of a class it covers the class's `__call__` only.
    """
    digest = hashlib.sha256(_ADDRESS.sub("", repr(_content(function))).encode(errors="surrogatepass")).hexdigest()[:16]
    return f"{name_of(function)} {digest}"


def _content(function: object) -> Any:
    if isinstance(function, functools.partial):
        return _content(function.func), function.args, sorted(function.keywords.items())
    called = getattr(function, "__func__", function)
    if not hasattr(called, "__code__"):
        called = getattr(type(function), "__call__", None)  # noqa: B004  its code, not whether it exists
    code = getattr(called, "__code__", None)
    if code is None:
        return name_of(function)
    cells = [_enclosed(cell) for cell in getattr(called, "__closure__", None) or ()]
    return _code(code), getattr(called, "__defaults__", None), getattr(called, "__kwdefaults__", None), cells


def _enclosed(cell: Any) -> str:
    try:
        value = cell.cell_contents
    except ValueError:  # an empty cell
        return ""
    return name_of(value) if callable(value) else repr(value)


def _code(code: CodeType) -> Any:
    return code.co_code, code.co_names, code.co_varnames, [_constant(each) for each in code.co_consts]


def _constant(value: object) -> Any:
    if isinstance(value, frozenset):  # its order differs between processes
        return sorted(map(repr, value))
    return _code(value) if isinstance(value, CodeType) else value


def _innermost(function: object) -> object:
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _raised(error: Exception) -> str:
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words:.300}" if words else type(error).__name__


def _kind(value: object) -> str:
    return f"a {kind_of(value)} of {len(value)}" if isinstance(value, list | tuple | set | dict) else kind_of(value)
