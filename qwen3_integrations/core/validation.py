"""Checks of arguments and options, in one place, so that the same mistake has the same message everywhere."""

from __future__ import annotations

import difflib
import math
import operator
from collections.abc import Iterable, Iterator, Mapping
from numbers import Real
from typing import Any, TypeVar

from qwen3_integrations.errors import ConfigError, InputError

T = TypeVar("T")

MIN_DIMENSIONS = 32
"""The smallest Matryoshka width of the published embedders. Source: their model cards."""


def check_options(given: Iterable[str], known: Iterable[str], owner: str) -> None:
    """Refuse unknown options, with the nearest known one.

    Args:
        given: Names of the options that were passed.
        known: Names of the options that `owner` has.
        owner: For the message.

    Raises:
        ConfigError: For the first unknown option.
    """
    names = sorted(known)
    for option in given:
        if option not in names:
            raise ConfigError(
                f"is not an option of {owner}{suggest(option, names)}", option=option, advice=f"The options are: {', '.join(names)}"
            )


def suggest(word: str, known: Iterable[str]) -> str:
    """`, did you mean 'x'?` or nothing."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f", did you mean {near[0]!r}?" if near else ""


def check_choice(value: object, choices: Iterable[str], name: str) -> None:
    """Refuse a value that is not one of a few words, with the nearest one.

    Args:
        value: The value to check.
        choices: The words.
        name: The option's name, for the message.

    Raises:
        ConfigError: If it is none of them.
    """
    words = list(choices)
    if not isinstance(value, str) or value not in words:
        raise ConfigError(f"must be one of {', '.join(words)}, not {_shown(value)}{suggest(str(value), words)}", option=name)


def checked_list(value: Iterable[T], name: str, what: str, example: str) -> list[T]:
    """The items as a list, after the check that it is an iterable of several items and not one of them.

    Args:
        value: The value to check.
        name: The argument's name, for the message.
        what: The items in the plural, for the message: `strings`.
        example: What to pass for one item: `[text]`.

    Raises:
        TypeError: `NAME must be a list of strings, not None`; for one string: `pass [text]`.
    """
    return list(checked_iterable(value, name, what, example))


def checked_iterable(value: Iterable[T], name: str, what: str, example: str) -> Iterator[T]:
    """As `checked_list`, without reading the items."""
    one = isinstance(value, str | bytes | Mapping) or any(hasattr(value, member) for member in _OF_ONE_DOCUMENT)
    if one or not isinstance(value, Iterable):
        found = f"one {type(value).__name__}: pass {example}" if one else kind_of(value)
        raise TypeError(f"{name} must be a list of {what}, not {found}")
    return iter(value)


_OF_ONE_DOCUMENT = ("page_content", "get_content")
"""Members of a document of LangChain and of LlamaIndex. Some of these classes are iterable: pydantic iterates over fields."""


def kind_of(value: object) -> str:
    """The type of a value for messages; a class of a package with the package's name: `langchain_core's Document`."""
    if value is None:
        return "None"
    package, name = type(value).__module__.partition(".")[0], type(value).__name__
    name = name if package in ("builtins", "__main__") else f"{package}'s {name}"
    if hasattr(value, "page_content"):
        return f"{name} (pass its page_content)"
    return f"{name} (pass its get_content())" if hasattr(value, "get_content") else name


def plain_text(text: Any) -> Any:
    """A scalar of PyArrow as a value of Python; everything else unchanged."""
    return text.as_py() if hasattr(text, "as_py") else text


def whole_number(value: object, name: str, least: int = 1, most: int | None = None, *, note: str = "", of_call: bool = False) -> int:
    """The value as an `int`, after the check that it is a whole number in a range.

    Whatever counts as an index in Python is a whole number, NumPy's integers too. Booleans, floats and strings are not.

    Args:
        value: The value to check.
        name: The option's name, for the message.
        least: The least allowed value.
        most: The greatest allowed value; None for no limit.
        note: Other allowed values, for the end of the message: `, or None for all`.
        of_call: Whether the value is an argument of a call, not a setting.

    Raises:
        ConfigError: `NAME must be a whole number from 1 to 10, not 2.5`; for an argument of a call an `InputError`.
    """
    try:
        number = None if _is_bool(value) else operator.index(value)  # type: ignore[arg-type]  # what is not an index raises TypeError
    except TypeError:
        number = None
    if number is None or number < least or (most is not None and number > most):
        span = f"of at least {least}" if most is None else f"from {least} to {most}"
        reason = f"must be a whole number {span}{note}, not {_shown(value)}"
        raise InputError(reason, argument=name) if of_call else ConfigError(reason, option=name)
    return number


def optional_whole_number(
    value: object, name: str, least: int = 1, most: int | None = None, *, note: str = ", or None", of_call: bool = False
) -> int | None:
    """As `whole_number`, for an option that may also be None."""
    return None if value is None else whole_number(value, name, least, most, note=note, of_call=of_call)


def fraction(value: object, name: str, *, zero: bool = False, note: str = "") -> float:
    """The value as a `float`, after the check that it is a number in (0, 1].

    Args:
        value: The value to check.
        name: The option's name, for the message.
        zero: Whether 0 is also allowed.
        note: As in `whole_number`.

    Raises:
        ConfigError: `NAME must be a number in (0, 1], not 2`.
    """
    if not _is_real(value) or not (0 <= value <= 1 if zero else 0 < value <= 1):  # type: ignore[operator]
        raise ConfigError(f"must be a number in {'[' if zero else '('}0, 1]{note}, not {_shown(value)}", option=name)
    return float(value)  # type: ignore[arg-type]  # a real number can be converted


def seconds(value: object, name: str) -> float:
    """The value as a `float`, after the check that it is a positive number of seconds.

    Args:
        value: The value to check.
        name: The option's name, for the message.

    Raises:
        ConfigError: `NAME must be a number of seconds greater than 0, not -1`.
    """
    if not _is_real(value) or not value > 0:  # type: ignore[operator]
        raise ConfigError(f"must be a number of seconds greater than 0, not {_shown(value)}", option=name)
    return float(value)  # type: ignore[arg-type]


def checked_budget(max_tokens: object, context: int | None) -> int:
    """The token budget: the value, or the model's context if that is less.

    Args:
        max_tokens: Length of the longest wanted prompt, in tokens.
        context: Length of the longest prompt that the model accepts; None if it is not known yet.

    Raises:
        ConfigError: If it is not a whole number of at least 1.
    """
    budget = whole_number(max_tokens, "max_tokens")
    return budget if context is None else min(budget, context)


def checked_dimensions(dimensions: object, width: int | None, model: str) -> int | None:
    """The dimensions, after the check that they are in the model's range.

    Args:
        dimensions: The wanted width; None for the model's width.
        width: The model's width; None if it is not known yet.
        model: The model, for the message.

    Raises:
        ConfigError: If it is not a whole number in [32, width]; for a model with a width below 32, only that width is allowed.
    """
    if width is None:
        return optional_whole_number(dimensions, "dimensions", MIN_DIMENSIONS, note=f" for {model}")
    return optional_whole_number(dimensions, "dimensions", min(MIN_DIMENSIONS, width), width, note=f" for {model}")


def checked_cut(top_n: object, score_threshold: object) -> tuple[int | None, float | None]:
    """Both limits of a ranking, after the check that they are in range.

    Raises:
        ConfigError: If `top_n` is not a whole number of at least 1, or the threshold is not a number in [0, 1].
    """
    threshold = None if score_threshold is None else fraction(score_threshold, "score_threshold", zero=True, note=", or None for any score")
    return optional_whole_number(top_n, "top_n", note=", or None for all"), threshold


def _is_bool(value: object) -> bool:
    """Whether a value is a boolean, or a NumPy boolean or tensor of booleans, which Python accepts as an index."""
    return isinstance(value, bool) or "bool" in str(getattr(value, "dtype", ""))


def _is_real(value: object) -> bool:
    return isinstance(value, Real) and not _is_bool(value) and not math.isnan(value)


def _shown(value: object) -> str:
    return f"{value!r:.80}"
