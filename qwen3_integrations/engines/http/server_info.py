"""What is known about a server, after its first contact: one value, which can be shown, kept, and loaded again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal
from urllib.parse import urlsplit

from qwen3_integrations.core.types import Task
from qwen3_integrations.core.validation import suggest
from qwen3_integrations.engines.http.caps import Caps
from qwen3_integrations.engines.http.dialects import DIALECTS, STANDARD, Dialect
from qwen3_integrations.errors import ConfigError, one_line

Counts = Literal["right", "guessed", "not reported", "not checked"]
"""What the token counts of the known pair showed: they are right; the model's family is only guessed; nothing."""


@dataclass(frozen=True, slots=True)
class Proof:
    """The result of a handshake.

    Attributes:
        width: Width of the server's embeddings; None for a reranker.
        instructed: False if the server applies its own template without the instruction.
        counts: What its token counts showed.
        mode: The handshake: `full`, `counts` or `off`.
    """

    width: int | None = None
    instructed: bool = True
    counts: Counts = "not checked"
    mode: str = "off"


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """A server as it describes itself, and as its answers show it.

    Attributes:
        url: The address to which prompts are posted.
        root: The base of the routes outside `/v1`.
        dialect: Its dialect.
        model: The name under which it serves the model.
        context: Tokens of the longest prompt that it accepts; None where it does not report it. For an older vLLM, one
            less than it reports.
        counts: Whether it counts tokens for clients (`/tokenize`).
        origin: The folder or name from which it loaded the model (vLLM's `root`); None where it does not report it.
        base: Of an adapter, the name of its model; None where the server does not report it.
        others: The other names that it serves.
        form: The name of the form of the body that it accepts; None before its first answer.
        ids: Whether it accepts token ids; None where that is not known.
        ordered: Whether its results without index are in the order of the request; None where that is not known.
        max_items: Number of prompts that it accepts in one request; None where that is not known.
        max_request_tokens: Number of tokens that it accepts in one request; None where that is not known.
        max_request_bytes: Size of a request that it accepts; None where that is not known.
        proof: The result of the handshake.
        notes: What was unexpected, as sentences.
        asked: The model's name that the caller passed.
        likely_form: The name of the form of the body that is tried first; None for the dialect's first.
        labels: Token ids of "yes" and "no", for a server that scores the tokens that a request names; None for others.
        other_urls: Routes that are tried if `url` does not exist. Empty after its first answer.
        other_models: Names that are tried if `model` is refused. Empty after its first answer.
    """

    url: str
    root: str
    dialect: Dialect
    model: str
    context: int | None
    counts: bool
    origin: str | None = None
    base: str | None = None
    others: tuple[str, ...] = ()
    form: str | None = None
    ids: bool | None = None
    ordered: bool | None = None
    max_items: int | None = None
    max_request_tokens: int | None = None
    max_request_bytes: int | None = None
    proof: Proof = Proof()
    notes: tuple[str, ...] = ()
    asked: str | None = None
    likely_form: str | None = None
    labels: tuple[int, ...] | None = None
    other_urls: tuple[str, ...] = ()
    other_models: tuple[str, ...] = ()

    def options(self) -> dict[str, Any]:
        """Options of an engine that skips the first contact: `engine_options=engine.server.options()`. They can be kept as JSON.

        The server is then trusted as it was when these options were made: no list of models is requested, and no handshake is made.
        """
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        proof = {field.name: getattr(self.proof, field.name) for field in fields(Proof)}
        known = {name: value for name, value in plain.items() if name in _KEPT and value not in (None, ())}
        known |= {"task": self.dialect.task, "dialect": self.dialect.name, "proof": proof}
        return {"server": {name: list(value) if isinstance(value, tuple) else value for name, value in known.items()}}

    @property
    def fields(self) -> dict[str, Any]:
        """What each request of work contains beside the prompts."""
        return {} if self.labels is None else {"label_token_ids": list(self.labels)}

    @property
    def caps(self) -> Caps:
        """What it accepts in one request."""
        return Caps(self.max_items, self.max_request_tokens, self.max_request_bytes)

    def with_caps(self, caps: Caps) -> ServerInfo:
        """The same server with other limits of one request."""
        return replace(self, max_items=caps.items, max_request_tokens=caps.tokens, max_request_bytes=caps.size)

    @property
    def quirks(self) -> tuple[str, ...]:
        """What differs from a plain server of this dialect, in a few words each."""
        caps = {"items": self.max_items, "tokens": self.max_request_tokens, "bytes": self.max_request_bytes}
        found = [] if self.form in (None, STANDARD) else [f"body: {self.form}"]
        found += [f"at most {cap} {unit} per request" for unit, cap in caps.items() if cap is not None]
        found += ["no token ids"] if self.ids is False else []
        found += ["no instruction"] if not self.proof.instructed else []
        found += ["results without index"] if self.ordered else []
        return tuple(found)

    @property
    def proved(self) -> str:
        """What the handshake showed, in a few words."""
        if self.proof.mode == "off":
            return "not checked"
        return f"handshake {self.proof.mode}, token counts {self.proof.counts}"

    @property
    def summary(self) -> str:
        """Route, proof and quirks in a line."""
        return one_line("; ".join([urlsplit(self.url).path, self.proved, *self.quirks]))

    def __str__(self) -> str:
        return one_line(f"{self.model} on {self.url}, dialect {self.dialect.name}; {'; '.join([self.proved, *self.quirks])}")


_KEPT = frozenset(field.name for field in fields(ServerInfo)) - {"dialect", "proof", "likely_form", "other_urls", "other_models"}


def loaded(values: Mapping[str, Any], task: Task, model: str, base_url: str) -> ServerInfo:
    """The server that `ServerInfo.options` describes.

    Args:
        values: The value of the option `server`.
        task: The engine's task.
        model: The model's name that the caller passed.
        base_url: The server's address.

    Raises:
        ConfigError: If the values are not those of `ServerInfo.options`, or those of another task, model or host.
    """
    if not isinstance(values, Mapping):
        raise _unusable(f"must be the value that engine.server.options() made, not {type(values).__name__}")
    known = {*_KEPT, "task", "dialect", "proof"}
    for name in values:
        if name not in known:
            raise _unusable(f"has the unknown field {name!r}{suggest(str(name), sorted(known))}")
    if values.get("task") != task:
        raise _unusable(f"describes a server for {values.get('task')!r}, not for {task!r}")
    if values.get("asked", model) != model:
        raise _unusable(f"describes a server of {values['asked']!r}, not of {model!r}")
    dialect = next((each for each in DIALECTS if (each.name, each.task) == (values.get("dialect"), task)), None)
    if dialect is None:
        raise _unusable(f"has the unknown dialect {values.get('dialect')!r}")
    plain: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items() if name in _KEPT}
    try:
        proof = Proof(**values.get("proof", {}))
        info = replace(ServerInfo("", "", dialect, model, None, counts=False), **plain, dialect=dialect, proof=proof)
    except TypeError as error:
        raise _unusable(f"can't be read: {error}") from error
    _check_types(info)
    if info.form is not None and info.form not in [form.name for form in dialect.forms]:
        raise _unusable(f"has the unknown form {info.form!r}")
    for url in (info.url, info.root):  # texts and keys go to the server that base_url names, and to no other
        if urlsplit(url)[:2] != urlsplit(base_url)[:2]:
            raise _unusable(f"describes {url or 'no address'}, not {base_url}")
    return info


def _check_types(info: ServerInfo) -> None:
    optional = [text for text in (info.origin, info.base, info.asked) if text is not None]
    texts = (info.url, info.root, info.model, *info.others, *info.notes, *optional)
    numbers = (info.context, info.max_items, info.max_request_tokens, info.max_request_bytes, info.proof.width)
    flags = (info.counts, info.proof.instructed, info.ids or False, info.ordered or False)
    right = info.labels is None or (
        isinstance(info.labels, tuple) and len(info.labels) == 2 and all(type(each) is int for each in info.labels)
    )
    right = right and all(isinstance(text, str) for text in texts) and all(isinstance(flag, bool) for flag in flags)
    if not right or any(number is not None and (type(number) is not int or number < 1) for number in numbers):
        raise _unusable("has a field of another type than engine.server.options() makes")


def _unusable(reason: str) -> ConfigError:
    return ConfigError(reason, option="server", advice="Leave it out, so that the server is checked again")
