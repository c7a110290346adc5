"""What every Python process tells about itself, beside what the Prometheus client does (cpu, memory, files, gc).

The event loop is asked four times a second how late it is: whatever holds it up (a long computation, a blocking call,
a paused process) shows as lag.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import Histogram, disable_created_metrics

from reference_server.observability.endpoint import serve_metrics

disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each counter and histogram, that says when the process began
PROBE_EVERY_S = 0.25
LOOP_LAG = Histogram(
    "feed_loop_lag_seconds",
    "How late the event loop of a process came back to a timer, asked four times a second",
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
_log = logging.getLogger(__name__)


class LoopProbe:
    """Asks the running loop for its lag until `stop`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._due = 0.0
        self._timer: asyncio.TimerHandle
        self._arm()

    def stop(self) -> None:
        """Ask no more."""
        self._timer.cancel()

    def _arm(self) -> None:
        self._due = time.monotonic() + PROBE_EVERY_S
        self._timer = self._loop.call_later(PROBE_EVERY_S, self._came)

    def _came(self) -> None:
        LOOP_LAG.observe(max(0.0, time.monotonic() - self._due))
        self._arm()


@asynccontextmanager
async def observed(port: int = 0) -> AsyncIterator[None]:
    """While the block runs, the loop is probed, and `/metrics` is served on 127.0.0.1:`port` (0: not).

    A port that is taken is an error in the log: the process does its work without.
    """
    server = None
    if port:
        try:
            server = await serve_metrics(port)
        except OSError as error:
            _log.error("no /metrics on port %d: %s", port, error)
    probe = LoopProbe()
    try:
        yield
    finally:
        probe.stop()
        if server is not None:
            server.close()
