"""Checks of what a client says about long texts."""

from __future__ import annotations

from qwen3_integrations.server.refusal import Refusal


def check_not_cut(first: int | None, max_tokens: int, field: str) -> None:
    """Refuse texts that were cut, for a client that says `truncate: false`.

    Args:
        first: Position of the first text that was cut; None if none was; -1 if it is not known which.
        max_tokens: The budget of a prompt, in tokens.
        field: The field with the texts.

    Raises:
        Refusal: 413, if a text was cut.
    """
    if first is None:
        return
    place = f"{field}[{first}]" if first >= 0 else f"a text of {field}"
    reason = f"{place} has more than the {max_tokens} tokens that are read with its prompt, and truncate is false"
    raise Refusal(413, reason, code="context_length_exceeded", field=field, index=first if first >= 0 else None)


def check_truncation_direction(direction: str) -> None:
    """Refuse a cut at the left: only the end of a document gives way.

    Raises:
        Refusal: 422.
    """
    if direction.lower() != "right":
        reason = "documents are cut at their end; truncation_direction must be right"
        raise Refusal(422, reason, code="invalid_field", field="truncation_direction")
