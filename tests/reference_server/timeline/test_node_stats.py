"""Figures of a real memcached, also across its restart."""

from __future__ import annotations

from prometheus_client import REGISTRY
from real_servers import Server

from reference_server.timeline.node_stats import NodeStats


def value(name: str) -> float:
    found = REGISTRY.get_sample_value(f"feed_memcached_{name}", {"node": "77"})
    assert found is not None, name
    return found


async def test_figures_follow_a_node_through_a_restart(memcached: Server) -> None:
    stats = NodeStats(77, memcached.port)
    memcached.send(b"ms k 1\r\nx\r\nmg k v\r\nmg nothing v\r\n")
    assert await stats.step()
    assert (value("up"), value("items"), value("limit_bytes")) == (1, 1, 256 << 20)
    assert (value("hits_total"), value("misses_total"), value("evictions_total")) == (1, 1, 0)
    assert value("bytes") > 0
    memcached.kill()
    assert not await stats.step()
    assert value("up") == 0
    memcached.start()
    memcached.send(b"mg nothing v\r\n")
    assert await stats.step()
    assert (value("up"), value("items"), value("hits_total"), value("misses_total")) == (1, 0, 1, 2)
    await stats.close()
