"""How long a post took to each stage of its way, counted from its acceptance, and the trail it leaves in the logs.

accept    redis-queue has acknowledged it                    (api; duration of the accept alone)
queue     a fan-out worker has read it
fanout    it is in log and index of a lane
cache     memcached has taken it: the record is applied
notify    the edges were told
event     it was written to the streams of an edge
"""

from __future__ import annotations

import logging
import time
import uuid

from prometheus_client import Histogram

STAGES = ("accept", "queue", "fanout", "cache", "notify", "event")
_log = logging.getLogger("feed.trace")
SECONDS = Histogram(
    "feed_stage_seconds",
    "From a post's acceptance to a stage of its way, in the region where it was written",
    ["stage"],
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2, 5, 10, 30),
)
_by_stage = {stage: SECONDS.labels(stage) for stage in STAGES}


def passed(stage: str, post_id: bytes, seconds: float, trace_one_in: int = 0) -> None:
    """A post has reached a stage. One post in `trace_one_in` leaves a line in the log; the same one everywhere."""
    _by_stage[stage].observe(max(0.0, seconds))
    if trace_one_in and int.from_bytes(post_id[-4:], "big") % trace_one_in == 0:
        extra = {"post": str(uuid.UUID(bytes=post_id)), "stage": stage, "seconds": round(seconds, 6)}
        _log.info("post %s: %s after %.1f ms", extra["post"], stage, seconds * 1000, extra=extra)


def since_us(ts_us: int) -> float:
    """Seconds since a moment given in Unix µs."""
    return time.time() - ts_us / 1e6
