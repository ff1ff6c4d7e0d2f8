"""Routes that say what is served and how it is: models, health, version, metrics, TEI's `/info`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from qwen3_integrations import __version__
from qwen3_integrations.server.refusal import Refusal, body_of
from qwen3_integrations.server.service import Service

Handler = Callable[[Request], Awaitable[Response]]

OWNER = "qwen3-integrations"
"""`owned_by` in the list of models."""


def about_routes(service: Service) -> dict[str, Handler]:
    """Path -> handler of a GET request."""

    async def health(_: Request) -> Response:
        return Response(status_code=200)

    async def ready(_: Request) -> Response:
        try:
            service.ready()
        except Refusal as refusal:
            return Response(status_code=refusal.status, headers=dict(refusal.headers))
        return Response(status_code=200)

    async def models(_: Request) -> Response:
        return _answered(lambda: {"object": "list", "data": _models(service)})

    async def model(request: Request) -> Response:
        name = request.path_params["name"]
        found = [one for one in _models_or_none(service) if one["id"] == name]
        if not found:
            return _refused(Refusal(404, f"the model {name!r} is not served here", code="model_not_found"))
        return _json(found[0])

    async def version(_: Request) -> Response:
        return _json({"version": __version__})

    async def metrics(_: Request) -> Response:
        service.metrics.queued_tokens.set(service.admission.tokens)
        service.metrics.queued_requests.set(service.admission.requests)
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def info(_: Request) -> Response:
        return _answered(lambda: _info(service))

    return {
        "/health": health,
        "/ready": ready,
        "/v1/models": models,
        "/v1/models/{name:path}": model,
        "/version": version,
        "/metrics": metrics,
        "/info": info,
    }


def _models(service: Service) -> list[dict[str, Any]]:
    served = service.ready()
    listed = []
    for component, task in ((served.embedder, "embed"), (served.reranker, "rerank")):
        if component is not None:
            name = component.engine.model.rstrip("/").rpartition("/")[2]
            facts = {"object": "model", "created": 0, "owned_by": OWNER, "root": name, "max_model_len": component.max_tokens, "task": task}
            listed += [{"id": own, **facts} for own in served.names("embed" if task == "embed" else "rerank")]
    return listed


def _models_or_none(service: Service) -> list[dict[str, Any]]:
    try:
        return _models(service)
    except Refusal:
        return []


def _info(service: Service) -> dict[str, Any]:
    """Source: the OpenAPI description of Text Embeddings Inference."""
    served = service.ready()
    component = served.embedder or served.reranker
    assert component is not None
    kind: dict[str, Any] = {"embedding": {"pooling": "last_token"}}
    if served.embedder is None:
        kind = {"reranker": {"id2label": {"0": "yes"}, "label2id": {"yes": 0}}}
    return {
        "model_id": served.names("embed" if served.embedder else "rerank")[0],
        "model_sha": None,
        "model_dtype": str(getattr(component.engine, "dtype", "float32")),
        "model_type": kind,
        "max_input_length": component.max_tokens,
        "max_client_batch_size": service.settings.max_items,
        "auto_truncate": True,
        "version": __version__,
    }


def _answered(content: Callable[[], Any]) -> Response:
    try:
        return _json(content())
    except Refusal as refusal:
        return _refused(refusal)


def _refused(refusal: Refusal) -> Response:
    return Response(orjson.dumps(body_of(refusal, "openai")), refusal.status, dict(refusal.headers), "application/json")


def _json(content: Any) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")
