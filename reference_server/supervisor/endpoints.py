"""endpoints.json: where the stack is reached, and the handles that chaos may touch."""

from __future__ import annotations

import msgspec

from reference_server.settings import Settings
from reference_server.supervisor.layout import StackDirectory
from reference_server.supervisor.links import Link
from reference_server.supervisor.part import Part
from reference_server.supervisor.parts import HOST


class RegionEndpoints(msgspec.Struct, kw_only=True, frozen=True):
    """Base URLs of one region."""

    api: str
    stream: str


class ProcessHandle(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True, tag_field="backend", tag="process"):
    """A part: a process group."""

    pid_file: str
    hold_file: str
    ready: str
    region: str
    memcached: tuple[str, ...] = ()


class LinkHandle(msgspec.Struct, kw_only=True, frozen=True, tag_field="backend", tag="toxiproxy"):
    """A link: a proxy of the toxiproxy server at `api`."""

    api: str
    proxy: str
    regions: tuple[str, str]


class Endpoints(msgspec.Struct, kw_only=True, frozen=True):
    """The whole file."""

    regions: dict[str, RegionEndpoints]
    handles: dict[str, ProcessHandle | LinkHandle]
    missing: list[str]
    supervisor_pid: int


def describe(
    stack: StackDirectory,
    settings: Settings,
    parts: list[Part],
    links: tuple[Link, ...],
    toxiproxy_port: int,
    supervisor_pid: int,
) -> Endpoints:
    """The file's content for a stack that is ready."""
    handles: dict[str, ProcessHandle | LinkHandle] = {
        part.handle: ProcessHandle(
            pid_file=str(stack.pid_file(part.handle)),
            hold_file=str(stack.hold_file(part.handle)),
            ready=part.probe.replace("redis://", "tcp://"),
            region=part.region,
            memcached=part.memcached,
        )
        for part in parts
        if part.region
    }
    for link in links:
        handles[f"link.{link.source}.{link.target}"] = LinkHandle(
            api=f"http://{HOST}:{toxiproxy_port}", proxy=link.proxy, regions=(link.source, link.target)
        )
    regions = {
        region.name: RegionEndpoints(
            api=f"http://{HOST}:{region.api_ports[0]}", stream=f"http://{HOST}:{region.fep_ports[0]}"
        )
        for region in settings.regions
    }
    missing = [] if toxiproxy_port else ["toxiproxy"]
    return Endpoints(regions=regions, handles=handles, missing=missing, supervisor_pid=supervisor_pid)
