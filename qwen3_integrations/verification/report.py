"""The result of `verify`: a `Report` with one `Check` for each check."""

from __future__ import annotations

import html
from dataclasses import asdict, dataclass
from typing import Any, Literal

from qwen3_integrations.core.types import Task
from qwen3_integrations.engines.http.server_info import ServerInfo
from qwen3_integrations.errors import one_line

State = Literal["passed", "warned", "failed", "skipped"]
"""`warned` does not fail a report; the detail of `skipped` says why the check could not be made."""


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Attributes:
        name: Its name, one or two words.
        state: Its result.
        detail: The observation.
        fix: How to fix it; empty where nothing needs to be fixed.
    """

    name: str
    state: State
    detail: str
    fix: str = ""

    def __post_init__(self) -> None:
        for name in ("name", "detail", "fix"):  # they may have words of the server
            object.__setattr__(self, name, one_line(getattr(self, name)))


@dataclass(frozen=True, slots=True)
class Report:
    """All checks of one endpoint.

    Attributes:
        url: The server's address, without credentials.
        task: `embed` or `rerank`; None where that could not be found out.
        model: The model's name on the server, or the requested one; None where neither is known.
        dialect: The server's dialect, such as `vllm`, `openai` or `rerank`; None where it could not be found out.
        checks: In the order they were made.
        server: What the server's answers showed; None where it can't be used. `report.server.options()` are options of an engine that
            skips the first contact.
    """

    url: str
    task: Task | None
    model: str | None
    dialect: str | None
    checks: tuple[Check, ...]
    server: ServerInfo | None = None

    @property
    def ok(self) -> bool:
        """True when no check failed; warnings do not count."""
        return not any(check.state == "failed" for check in self.checks)

    @property
    def title(self) -> str:
        """Address, model, task and dialect in a line."""
        if self.dialect is None:
            return one_line(self.url)
        return one_line(f"{self.url}: {self.model} for {self.task}, dialect {self.dialect}")

    @property
    def summary(self) -> str:
        """`wrong: 2 failed, 9 passed` or `right: 1 warned, 10 passed`."""
        counts = {state: sum(check.state == state for check in self.checks) for state in ("failed", "warned", "passed", "skipped")}
        return ("right: " if self.ok else "wrong: ") + ", ".join(f"{count} {state}" for state, count in counts.items() if count)

    @property
    def fixes(self) -> dict[str, list[str]]:
        """Fix -> the names of the checks that need it."""
        found: dict[str, list[str]] = {}
        for check in self.checks:
            if check.fix:
                found.setdefault(check.fix, []).append(check.name)
        return found

    def __getitem__(self, name: str) -> Check:
        """The check of that name.

        Raises:
            KeyError: If there is none; lists the names.
        """
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(f"no check {name!r}; the checks are: {', '.join(check.name for check in self.checks)}")

    def to_dicts(self) -> list[dict[str, Any]]:
        """The checks as plain dictionaries: name, state, detail, fix."""
        return [asdict(check) for check in self.checks]

    def __str__(self) -> str:
        """The report as text: one line for each check and each fix, without line breaks inside."""
        width = max((len(check.name) for check in self.checks), default=0)
        lines = [f"{check.state:<7}  {check.name:<{width}}  {check.detail}" for check in self.checks]
        fixes = [f"fix for {', '.join(names)}: {fix}" for fix, names in self.fixes.items()]
        learned = [f"learned: {self.server.summary}"] if self.server else []
        return "\n".join([self.title, *lines, *fixes, *learned, self.summary])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{check.state}</td><td style='text-align:left'>{html.escape(check.name)}</td>"
            f"<td style='text-align:left'>{html.escape(check.detail)}"
            + (f"<br><i>{html.escape(check.fix)}</i>" if check.fix else "")
            + "</td></tr>"
            for check in self.checks
        )
        learned = f"<br>learned: {html.escape(self.server.summary)}" if self.server else ""
        return (
            f"<table><caption style='text-align:left'><b>{html.escape(self.title)}</b><br>{html.escape(self.summary)}{learned}</caption>"
            "<thead><tr><th scope='col'>state</th><th scope='col' style='text-align:left'>check</th>"
            f"<th scope='col' style='text-align:left'>detail</th></tr></thead><tbody>{rows}</tbody></table>"
        )
