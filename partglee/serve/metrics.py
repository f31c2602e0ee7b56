"""What a server tells of itself, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0)


class Metrics:
    """Counters of one server.

    Args:
        waiting: how many requests wait for the model.
    """

    def __init__(self, waiting: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "partglee_requests", "Answers by route and status", ["route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "partglee_parse_seconds", "From a whole request to its answer", buckets=_SECONDS, registry=self.registry
        )
        self.batches = Histogram(
            "partglee_batch_images", "Images of a pass of the model", buckets=(1, 2, 4, 8, 16), registry=self.registry
        )
        self.dropped = Counter(
            "partglee_dropped", "Requests that nobody waited for any more", ["why"], registry=self.registry
        )
        Gauge("partglee_waiting", "Requests that wait for the model", registry=self.registry).set_function(waiting)

    def text(self) -> bytes:
        """All of them, as Prometheus reads them."""
        return generate_latest(self.registry)


_ROUTES = frozenset({"/", "/health", "/metrics", "/v1/info", "/v1/parse", "/v1/vocabulary"})


class Counted:
    """Counts answers by route and status; a client cannot make new routes."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        status = 500  # of an application that fails before it answers

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            route = scope["path"] if scope["path"] in _ROUTES else "other"
            self.metrics.requests.labels(route, str(status)).inc()
