"""The post queue of a region: accept scripts over redis-queue, and the class that runs them."""

from reference_server.queue.errors import Backpressure, QueueUnavailable
from reference_server.queue.post_queue import Accepted, Limits, Queue, RecentPost

__all__ = ["Accepted", "Backpressure", "Limits", "Queue", "QueueUnavailable", "RecentPost"]
