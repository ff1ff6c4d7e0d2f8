"""Answers of servers as data: their JSON, and the words and codes of an error, in the forms that servers use. Pure functions."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from qwen3_integrations.errors import printable

WORDS = 300
"""Characters of a server's words in a message."""

_SMALL = 1 << 14
"""Bytes; only bodies up to this size with status 200 are searched for an error."""

_CONTENT = frozenset(("data", "results", "output", "object_list", "tokens", "prompt", "model_id", "version", "embeddings"))
"""Fields of right answers; an answer with one of them is no error."""

_STATUS_OF_CODE = {
    "insufficient_quota": 402,
    "billing_hard_limit_reached": 402,
    "invalid_api_key": 401,
    "invalidapikey": 401,
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "throttling": 429,
    "model_not_found": 404,
    "invalid_request_error": 400,
    "invalidparameter": 400,
    "badrequesterror": 400,
    "context_length_exceeded": 400,
    "overloaded_error": 503,
    "server_error": 500,
}
"""HTTP statuses of error codes, in lower case. Source: API references of OpenAI, Anthropic and DashScope; vLLM's `BadRequestError`."""

_TOO_LONG = re.compile(
    r"too (?:long|large|big|many tokens)|(?:context|sequence|input|prompt) (?:length|window|size)|physical batch size|max_model_len|"
    r"(?:length|tokens?)\b[^.]{0,60}\bexceed|exceeds?[^.]{0,60}\b(?:tokens|length|context)\b|must have less than \d+ tokens|longer than|"
    r"(?:less|fewer|more) than \d+ tokens",
    re.IGNORECASE,
)
_ACCOUNT = re.compile(
    r"\bquota|\bbilling|\bbalance\b|\bcredits?\b|\bpayment|\barrears|\brate.?limit|per (?:minute|second|hour|day)\b", re.IGNORECASE
)
_MONEY = re.compile(r"\bquota|\bbilling|\bbalance\b|\bcredits?\b|\bpayment|\barrears|\bsubscription", re.IGNORECASE)
_NO_ROUTE = re.compile(
    r"(?:unexpected|unknown|no such|invalid) (?:endpoint|route|url|path)\b|(?:endpoint|route|url|path) (?:was )?not found|"
    r"^cannot (?:GET|POST) /",
    re.IGNORECASE,
)
"""Source: LM Studio's and Express's words for routes that do not exist."""
_NOT_A_NUMBER = re.compile(r"\bNaN\b|out of range float|not JSON compliant", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Statement:
    """What a server says about an error.

    Attributes:
        words: Its message in one line, at most `WORDS` characters, printable.
        codes: Its codes, types and names of parameters, in lower case.
        status: The status that its body names; None if it names none.
    """

    words: str
    codes: frozenset[str]
    status: int | None

    @property
    def is_too_long(self) -> bool:
        """Whether a text, or all texts together, are too long. Quotas and rates are exceeded too, and are not meant."""
        return not self.is_about_account and (_TOO_LONG.search(self.words) is not None or "context_length_exceeded" in self.codes)

    @property
    def is_about_route(self) -> bool:
        """Whether it says that a route does not exist."""
        return _NO_ROUTE.search(self.words) is not None

    @property
    def is_about_account(self) -> bool:
        """Whether it is about a quota, money or a rate."""
        return _ACCOUNT.search(self.words) is not None

    @property
    def is_about_money(self) -> bool:
        """Whether it is about a quota or money, which waiting does not mend."""
        return _MONEY.search(self.words) is not None

    @property
    def is_about_numbers(self) -> bool:
        """Whether the model computed a number that JSON does not have."""
        return _NOT_A_NUMBER.search(self.words) is not None


def parsed(content: bytes) -> Any:
    """JSON of any value.

    Raises:
        ValueError: If it is no JSON, not UTF-8, too deep, or holds an integer of thousands of digits.
    """
    try:
        return json.loads(content.decode("utf-8-sig"))
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None


def statement(content: bytes, hidden: Callable[[str], str] = str) -> Statement:
    """The words and codes of an error's body: JSON, HTML or text.

    Args:
        content: The body.
        hidden: Removes secrets from the words, before they are cut.
    """
    try:
        body = parsed(content[: 1 << 20])
    except ValueError:
        return Statement(_short(hidden(_text(content))), frozenset(), None)
    codes: set[str] = set()
    status: int | None = None
    for _ in range(6):  # `{"error": {"message": {"detail": ...}}}`
        if isinstance(body, list) and body:
            body = body[0]
        if not isinstance(body, Mapping):
            break
        for name in ("code", "type", "param", "status", "status_code"):
            value = body.get(name)
            if isinstance(value, str):
                codes.add(value[:100].lower())
                value = int(value) if value.isascii() and value.isdigit() and len(value) == 3 else _STATUS_OF_CODE.get(value.lower())
            if status is None and isinstance(value, int) and not isinstance(value, bool) and 400 <= value <= 599:
                status = value
        inner = next((body[name] for name in ("error", "errors", "message", "detail", "msg", "reason", "title") if body.get(name)), None)
        if inner is None:
            break
        body = inner
    text = body if isinstance(body, str) else json.dumps(body)[:2000] if body else ""
    return Statement(_short(hidden(text)), frozenset(codes), status)


def judged(status: int, content: bytes, headers: Mapping[str, str]) -> tuple[int, dict[str, str]]:
    """The status that an answer should have, and the headers that tell the SDK whether to retry.

    Args:
        status: The HTTP status.
        content: The body.
        headers: The headers of the answer.

    Returns:
        The status of the error for a 200 with an error in the body, otherwise the same status; and headers to add.
    """
    if 200 <= status < 300:
        found = error_within(content)
        if found is None:
            return status, {}
        if found.is_about_money and found.status is None:
            return 402, {}
        status = found.status or (404 if found.is_about_route else 400 if found.is_too_long else 500)
        return status, _retry(status, found)
    if status < 400 or "x-should-retry" in headers:
        return status, {}
    return status, _retry(status, statement(content))


def error_within(content: bytes) -> Statement | None:
    """The error in the body of an answer with status 200; None if there is none."""
    if len(content) > _SMALL:
        return None
    try:
        body = parsed(content)
    except ValueError:
        return None
    if not isinstance(body, Mapping) or any(body.get(name) for name in _CONTENT):
        return None
    named = body.get("error") or body.get("errors") or body.get("object") == "error" or body.get("success") is False
    coded = any(name in body for name in ("message", "detail", "msg")) and any(name in body for name in ("code", "status", "type"))
    return statement(content) if named or coded or isinstance(body.get("detail"), str) else None


def _retry(status: int, found: Statement) -> dict[str, str]:
    """A retry can't mend an error of the texts or the account; the SDK itself does not retry a 425."""
    hopeless = status in (501, 505) or (status >= 500 and (found.is_too_long or found.is_about_numbers))
    hopeless = hopeless or (status == 429 and (found.is_too_long or _is_spent(found)))
    if hopeless:
        return {"x-should-retry": "false"}
    return {"x-should-retry": "true"} if status == 425 else {}


def _is_spent(found: Statement) -> bool:
    return bool(found.codes & {"insufficient_quota", "billing_hard_limit_reached"})


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of a `Retry-After`, which is a number or a date. Source: RFC 9110, 10.2.3."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        waiting = float(value)
    except ValueError:
        try:
            waiting = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return max(waiting, 0.0) if math.isfinite(waiting) else None


def _text(content: bytes) -> str:
    """The words of a page or a text."""
    text = content[:20_000].decode("utf-8", "replace")
    if "<" not in text:
        return text
    title = re.search(r"<title[^>]*>([^<]*)", text, re.IGNORECASE)
    return (
        title[1]
        if title and title[1].strip()
        else re.sub(r"<(?:style|script)\b.*?</[^>]*>|<[^>]*>", " ", text, flags=re.IGNORECASE | re.DOTALL)
    )


def _short(text: str) -> str:
    words = printable(" ".join(text[:5000].split()))
    return words[:WORDS].rstrip(".") or "no reason given"
