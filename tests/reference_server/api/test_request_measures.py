"""Rate, errors and duration by route."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from reference_server.api.request_measures import Measured


async def nothing() -> dict[str, Any]:
    return {}


def answering(status: int) -> Callable[..., Awaitable[None]]:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        if status == 0:
            raise ConnectionError
        await send({"type": "http.response.start", "status": status})
        await send({"type": "http.response.body"})

    return application


async def test_each_request_is_counted_once_by_route_and_status() -> None:
    registry = CollectorRegistry()
    measured = Measured(answering(200), registry)
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message["type"])

    async def ask(method: str, path: str, status: int) -> None:
        measured.application = answering(status)
        await measured({"type": "http", "method": method, "path": path}, nothing, send)

    await ask("GET", "/v1/feed", 200)
    await ask("GET", "/v1/feed", 200)
    await ask("GET", "/v1/feed", 503)
    await ask("PUT", "/v1/follows/12", 204)
    await ask("GET", "/metrics", 200)
    with pytest.raises(ConnectionError):
        await ask("POST", "/v1/posts", 0)
    assert sent == ["http.response.start", "http.response.body"] * 5

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    assert value("feed_api_requests_total", route="feed", status="200") == 2
    assert value("feed_api_requests_total", route="feed", status="503") == 1
    assert value("feed_api_requests_total", route="follow", status="204") == 1
    assert value("feed_api_requests_total", route="post", status="none") == 1
    assert value("feed_api_request_seconds_count", route="feed") == 3
    assert value("feed_api_request_seconds_bucket", route="feed", le="+Inf") == 3
    assert value("feed_api_requests_total", route="other", status="200") is None
