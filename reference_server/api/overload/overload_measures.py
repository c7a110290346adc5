"""What the gate measures: feed_overload_*. Counted in plain numbers, read when somebody asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from prometheus_client import Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from reference_server.api.overload.routes import Priority

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
WAIT_SECONDS = Histogram("feed_overload_queue_seconds", "Time waited for a slot by those who had to", buckets=_SECONDS)
LAG_SECONDS = Histogram("feed_overload_loop_lag_seconds", "How late the event loop was", buckets=_SECONDS)

REASONS = {
    "kill_switch": "the product is switched off",
    "user_rate": "a user's bucket is empty",
    "stranger_rate": "the bucket of requests without a good token is empty",
    "identity_rate": "an identity signs up again and again",
    "level": "left out at this degradation level",
    "full": "no slot, and no room in the queue",
    "late": "no slot came free in time",
    "bodies": "a body that was long in coming made room for another",
}
GAUGES = {
    "limit": "Requests that may be worked on at once",
    "in_flight": "Requests being worked on",
    "waiting": "Requests waiting for a slot",
    "bodies": "Requests whose bodies are awaited",
    "level": "Degradation level: 0 nothing is left out, 3 only posting and first pages are served",
    "pressure": "Smoothed share of requests refused for want of room",
    "users": "Users whose request rates are kept",
}


class StateCollector:
    """The gate's counts, for prometheus_client."""

    def __init__(
        self,
        gauges: Callable[[], dict[str, float]],
        admitted: Sequence[int],
        refused: Counter[tuple[str, Priority]],
    ) -> None:
        """`gauges` tells the values of GAUGES, `admitted` counts by priority, `refused` by reason and priority."""
        self._gauges, self._admitted, self._refused = gauges, admitted, refused

    def collect(self) -> Iterable[Metric]:
        """All families."""
        for name, value in self._gauges().items():
            yield GaugeMetricFamily(f"feed_overload_{name}", GAUGES[name], value)
        admitted = CounterMetricFamily("feed_overload_admitted", "Requests worked on, by priority", labels=["priority"])
        for priority in Priority:
            admitted.add_metric([priority.name.lower()], self._admitted[priority])
        yield admitted
        about = "Requests refused without effect: " + ", ".join(f"{name} ({text})" for name, text in REASONS.items())
        refused = CounterMetricFamily("feed_overload_rejected", about, labels=["reason", "priority"])
        for (reason, priority), count in self._refused.items():
            refused.add_metric([reason, priority.name.lower()], count)
        yield refused
