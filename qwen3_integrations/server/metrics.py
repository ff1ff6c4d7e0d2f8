"""Prometheus metrics of an application. No label holds a text, a key or a path that a client made up."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from qwen3_integrations.core.results import Usage

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_ITEMS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)


class Metrics:
    """Counters of one application, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter("qwen3_requests", "Finished requests.", ("route", "status"), registry=registry)
        self._seconds = Histogram("qwen3_request_seconds", "Seconds of a request.", ("route",), buckets=_SECONDS, registry=registry)
        self._items = Histogram("qwen3_request_items", "Texts of a request.", ("route",), buckets=_ITEMS, registry=registry)
        self._prompts = Counter("qwen3_prompts", "Prompts that a model read.", ("model",), registry=registry)
        self._tokens = Counter("qwen3_prompt_tokens", "Tokens that a model read.", ("model",), registry=registry)
        self._truncated = Counter("qwen3_truncated_documents", "Documents that were cut to the budget.", ("model",), registry=registry)
        self._by_key = Counter("qwen3_key_tokens", "Tokens by the name of the key.", ("key",), registry=registry)
        self._of_key = Counter("qwen3_key_requests", "Requests by the name of the key.", ("key",), registry=registry)
        self.queued_tokens = Gauge("qwen3_queued_tokens", "Estimated tokens of requests that wait or run.", registry=registry)
        self.queued_requests = Gauge("qwen3_queued_requests", "Requests that wait or run.", registry=registry)

    def finished(self, route: str, status: int, seconds: float) -> None:
        """Count a finished request; `status` is 499 if the client went away."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def worked(self, route: str, model: str, usage: Usage, key: str | None) -> None:
        """Count the work of an answered request."""
        self._items.labels(route).observe(usage.prompts)
        self._prompts.labels(model).inc(usage.prompts)
        self._tokens.labels(model).inc(usage.tokens)
        self._truncated.labels(model).inc(usage.truncated)
        if key is not None:
            self._of_key.labels(key).inc()
            self._by_key.labels(key).inc(usage.tokens)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)
