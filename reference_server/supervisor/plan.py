"""Turns what was asked on the command line into settings: ports, secret, regions, links.

A directory with data of an earlier life keeps its secret, its users and the end of its history; ports are new.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from reference_server.settings import Region, Settings, read_settings, write_settings
from reference_server.supervisor.layout import StackDirectory, write_whole
from reference_server.supervisor.links import Link
from reference_server.supervisor.parts import SERVICES
from reference_server.supervisor.ports import Ports
from reference_server.supervisor.programs import StackRefused

DEFAULT_USERS = 1000
DEFAULT_READY_TIMEOUT_S = 110.0


@dataclass(frozen=True)
class Request:
    """What `up` was asked for."""

    directory: Path
    population: Path | None = None
    users: int | None = None
    defects: tuple[str, ...] = ()
    flags: dict[str, bool | int | str] = field(default_factory=dict)
    regions: tuple[str, ...] = ("us-east", "ap-tokyo")
    link_latency_ms: int = 100
    only: tuple[str, ...] = SERVICES
    ready_timeout_s: float = DEFAULT_READY_TIMEOUT_S
    parent_pipe: bool = False


@dataclass(frozen=True)
class Plan:
    """What will run."""

    settings: Settings
    links: tuple[Link, ...]
    toxiproxy_port: int


def make_plan(request: Request, stack: StackDirectory, sockets: str, ports: Ports, with_toxiproxy: bool) -> Plan:
    """Choose everything and write settings.json and seed.json.

    Raises StackRefused (no usable population), StackUnavailable (no free port).
    """
    earlier = _earlier(stack.settings)
    regions = [_region(name, index, ports) for index, name in enumerate(request.regions)]
    links = _links(regions, ports, with_toxiproxy)
    population, users, threshold = _people(request, earlier)
    settings = Settings(
        directory=str(stack.path),
        sockets=sockets,
        secret=earlier.secret if earlier else secrets.token_hex(32),
        regions=tuple(_with_peers(region, links) for region in regions),
        population=population,
        users=users,
        celebrity_threshold=threshold,
        flags=request.flags,
        defects=request.defects,
    )
    write_settings(stack.settings, settings)
    if not stack.seed.exists():
        write_whole(stack.seed, msgspec.json.encode({"history_end_us": time.time_ns() // 1000}))
    return Plan(settings, tuple(links) if with_toxiproxy else (), ports.take() if with_toxiproxy else 0)


def _earlier(path: Path) -> Settings | None:
    try:
        return read_settings(path)
    except (OSError, msgspec.MsgspecError):
        return None


def _region(name: str, index: int, ports: Ports) -> Region:
    return Region(
        name=name,
        index=index,
        api_ports=(ports.take(),),
        fep_ports=(ports.take(),),
        memcached_ports=(ports.take(),),
        redis_queue_port=ports.take(),
        redis_cache_port=ports.take(),
        replicator_port=ports.take(),
    )


def _links(regions: list[Region], ports: Ports, with_toxiproxy: bool) -> list[Link]:
    """A link for each direction; without toxiproxy its target reaches the source's replicator directly."""
    return [
        Link(
            source=source.name,
            target=target.name,
            listen_port=ports.take() if with_toxiproxy else source.replicator_port,
            upstream_port=source.replicator_port,
        )
        for source in regions
        for target in regions
        if source is not target
    ]


def _with_peers(region: Region, links: list[Link]) -> Region:
    return msgspec.structs.replace(region, peers={k.source: k.listen_port for k in links if k.target == region.name})


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
