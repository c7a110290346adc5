"""The post queue of a region: accept scripts over redis-queue, and the classes that run them."""

from reference_server.queue.errors import Backpressure, QueueUnavailable
from reference_server.queue.post_queue import Accepted, Limits, Queue, RecentPost
from reference_server.queue.post_status import Gone, Standing, StatusAnswer
from reference_server.queue.stream_keeper import START, Entry, StreamKeeper, position_key

__all__ = [
    "START",
    "Accepted",
    "Backpressure",
    "Entry",
    "Gone",
    "Limits",
    "Queue",
    "QueueUnavailable",
    "RecentPost",
    "Standing",
    "StatusAnswer",
    "StreamKeeper",
    "position_key",
]
