"""endpoints.json: where the stack is reached, and the handles that chaos may touch."""

from __future__ import annotations

import os

import msgspec

from reference_server.settings import Region
from reference_server.supervisor.layout import StackDirectory
from reference_server.supervisor.part import Part
from reference_server.supervisor.parts import EDGE, HOST
from reference_server.supervisor.plan import Plan

NETWORK = "network"
"""handle of all links between regions"""


class RegionEndpoints(msgspec.Struct, kw_only=True, frozen=True):
    """Base URLs of one region."""

    api: str
    """the first of `apis`"""
    stream: str
    """the first of `streams`"""
    edge: str = ""
    """https: both behind one name; empty: the region has no edge proxy"""
    apis: list[str] = []
    streams: list[str] = []
    metrics: dict[str, str] = {}
    """part ("api-0", "graph", "edge", ...) -> its Prometheus text"""


class ProcessHandle(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True, tag_field="backend", tag="process"):
    """A part: a process group."""

    pid_file: str
    hold_file: str
    ready: str
    region: str
    wrapper_file: str
    clock: str = ""
    memcached: tuple[str, ...] = ()
    redis: str = ""
    durable: str = ""
    log: str = ""
    stream: str = ""
    reads: str = ""
    flags: str = ""
    operator_token_file: str = ""


class LinkHandle(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True, tag_field="backend", tag="toxiproxy"):
    """A link: a proxy of the toxiproxy server at `api`."""

    api: str
    proxy: str
    regions: tuple[str, ...]
    probe: str = ""


class RegionLink(msgspec.Struct, kw_only=True, frozen=True):
    """A link between regions, as a part of their network."""

    proxy: str
    regions: tuple[str, ...]
    probe: str


class NetworkHandle(msgspec.Struct, kw_only=True, frozen=True, tag_field="backend", tag="network"):
    """All links between regions together."""

    api: str
    links: tuple[RegionLink, ...]


AnyHandle = ProcessHandle | LinkHandle | NetworkHandle


class Endpoints(msgspec.Struct, kw_only=True, frozen=True):
    """The whole file."""

    regions: dict[str, RegionEndpoints]
    handles: dict[str, AnyHandle]
    missing: list[str]
    supervisor_pid: int
    operator_token_file: str = ""
    ca_file: str = ""
    """PEM of the authority behind the edges' certificates; empty: there are no edges"""


def describe(stack: StackDirectory, plan: Plan, parts: list[Part], *, edges_wanted: bool = True) -> Endpoints:
    """The file's content for a stack that is ready and run by this process."""
    has_edges = any(region.edge_port for region in plan.settings.regions)
    missing = [] if plan.toxiproxy_port else ["toxiproxy"]
    if edges_wanted and not has_edges:
        missing.append("haproxy")
    return Endpoints(
        regions={region.name: _region(region, parts) for region in plan.settings.regions},
        handles=_handles(stack, plan, parts),
        missing=missing,
        supervisor_pid=os.getpid(),
        operator_token_file=str(stack.operator_token),
        ca_file=str(stack.authority) if has_edges else "",
    )


def _region(region: Region, parts: list[Part]) -> RegionEndpoints:
    apis = [f"http://{HOST}:{port}" for port in region.api_ports]
    streams = [f"http://{HOST}:{port}" for port in region.fep_ports]
    running = {part.log_name.removeprefix(f"{region.name}.") for part in parts if part.region == region.name}
    metrics = {f"api-{k}": f"{url}/metrics?own" for k, url in enumerate(apis)}
    metrics |= {f"fep-{k}": f"{url}/metrics" for k, url in enumerate(streams)}
    metrics |= {part: f"http://{HOST}:{port}/metrics" for part, port in region.metrics_ports.items()}
    return RegionEndpoints(
        api=apis[0],
        stream=streams[0],
        edge=f"https://{HOST}:{region.edge_port}" if EDGE in running else "",
        apis=apis,
        streams=streams,
        metrics={part: url for part, url in metrics.items() if part in running},
    )


def _handles(stack: StackDirectory, plan: Plan, parts: list[Part]) -> dict[str, AnyHandle]:
    handles: dict[str, AnyHandle] = {
        part.handle: ProcessHandle(
            pid_file=str(stack.pid_file(part.handle)),
            hold_file=str(stack.hold_file(part.handle)),
            ready=part.probe.replace("redis://", "tcp://"),
            region=part.region,
            wrapper_file=str(stack.wrapper_file(part.handle)),
            clock=part.clock,
            memcached=part.memcached,
            redis=part.redis,
            durable=part.durable,
            log=part.log,
            stream=part.stream,
            reads=part.reads,
            flags=part.flags,
            operator_token_file=str(stack.operator_token) if part.flags else "",
        )
        for part in parts
        if part.region
    }
    api = f"http://{HOST}:{plan.toxiproxy_port}"
    for link in plan.links:
        handles[link.handle] = LinkHandle(api=api, proxy=link.proxy, regions=link.regions, probe=link.probe)
    between = [link for link in plan.links if len(link.regions) == 2]
    if between:
        links = (RegionLink(proxy=link.proxy, regions=link.regions, probe=link.probe) for link in between)
        handles[NETWORK] = NetworkHandle(api=api, links=tuple(links))
    return handles
