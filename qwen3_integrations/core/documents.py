"""Text and metadata of documents of any framework. Duck typing: no framework is imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MOST_METADATA = 200
"""Maximum number of characters of a metadata value that are shown."""


def texts_of(documents: Sequence[Any], component: Any = None) -> list[str]:
    """The texts to rank: strings, or the content of LangChain documents, LlamaIndex nodes and nodes with score.

    Args:
        documents: Strings and documents, also mixed.
        component: A `Qwen3Rerank` of either framework; its `document_text` or `metadata_mode` selects the text.

    Raises:
        TypeError: For an item of another type; names its index.
    """
    if getattr(component, "document_text", None) is not None and all(hasattr(document, "page_content") for document in documents):
        return list(component._texts(documents))  # only the adapter joins metadata and content
    return [_text_of(document, index, getattr(component, "metadata_mode", None)) for index, document in enumerate(documents)]


def metadata_of(document: Any) -> dict[str, Any]:
    """A copy of the document's metadata; empty for a string."""
    metadata = getattr(document, "metadata", None)
    return dict(metadata) if isinstance(metadata, Mapping) else {}


def metadata_words(document: Any) -> dict[str, str]:
    """The metadata as text for display; long values are shortened."""
    words = {str(name): str(value) for name, value in metadata_of(document).items()}
    return {name: value if len(value) <= MOST_METADATA else value[: MOST_METADATA - 1] + "…" for name, value in words.items()}


def first_equals(texts: Sequence[str]) -> list[int | None]:
    """For each text, the index of the first earlier text that is equal except for white space; None if there is none."""
    first: dict[str, int] = {}
    found = [first.setdefault(" ".join(text.split()), index) for index, text in enumerate(texts)]
    return [None if at == index else at for index, at in enumerate(found)]


def _text_of(document: Any, index: int, metadata_mode: Any) -> str:
    if isinstance(document, str):
        return document
    content = getattr(document, "page_content", None)
    if isinstance(content, str):
        return content
    read = getattr(getattr(document, "node", document), "get_content", None)
    if not callable(read):
        raise TypeError(f"documents[{index}] is {type(document).__name__}, not a string, a LangChain document or a LlamaIndex node")
    return str(read() if metadata_mode is None else read(metadata_mode=metadata_mode))
