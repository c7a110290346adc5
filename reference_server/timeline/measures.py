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
LANE_POSITION = Gauge(
    "feed_lane_position_seconds", "Unix time of a lane's position in a queue stream", ["lane", "stream"]
)
NOTICES = Counter("feed_bus_messages", "Messages sent to edges", ["outcome"])
LOG_BYTES = Gauge("feed_log_bytes", "Size of a lane's log on disk", ["lane"])
LOG_MEMORY = Gauge(
    "feed_log_memory_bytes", "Memory that a lane's log takes: not flushed yet, and block caches", ["lane"]
)
LOG_RECORDS = Gauge("feed_log_records", "Records that a lane keeps", ["lane"])
DROPPED_RECORDS = Counter("feed_log_dropped_records", "Records that lanes dropped because of their age")
RESTORED_POSTS = Counter("feed_lane_restored_posts", "Posts that lanes took from the archive after their log was lost")
RESTORE_SECONDS = Histogram(
    "feed_lane_restore_seconds",
    "Time in which a lost log was made again from the archive",
    buckets=(0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500),
)
LANE_LOGGED = Gauge("feed_lane_logged", "Whether a lane of this worker logs its records (1) or not (0)", ["lane"])
LANE_STATE = Gauge("feed_lane_state", "1 for the state that a lane of this worker is in", ["lane", "state"])
