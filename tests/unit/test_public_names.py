"""Public names: the `__all__` of each package and of a few modules. All other names are internal."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest

import qwen3_integrations

PACKAGE = Path(qwen3_integrations.__file__).parent
PACKAGES = sorted(".".join(path.parent.relative_to(PACKAGE.parent).parts) for path in PACKAGE.rglob("__init__.py"))
MODULES = [f"qwen3_integrations.{name}" for name in ("errors", "langchain", "llama_index", "measures", "vectors")]
PAGES = [PACKAGE.parent / "README.md", *sorted((PACKAGE.parent / "docs").glob("*.md"))]


def order(name: str) -> tuple[bool, str]:
    """Constants first, as in the package's own `__all__`."""
    return not name.isupper(), name


@pytest.mark.parametrize("name", PACKAGES + MODULES)
def test_public_names_are_listed_exist_and_have_docstrings(name):
    module = import_module(name)
    listed = module.__all__
    assert module.__doc__
    assert listed == sorted(set(listed), key=order)
    for public in listed:
        assert not public.startswith("_")
        value = getattr(module, public)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__doc__, public


@pytest.mark.parametrize("name", PACKAGES)
def test_an_unknown_name_is_an_attribute_error(name):
    with pytest.raises(AttributeError, match="no attribute 'Enginne'"):
        import_module(name).Enginne  # noqa: B018


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_documentation_imports_public_names_only(page):
    for module, names in re.findall(r"^ *from (qwen3_integrations[\w.]*) import ([\w, ]+)", page.read_text(encoding="utf-8"), re.MULTILINE):
        assert {name.strip() for name in names.split(",")} <= set(import_module(module).__all__), module
