"""What the reading side of timelines reports to Prometheus (in the api's process)."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

REBUILD_CALL = Histogram(
    "feed_read_rebuild_seconds",
    "A lost timeline fetched from its lane's owner, as the reader sees it",
    buckets=(0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.2, 0.5),
)
PUBLISHES = Counter("feed_timeline_publishes", "Rebuilt timelines on their way into the cache", ["outcome"])
MATERIALISED = Counter("feed_materialised", "Owed entries written when a session opened")
