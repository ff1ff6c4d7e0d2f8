"""`create_app`: embedders and rerankers as an ASGI application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from qwen3_integrations.core.embedder import Embedder
from qwen3_integrations.core.reranker import Reranker
from qwen3_integrations.server.answer import Answer
from qwen3_integrations.server.bodies import Body, ClassifyBody, EmbeddingsBody, RerankBody, ScoreBody, TeiEmbedBody, TokenizeBody
from qwen3_integrations.server.endpoint import Endpoint
from qwen3_integrations.server.keys import OPEN, KeyFile, KeyGuard, Keys
from qwen3_integrations.server.metrics import Metrics
from qwen3_integrations.server.refusal import Api, Refusal, body_of
from qwen3_integrations.server.routes import embeddings, rankings, scores
from qwen3_integrations.server.routes.about import about_routes
from qwen3_integrations.server.served import Served
from qwen3_integrations.server.service import Service
from qwen3_integrations.server.settings import ServerSettings

B = TypeVar("B", bound=Body)
Run: TypeAlias = Callable[[Service, B], Awaitable[Answer]]


def create_app(
    *,
    embedder: Embedder | None = None,
    reranker: Reranker | None = None,
    keys: str | Mapping[str, str] | KeyFile | None = None,
    settings: ServerSettings | None = None,
) -> ASGIApp:
    """An ASGI application with the routes of OpenAI, Cohere, Jina, Text Embeddings Inference and vLLM; see docs/server.md.

    Args:
        embedder: Answers `/v1/embeddings` and `/embed`.
        reranker: Answers `/rerank`, `/v1/rerank`, `/v2/rerank`, `/score` and `/classify`.
        keys: A key, or names and their keys, or a file of them. All routes but `/health` and `/ready` want one. None: no key.
        settings: Names and limits.

    Returns:
        An application for any ASGI server, such as `uvicorn.run(app)`. It doesn't close the engines.

    Raises:
        ConfigError: For no model, a wrong key, or one name for both models.

    Example:
        >>> from qwen3_integrations import Embedder, FakeEngine
        >>> from qwen3_integrations.server import create_app
        >>> app = create_app(embedder=Embedder(FakeEngine("embed")), keys="sk-example")
    """
    settings = settings or ServerSettings()
    return guarded(application(Service(Served(embedder, reranker, settings), settings, Metrics())), keys, settings)


def guarded(app: ASGIApp, keys: str | Mapping[str, str] | KeyFile | None, settings: ServerSettings) -> ASGIApp:
    """The application behind its keys."""
    if keys is None:
        return app
    known = keys if isinstance(keys, KeyFile) else Keys({"key": keys} if isinstance(keys, str) else dict(keys))
    return KeyGuard(app, known, (*OPEN, "/metrics") if settings.open_metrics else OPEN)


def application(service: Service) -> Starlette:
    """The application without keys."""
    routes: list[BaseRoute] = [Route(path, handler, methods=["GET"]) for path, handler in about_routes(service).items()]
    routes += [Route(endpoint.route, endpoint, methods=["POST"]) for endpoint in _endpoints(service)]
    return Starlette(routes=routes, exception_handlers={404: _no_route, 405: _no_method})


def _endpoints(service: Service) -> list[Endpoint[Any]]:
    """All routes that compute. Clients know the same API under several paths."""
    listed: list[Endpoint[Any]] = []

    def add(
        paths: Sequence[str],
        body: type[B],
        api: Callable[[B | None], Api],
        items: Callable[[B], str],
        tokens: Callable[[B], int],
        run: Run[B],
    ) -> None:
        listed.extend(Endpoint(service, path, body, api, items, tokens, run) for path in paths)

    add(["/v1/embeddings"], EmbeddingsBody, lambda _: "openai", lambda _: "input", embeddings.tokens_of_embeddings, embeddings.embeddings)
    add(["/embed", "/"], TeiEmbedBody, lambda _: "tei", lambda _: "inputs", embeddings.tokens_of_tei, embeddings.tei_embed)
    paths = ["/rerank", "/v1/rerank", "/v2/rerank"]
    add(paths, RerankBody, rankings.api_of, rankings.items_of, rankings.tokens_of_rerank, rankings.rerank)
    add(["/score", "/v1/score"], ScoreBody, lambda _: "vllm", lambda _: "text_2", scores.tokens_of_score, scores.score)
    add(["/classify"], ClassifyBody, lambda _: "vllm", lambda _: "input", scores.tokens_of_classify, scores.classify)
    add(["/tokenize"], TokenizeBody, lambda _: "vllm", lambda _: "prompt", scores.tokens_of_tokenize, scores.tokenize)
    return listed


async def _no_route(request: Request, _: Exception) -> Response:
    refusal = Refusal(404, f"there is no route {request.url.path!r}; docs/server.md lists all", code="no_route")
    return Response(orjson.dumps(body_of(refusal, "openai")), 404, media_type="application/json")


async def _no_method(request: Request, _: Exception) -> Response:
    refusal = Refusal(405, f"{request.url.path} does not take {request.method}", code="wrong_method")
    return Response(orjson.dumps(body_of(refusal, "openai")), 405, media_type="application/json")
