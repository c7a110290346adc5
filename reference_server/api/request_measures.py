"""Rate, errors and duration of the api's requests by route, those that the gate refuses included.

ASGI layer around the gate. A request costs it a bisection, three additions; metrics are made when they are asked for.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

from reference_server.api.overload.routes import ROUTES, UNLIMITED, find_route
from reference_server.observability.tallies import Durations

NO_ANSWER = "none"
"""status of a request that ended without an answer: its client went away"""
_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_Application = Callable[[_Message, _Receive, _Send], Awaitable[None]]


class Measured:
    """Wraps an application."""

    def __init__(self, application: _Application, registry: CollectorRegistry = REGISTRY) -> None:
        self.application = application
        self._durations = [Durations() for _ in ROUTES]
        self._statuses: list[dict[int, int]] = [{} for _ in ROUTES]
        registry.register(self)

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """One request, or the server's start and end."""
        if scope["type"] != "http" or scope["path"] in UNLIMITED:
            await self.application(scope, receive, send)
            return
        status = 0

        def noted(message: _Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            return send(message)

        started_s = time.perf_counter()
        try:
            await self.application(scope, receive, noted)
        finally:
            self._note(find_route(scope["method"], scope["path"]).number, status, time.perf_counter() - started_s)

    def _note(self, route: int, status: int, seconds: float) -> None:
        self._durations[route].add(seconds)
        statuses = self._statuses[route]
        statuses[status] = statuses.get(status, 0) + 1

    def collect(self) -> Iterable[Metric]:
        """For prometheus_client; routes that were asked for."""
        requests = CounterMetricFamily(
            "feed_api_requests", "Requests, by route and status of the answer", labels=["route", "status"]
        )
        seconds = HistogramMetricFamily("feed_api_request_seconds", "Duration of requests, by route", labels=["route"])
        for route in ROUTES:
            if not self._statuses[route.number]:
                continue
            for status, count in self._statuses[route.number].items():
                requests.add_metric([route.name, str(status) if status else NO_ANSWER], count)
            durations = self._durations[route.number]
            seconds.add_metric([route.name], durations.buckets(), durations.sum_s)
        yield requests
        yield seconds
