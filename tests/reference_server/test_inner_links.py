"""A region as its parts see it: each over the links it has, everybody else directly."""

from __future__ import annotations

import pytest

from reference_server.inner_links import inner_links, port_behind, seen_by
from reference_server.settings import Region

PROXIED = {"api-to-memcached-1": 91, "api-to-redis-queue": 92, "edge-to-api": 93, "fanout-to-memcached": 94}
REGION = Region(
    name="eu",
    index=0,
    api_ports=(1, 2),
    fep_ports=(3,),
    memcached_ports=(4, 5),
    redis_queue_port=6,
    redis_cache_port=7,
    replicator_port=8,
    proxied=PROXIED,
)


def reached(part: str) -> tuple[tuple[int, ...], ...]:
    seen = seen_by(REGION, part)
    return seen.api_ports, seen.memcached_ports, (seen.redis_queue_port, seen.redis_cache_port)


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("api-0", ((1, 2), (4, 91), (92, 7))),
        ("api-1", ((1, 2), (4, 91), (92, 7))),
        ("fanout-11", ((1, 2), (94, 5), (6, 7))),
        ("edge", ((93, 2), (4, 5), (6, 7))),
        ("graph", ((1, 2), (4, 5), (6, 7))),
    ],
)
def test_a_part_reaches_others_over_its_own_links(part: str, expected: tuple[tuple[int, ...], ...]) -> None:
    assert reached(part) == expected


def test_each_link_leads_to_the_part_in_its_name() -> None:
    ports = {link: port_behind(REGION, link) for link in inner_links(REGION)}
    assert {link for link in ports if link.startswith("edge")} == {"edge-to-api", "edge-to-api-1", "edge-to-fep"}
    assert (ports["edge-to-api-1"], ports["api-to-memcached-1"], ports["jobs-to-redis-cache"]) == (2, 5, 7)
    assert PROXIED.keys() <= ports.keys()
