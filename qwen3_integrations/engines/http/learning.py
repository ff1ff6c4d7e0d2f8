"""One request to a server of which the route, the accepted body or the model's spelling may not be known: they are found by trying."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

from qwen3_integrations.core.types import Prompt
from qwen3_integrations.engines.http.bodies import TEXTS, Form
from qwen3_integrations.engines.http.dialects import Answer
from qwen3_integrations.engines.http.numbers import check_finite
from qwen3_integrations.engines.http.server_info import ServerInfo
from qwen3_integrations.engines.http.transport import one_of_many_forms
from qwen3_integrations.errors import BadReply, EngineError, ModelNotServed, RequestRefused, RouteNotServed, ServerFailed, ServerUnreachable

Post = Callable[[str, Mapping[str, Any], Callable[[Any], Answer]], Awaitable[Answer]]
"""Posts JSON to an address and reads the answer's JSON."""

_FORM_STATUSES = (400, 415, 422, 500)
"""Statuses with which servers refuse a field of the body, or one of its values."""


async def ask_and_learn(
    server: ServerInfo, prompts: Sequence[Prompt], post: Post, check: Callable[[Answer], None] = lambda _: None
) -> tuple[Answer, dict[str, Any]]:
    """Send prompts in one request; until the server's first answer, in other forms and to other routes, if it refuses the first.

    Args:
        server: What is known about the server.
        prompts: The prompts.
        post: Posts JSON to an address and reads the answer's.
        check: Checks an answer; what it refuses with a `BadReply` is requested again.

    Returns:
        The answer, and what it showed: new values for attributes of the `ServerInfo`. Empty if it showed nothing new.

    Raises:
        EngineError: If no attempt succeeds: the error that most probably says why.
    """
    sends_ids = server.ids is not False and all(map(server.dialect.sends_ids, prompts))
    if server.form is not None and (server.ids is not None or not sends_ids):
        form = next(form for form in server.dialect.forms if form.name == server.form)
        body = form.body(server.model, prompts) | server.fields
        return await post(server.url, body, lambda content: _read(content, server, len(prompts), check)), {}
    search = _Search(server, prompts, post, check, sends_ids, [])
    for model in (server.model, *server.other_models):
        for url in (server.url, *server.other_urls):
            if found := await search.at(url, model):
                return found
            if search.exists:
                break
    raise likeliest(search.failures)


def likeliest(failures: Sequence[EngineError]) -> EngineError:
    """Of several failures the first that is not about a missing route: the route that exists knows why it refuses."""
    return next((error for error in failures if not isinstance(error, RouteNotServed)), failures[0])


def _read(content: Any, server: ServerInfo, count: int, check: Callable[[Answer], None]) -> Answer:
    answer = server.dialect.read(content, count)
    check_finite(answer.rows)
    check(answer)
    return answer


@dataclass(slots=True)
class _Search:
    """Tries the forms of a dialect's body.

    Attributes:
        server: What is known about the server.
        prompts: The prompts to send.
        post: Posts JSON to an address and reads the answer's.
        check: Checks an answer.
        sends_ids: Whether the first form sends token ids, which the server may refuse.
        failures: All failures, in their order.
        exists: Whether the last route exists.
        is_json: Whether the last answer is JSON.
    """

    server: ServerInfo
    prompts: Sequence[Prompt]
    post: Post
    check: Callable[[Answer], None]
    sends_ids: bool
    failures: list[EngineError]
    exists: bool = False
    is_json: bool = False

    async def at(self, url: str, model: str) -> tuple[Answer, dict[str, Any]] | None:
        """The answer of a route, and what it showed; None if the route does not exist, or refuses all forms.

        Raises:
            EngineError: For a failure that another form or route does not mend.
        """
        self.exists = False
        forms = self._forms()
        failures: list[EngineError] = []
        for number, form in enumerate([*forms, forms[0]]):
            is_last = number == len(forms)
            if is_last and not (len(forms) > 1 and failures and all(isinstance(failure, ServerFailed) for failure in failures)):
                break
            self.is_json = False
            try:
                answer = await self._posted(
                    url, form.body(model, self.prompts) | self.server.fields, is_one_of_many=len(forms) > 1 and not is_last
                )
            except (RouteNotServed, ModelNotServed) as error:
                self.failures.append(error)
                return None
            except BadReply as error:
                self.failures.append(error)
                if not self.is_json:  # a web page, for a route that does not exist
                    return None
                self.exists = True
                continue
            except ServerUnreachable as error:
                if not self.exists:
                    raise
                self.failures.append(error)  # after other answers, it breaks the connection for this form only
                return None
            except (RequestRefused, ServerFailed) as error:
                if error.status not in _FORM_STATUSES:
                    raise
                self.failures.append(error)
                failures.append(error)
                self.exists = True
                continue
            return answer, self._learned(url, model, form)
        return None

    async def _posted(self, url: str, body: Mapping[str, Any], *, is_one_of_many: bool) -> Answer:
        """Post a form of the body.

        Some servers answer 500 to a form that they can't read, so that is retried once. If all forms fail, the first is sent again with all
        retries, because a server may fail for a moment.
        """
        with one_of_many_forms() if is_one_of_many else nullcontext():
            return await self.post(url, body, self._read)

    def _read(self, content: Any) -> Answer:
        self.is_json = True
        return _read(content, self.server, len(self.prompts), self.check)

    def _forms(self) -> list[Form]:
        """The forms to try. Those with texts instead of ids differ only if there are ids."""
        known = self.server.form or self.server.likely_form
        forms = [form for form in self.server.dialect.forms if self.sends_ids or not form.name.startswith(TEXTS)]
        if self.server.form is not None:  # only whether the server takes ids is not known
            forms = [form for form in forms if form.name == known or form.name.startswith(TEXTS)]
        return sorted(forms, key=lambda form: form.name != known)

    def _learned(self, url: str, model: str, form: Form) -> dict[str, Any]:
        learned: dict[str, Any] = {"form": form.name, "url": url, "model": model, "other_urls": (), "other_models": ()}
        if self.sends_ids:
            learned["ids"] = not form.name.startswith(TEXTS)
        if not form.instructed:
            learned["proof"] = replace(self.server.proof, instructed=False)
        return learned
