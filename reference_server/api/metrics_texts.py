"""What an api's `/metrics` answers: made once a second at most, however often it is asked for.

Making it takes the loop's time here and in every part that is asked, and nothing limits who asks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from prometheus_client import generate_latest

from reference_server.api import measures
from reference_server.api.bodies import Bodies
from reference_server.rpc import RpcClient

KEPT_S = 1.0


class MetricsTexts:
    """The metrics of this process by itself, and joined with those of its region's parts."""

    def __init__(self, name: str, bodies: Bodies, clients: Mapping[str, RpcClient]) -> None:
        """`name` is this process's, `clients` are the parts' sockets by name."""
        self._name, self._bodies, self._clients = name, bodies, clients
        self._made: dict[bool, tuple[float, asyncio.Task[bytes]]] = {}
        """by whether it is the own text: (when it was begun, the text)"""

    async def get(self, own: bool, *, anew: bool = False) -> bytes:
        """The text, of this process alone or joined; `anew`: not one that was begun before."""
        made = self._made.get(own)
        if made is None or anew or time.monotonic() > made[0] + KEPT_S:
            made = self._made[own] = (time.monotonic(), asyncio.create_task(self._make(own)))
        return await asyncio.shield(made[1])  # others wait for it too

    async def _make(self, own: bool) -> bytes:
        found = self._bodies.found
        for source, count in found.items():
            found[source] = 0
            measures.BODIES.labels(source).inc(count)
        measures.BODY_MEMORY.set(self._bodies.memory.size_bytes)
        if own:
            return generate_latest()
        return measures.joined(self._name, await measures.metrics_of(self._clients))
