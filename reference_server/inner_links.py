"""Links within a region that go through a proxy, because `up --proxy NAME` asked for it: none does otherwise.

"us-east.api-to-memcached": what the apis of us-east send to its first memcached, and get back. Each process reads the
region as it is seen from there: with the ports that its own links lead through.
"""

from __future__ import annotations

from typing import Any

import msgspec

from reference_server.settings import Region

REACHES = {
    "api": ("memcached", "redis-queue"),
    "fanout": ("memcached", "redis-queue", "redis-cache"),
    "fep": ("redis-queue", "redis-cache"),
    "graph": ("redis-queue", "redis-cache"),
    "jobs": ("memcached", "redis-queue", "redis-cache"),
    "replicator": ("redis-queue",),
    "edge": ("api", "fep"),
}
"""kind of part -> kinds of parts that it calls over TCP in its own region"""
_PORTS = {
    "memcached": "memcached_ports",
    "redis-queue": "redis_queue_port",
    "redis-cache": "redis_cache_port",
    "api": "api_ports",
    "fep": "fep_ports",
}
_TO = "-to-"


def inner_links(region: Region) -> list[str]:
    """Names of all links of the region that could go through a proxy: "api-to-memcached", "api-to-memcached-1", ..."""
    return [
        f"{caller}{_TO}{called}{f'-{k}' if k else ''}"
        for caller, kinds in REACHES.items()
        for called in kinds
        for k in range(len(_ports(region, called)))
    ]


def port_behind(region: Region, link: str) -> int:
    """Where the called part of the link listens."""
    called, k = _called(link)
    return _ports(region, called)[k]


def seen_by(region: Region, part: str) -> Region:
    """The region as the part ("api-0", "graph") reaches it."""
    changed: dict[str, Any] = {}
    for link, port in region.proxied.items():
        if link.partition(_TO)[0] != part.rstrip("0123456789").rstrip("-"):
            continue
        called, k = _called(link)
        field = _PORTS[called]
        ports = list(changed.get(field) or _ports(region, called))
        ports[k] = port
        changed[field] = tuple(ports)
    plain = {field: ports if field.endswith("ports") else ports[0] for field, ports in changed.items()}
    return msgspec.structs.replace(region, **plain)


def _called(link: str) -> tuple[str, int]:
    """The kind of the called part, and which of them."""
    called = link.partition(_TO)[2]
    kind, _, number = called.rpartition("-")
    return (kind, int(number)) if number.isdigit() else (called, 0)


def _ports(region: Region, kind: str) -> tuple[int, ...]:
    ports = getattr(region, _PORTS[kind])
    return ports if isinstance(ports, tuple) else (ports,)
