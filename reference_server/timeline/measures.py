"""What fan-out workers and lanes report to Prometheus."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_FINE_S = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.2, 0.5)

ENTRIES = Counter("feed_fanout_entries", "Timeline entries written by fan-out")
OWED_ENTRIES = Counter("feed_fanout_owed_entries", "Timeline entries written later, when their reader came back")
DEFERRED_ENTRIES = Counter("feed_fanout_deferred_entries", "Entries left for cold followers' next read")
RECORDS = Counter("feed_fanout_records", "Log records written")
LAG = Histogram(
    "feed_fanout_lag_seconds",
    "From a post's place in the queue until it was in log and index",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)
REBUILD = Histogram("feed_timeline_rebuild_seconds", "A timeline made from log and index", buckets=_FINE_S)
COLD_MERGES = Counter("feed_cold_merges", "Looks for posts owed to a user", ["outcome"])
GRAPH_READS = Counter("feed_follower_pages", "Follower pages asked for, by where they came from", ["source"])
LANE_RECORD = Gauge("feed_lane_record", "Newest record of a lane, by state", ["lane", "state"])
LANE_POSITION = Gauge("feed_lane_position_ms", "Time part of a lane's position in a queue stream", ["lane", "stream"])
NOTICES = Counter("feed_bus_messages", "Messages sent to edges", ["outcome"])
