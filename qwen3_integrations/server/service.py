"""What the routes of an application share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from qwen3_integrations.server.admission import Admission
from qwen3_integrations.server.metrics import Metrics
from qwen3_integrations.server.refusal import Refusal
from qwen3_integrations.server.served import Served
from qwen3_integrations.server.settings import ServerSettings


@dataclass(slots=True, eq=False)
class Service:
    """The state of an application.

    Attributes:
        served: The models; None while they are loading.
        settings: Limits.
        metrics: Counters of requests.
        admission: The bound of the queue.
        draining: Whether the server ends: running requests finish, and new ones are refused.
    """

    served: Served | None
    settings: ServerSettings
    metrics: Metrics
    admission: Admission = field(init=False)
    draining: bool = False

    def __post_init__(self) -> None:
        self.admission = Admission(self.settings.max_queued_tokens)

    def ready(self) -> Served:
        """The models.

        Raises:
            Refusal: 503 while the server loads or ends.
        """
        if self.draining:
            raise Refusal(503, "the server is closing", code="closing", headers={"Retry-After": "1", "Connection": "close"})
        if self.served is None:
            raise Refusal(503, "the model is loading", code="loading", headers={"Retry-After": "2"})
        return self.served

    def check_items(self, items: Sequence[object], name: str) -> None:
        """Refuse no items, and more than `max_items`.

        Raises:
            Refusal: 400 or 413.
        """
        if not items:
            raise Refusal(400, f"{name} is empty", code="empty_input", field=name)
        if len(items) > self.settings.max_items:
            reason = f"{name} has {len(items):,} items; this server takes {self.settings.max_items:,} in a request"
            raise Refusal(413, reason, code="too_many_items", field=name)
