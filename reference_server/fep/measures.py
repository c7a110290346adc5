"""What the edge counts (Prometheus, `GET /metrics`)."""

from prometheus_client import Counter, Gauge, Histogram

STREAMS_OPEN = Gauge("feed_streams_open", "Streams held open.")
EVENTS = Counter("feed_stream_events", "Events written to streams, resyncs not included.")
SLOW_DROPS = Counter("feed_stream_slow_drops", "Streams closed because their listener read too slowly.")
FLOODS = Counter("feed_stream_floods", "Streams cut because their listener went on sending.")
UNREADABLE = Counter("feed_stream_bus_unreadable", "Messages of the bus that could not be read and were skipped.")
CATCH_UPS = Counter("feed_stream_catch_ups", "Times a lane's streams were registered again to fill a gap.", ["cause"])
RESYNCS = Counter("feed_stream_resyncs", "Resync events written.")
REFUSED = Counter("feed_stream_refused", "Requests for a stream that got none.", ["status"])
SUBSCRIBE_SECONDS = Histogram(
    "feed_stream_subscribe_seconds",
    "Time from the request for a stream to its first bytes.",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0),
)
