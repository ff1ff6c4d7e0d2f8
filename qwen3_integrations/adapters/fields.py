"""Types of the components' settings: pydantic fields with the core's checks."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ValidationInfo

from qwen3_integrations.core.preparation import OnBadText, Preparation, Preprocess
from qwen3_integrations.core.tokenizer import checked_text
from qwen3_integrations.core.validation import check_choice, checked_cut, checked_dimensions, optional_whole_number, seconds
from qwen3_integrations.engines.registry import checked_backend
from qwen3_integrations.models.catalog import CHECKPOINTS, model_name


def _model(value: Any) -> Any:
    return model_name(value)


def _instruction(value: Any) -> Any:
    return checked_text(value, "instruction")


def _declared_instruction(value: Any) -> Any:
    return None if value is None else checked_text(value, "instruction")


def _declared_count(value: Any, info: ValidationInfo) -> int | None:
    return optional_whole_number(value, str(info.field_name))


def _top_n(value: Any) -> int | None:
    return checked_cut(value, None)[0]


def _score_threshold(value: Any) -> float | None:
    return checked_cut(None, value)[1]


def _on_error(value: Any) -> Any:
    check_choice(value, ("raise", "keep_order"), "on_error")
    return value


def _deadline(value: Any) -> float | None:
    return None if value is None else seconds(value, "deadline_s")


def _fetch_k(value: Any) -> int | None:
    return optional_whole_number(value, "fetch_k", note=", or None for the retriever's own")


def _dimensions(value: Any, info: ValidationInfo) -> int | None:
    model = str(info.data.get("model", "the model"))
    known = CHECKPOINTS.get(model)
    return checked_dimensions(value, known.width if known else None, model)


def _bad_text(value: Any) -> OnBadText:
    return Preparation(on_bad_text=value).on_bad_text


def _document_function(value: Any) -> Any:
    return Preparation(preprocess=value).preprocess


BadText = Annotated[OnBadText, BeforeValidator(_bad_text)]
DocumentFunction = Annotated[Preprocess | None, BeforeValidator(_document_function)]
"""A function from a document to the text that the model reads."""

Instruction = Annotated[str, BeforeValidator(_instruction)]
DeclaredInstruction = Annotated[str | None, BeforeValidator(_declared_instruction)]
"""An instruction; None for what the model's folder declares."""

ModelName = Annotated[str, BeforeValidator(_model)]
"""A model's name; a `Path` becomes one."""

BackendName = Annotated[str, BeforeValidator(checked_backend)]
DeclaredCount = Annotated[int | None, BeforeValidator(_declared_count)]
"""A whole number of at least 1, where NumPy's integers become `int`; None for what the model's folder declares."""

Dimensions = Annotated[int | None, BeforeValidator(_dimensions)]
TopN = Annotated[int | None, BeforeValidator(_top_n)]
FetchK = Annotated[int | None, BeforeValidator(_fetch_k)]
ScoreThreshold = Annotated[float | None, BeforeValidator(_score_threshold)]

OnError = Annotated[Literal["raise", "keep_order"], BeforeValidator(_on_error)]
"""What a failed call of a reranker does: raise the error, or return the documents in the retriever's order."""

Deadline = Annotated[float | None, BeforeValidator(_deadline)]
"""Seconds that a call may last; None for no limit."""
