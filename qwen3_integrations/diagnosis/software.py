"""Python, this package and its optional dependencies, compared with the bounds in its own metadata."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from qwen3_integrations.diagnosis.finding import Finding

DISTRIBUTION = "qwen3-integrations"

_OTHERWISE_CHECKED = ("all", "vllm")
"""Extras without their own finding: `all` contains the others, and `vllm` is checked with the GPU."""


def version_of(name: str) -> str | None:
    """A distribution's version; None where it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def needs_of(lines: Iterable[str], extra: str = "") -> list[Requirement]:
    """The requirements of an extra, or of the package itself, on this platform.

    Args:
        lines: A distribution's `Requires-Dist`.
        extra: The extra's name; empty for the package itself.
    """
    parsed = [Requirement(line) for line in lines]
    always = [need for need in parsed if need.marker is None or need.marker.evaluate({"extra": ""})]
    if not extra:
        return always
    return [need for need in parsed if need not in always and (need.marker is None or need.marker.evaluate({"extra": extra}))]


def is_within(version: str, bounds: SpecifierSet) -> bool:
    """Whether a version is within bounds; pre-releases count."""
    return bounds.contains(version, prereleases=True)


def compare(
    area: str, subject: str, needs: Iterable[Requirement], find: Callable[[str], str | None], *, optional: bool, install: str
) -> Finding:
    """Compare installed distributions with requirements.

    Args:
        area, subject: As in `Finding`.
        needs: The requirements.
        find: Name of a distribution -> its version, or None.
        optional: Whether they may be missing.
        install: The pip command that installs all of them.
    """
    versions = {need: find(need.name) for need in needs}
    missing = [need.name for need, version in versions.items() if version is None]
    outside = {need: version for need, version in versions.items() if version is not None and not is_within(version, need.specifier)}
    if missing:
        text = f"{'not installed' if optional else 'broken'}: {', '.join(missing)} missing"
        return Finding(area, subject, "note" if optional else "problem", text, install)
    if outside:
        text = "; ".join(f"{need.name} {version} is not among the tested {need.specifier}" for need, version in outside.items())
        return Finding(area, subject, "warning", text, pip_line(outside))
    return Finding(area, subject, "ok", ", ".join(f"{need.name} {version}" for need, version in versions.items()))


def pip_line(needs: Iterable[Requirement]) -> str:
    """The pip command for distributions within their bounds."""
    return "pip install " + " ".join(f"'{need.name}{need.specifier}'" for need in needs)


def python() -> list[Finding]:
    """The interpreter, and whether it is that of a virtual environment."""
    bounds = SpecifierSet(_metadata("Requires-Python")[0])
    return [python_finding(platform.python_version(), bounds, in_environment=sys.prefix != sys.base_prefix or "CONDA_PREFIX" in os.environ)]


def python_finding(version: str, bounds: SpecifierSet, *, in_environment: bool) -> Finding:
    """The finding about an interpreter, from its version and whether it is in a virtual environment."""
    if not is_within(version, bounds):
        return Finding("Python", version, "problem", f"this package needs Python {bounds}", "python3.11 -m venv .venv")
    if not in_environment:
        fix = "python3 -m venv .venv && . .venv/bin/activate"
        return Finding("Python", version, "note", f"in no virtual environment: {sys.prefix}", fix)
    return Finding("Python", version, "ok", f"in the environment {sys.prefix}")


def package() -> list[Finding]:
    """This package and its base requirements."""
    place = Path(__file__).parents[1]
    version = version_of(DISTRIBUTION)
    if version is None:
        return [Finding("package", DISTRIBUTION, "problem", f"runs from {place}, but is not installed", f"pip install -e '{place.parent}'")]
    needs = needs_of(importlib.metadata.requires(DISTRIBUTION) or ())
    install = f"pip install --upgrade {DISTRIBUTION}"
    return [
        Finding("package", DISTRIBUTION, "ok", f"{version} in {place}"),
        compare("package", "always needed", needs, version_of, optional=False, install=install),
    ]


def extras() -> list[Finding]:
    """The extras."""
    lines = importlib.metadata.requires(DISTRIBUTION) or ()
    return [
        compare("extras", extra, needs_of(lines, extra), version_of, optional=True, install=f"pip install '{DISTRIBUTION}[{extra}]'")
        for extra in _metadata("Provides-Extra")
        if extra not in _OTHERWISE_CHECKED
    ]


def bounds_of(extra: str, name: str) -> SpecifierSet:
    """The tested versions of a distribution in an extra; any version if none is declared."""
    needs = needs_of(importlib.metadata.requires(DISTRIBUTION) or (), extra)
    return next((need.specifier for need in needs if need.name == name), SpecifierSet())


def _metadata(field: str) -> list[str]:
    return importlib.metadata.metadata(DISTRIBUTION).get_all(field) or []
