"""Turns what was asked on the command line into settings: ports, secret, regions, links.

A directory with data of an earlier life keeps its secret, its users and the end of its history; ports are new.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

import msgspec

from reference_server.inner_links import inner_links, port_behind
from reference_server.replication.wire import Ping, frame
from reference_server.security import make_operator_token
from reference_server.settings import Region, Settings, read_settings, write_settings
from reference_server.supervisor.layout import StackDirectory, write_whole
from reference_server.supervisor.links import Link
from reference_server.supervisor.parts import EDGE, SERVICES
from reference_server.supervisor.ports import Ports
from reference_server.supervisor.programs import StackRefused

DEFAULT_USERS = 1000
DEFAULT_READY_TIMEOUT_S = 110.0
_ECHO = b"x" * 256
_PROBES = {"memcached": b"stats\r\n", "redis": b"*2\r\n$4\r\nECHO\r\n$%d\r\n%s\r\n" % (len(_ECHO), _ECHO)}
"""kind of part -> what it answers at once, with some hundred bytes"""


@dataclass(frozen=True)
class Request:
    """What `up` was asked for."""

    directory: Path
    population: Path | None = None
    users: int | None = None
    defects: tuple[str, ...] = ()
    flags: dict[str, bool | int | float | str] = field(default_factory=dict)
    regions: tuple[str, ...] = ("us-east", "ap-tokyo")
    apis: int = 1
    """of each region, like the following"""
    feps: int = 1
    memcacheds: int = 1
    fanout_workers: int = 1
    link_latency_ms: int = 100
    proxies: tuple[str, ...] = ()
    """links within regions that get a proxy, such as "us-east.api-to-memcached" """
    wal_tmpfs_mb: int = 0
    """size of a small disk for the lanes' logs of each region; 0: they are on the disk of `directory`"""
    only: tuple[str, ...] = SERVICES
    ready_timeout_s: float = DEFAULT_READY_TIMEOUT_S
    parent_pipe: bool = False


@dataclass(frozen=True)
class Plan:
    """What will run."""

    settings: Settings
    links: tuple[Link, ...]
    toxiproxy_port: int


def make_plan(
    request: Request, stack: StackDirectory, sockets: str, ports: Ports, with_toxiproxy: bool, with_edges: bool = False
) -> Plan:
    """Choose everything and write settings.json and seed.json.

    Raises StackRefused (no usable population, no such link), StackUnavailable (no free port).
    """
    earlier = _earlier(stack.settings)
    regions = [_region(request, name, index, ports, with_edges) for index, name in enumerate(request.regions)]
    links = _links(regions, ports, with_toxiproxy, request.link_latency_ms)
    inner = _inner_links(request.proxies, regions, ports if with_toxiproxy else None)
    population, users, threshold = _people(request, earlier)
    settings = Settings(
        directory=str(stack.path),
        sockets=sockets,
        secret=earlier.secret if earlier else secrets.token_hex(32),
        regions=tuple(_with_links(region, links, inner) for region in regions),
        population=population,
        users=users,
        celebrity_threshold=threshold,
        flags=request.flags,
        defects=request.defects,
    )
    write_settings(stack.settings, settings)
    stack.operator_token.touch(mode=0o600)
    stack.operator_token.write_text(make_operator_token(bytes.fromhex(settings.secret)))
    if not stack.seed.exists():
        write_whole(stack.seed, msgspec.json.encode({"history_end_us": time.time_ns() // 1000}))
    return Plan(settings, (*links, *inner) if with_toxiproxy else (), ports.take() if with_toxiproxy else 0)


def _earlier(path: Path) -> Settings | None:
    try:
        return read_settings(path)
    except (OSError, msgspec.MsgspecError):
        return None


def _region(request: Request, name: str, index: int, ports: Ports, with_edge: bool) -> Region:
    parts = ["graph", "jobs", "replicator", *(f"fanout-{k}" for k in range(request.fanout_workers))]
    parts += [EDGE] if with_edge else []
    return Region(
        name=name,
        index=index,
        api_ports=tuple(ports.take() for _ in range(request.apis)),
        fep_ports=tuple(ports.take() for _ in range(request.feps)),
        memcached_ports=tuple(ports.take() for _ in range(request.memcacheds)),
        redis_queue_port=ports.take(),
        redis_cache_port=ports.take(),
        replicator_port=ports.take(),
        fanout_workers=request.fanout_workers,
        edge_port=ports.take() if with_edge else 0,
        metrics_ports={part: ports.take() for part in parts},
    )


def _links(regions: list[Region], ports: Ports, with_toxiproxy: bool, latency_ms: int) -> list[Link]:
    """A link for each direction; without toxiproxy its target reaches the source's replicator directly."""
    return [
        Link(
            handle=f"link.{source.name}.{target.name}",
            proxy=f"{source.name}--{target.name}",
            regions=(source.name, target.name),
            listen_port=ports.take() if with_toxiproxy else source.replicator_port,
            upstream_port=source.replicator_port,
            latency_ms=latency_ms,
            probe=frame(Ping(_ECHO)).hex(),
        )
        for source in regions
        for target in regions
        if source is not target
    ]


def _inner_links(names: tuple[str, ...], regions: list[Region], ports: Ports | None) -> list[Link]:
    """The wanted links within regions; without toxiproxy (no ports) they are direct. Raises StackRefused."""
    choices = {f"{region.name}.{link}": (region, link) for region in regions for link in inner_links(region)}
    if unknown := [name for name in names if name not in choices]:
        close = get_close_matches(unknown[0], choices, 1) or list(choices)[:3]
        raise StackRefused(f"--proxy: this stack has no link {unknown[0]!r} (such as {', '.join(close)})")
    if ports is None:
        return []
    return [
        Link(
            handle=name,
            proxy=name,
            regions=(region.name,),
            listen_port=ports.take(),
            upstream_port=port_behind(region, link),
            probe=next((probe.hex() for kind, probe in _PROBES.items() if f"-to-{kind}" in link), ""),
        )
        for name in names
        for region, link in [choices[name]]
    ]


def _with_links(region: Region, links: list[Link], inner: list[Link]) -> Region:
    peers = {link.regions[0]: link.listen_port for link in links if link.regions[1] == region.name}
    own = [link for link in inner if link.regions == (region.name,)]
    proxied = {link.handle.removeprefix(f"{region.name}."): link.listen_port for link in own}
    return msgspec.structs.replace(region, peers=peers, proxied=proxied)


def _people(request: Request, earlier: Settings | None) -> tuple[str, int, int]:
    """(population directory, number of users, celebrity threshold); data of an earlier life keep theirs."""
    population = request.population
    if population is None and request.users is None and earlier is not None:
        if not earlier.population:
            return "", earlier.users, earlier.celebrity_threshold
        population = Path(earlier.population)
    if population is None:
        users = DEFAULT_USERS if request.users is None else request.users
        return "", users, max(users // 10, 1)
    from reference_server.seeding import PopulationInvalid, read_population  # numpy: only who needs it waits for it

    try:
        people = read_population(population)
    except PopulationInvalid as error:
        raise StackRefused(f"--population: {error}") from error
    return str(population.resolve()), people.users, people.celebrity_threshold or max(people.users // 10, 1)
