"""What the writing side of the timeline cache reports to Prometheus (in the fan-out workers)."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

NODE_STATE = Gauge(
    "feed_cache_node_state", "A cache node as a lane sees it: 0 joining, 1 up, 2 lost, 3 down", ["node", "lane"]
)
APPENDS = Counter("feed_cache_appends", "Slots sent to cached timelines", ["node"])
MISSES = Counter("feed_cache_append_misses", "Appends that found no cached timeline", ["node"])
OVERGROWN = Counter(
    "feed_cache_overgrown", "Cached timelines dropped because nobody reads, and so trims, them", ["node"]
)
GENERATIONS = Counter("feed_cache_generations", "Raised key generations: all a lane had cached there is void", ["node"])
IN_FLIGHT = Gauge("feed_cache_in_flight_bytes", "Appends sent to a node and not answered yet", ["node"])
