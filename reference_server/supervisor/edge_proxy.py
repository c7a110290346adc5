"""The edge of a region: one HAProxy that ends TLS and takes each request to a server that can serve it.

                                                      +-- /v1/stream -------------------> "streams": feps
    clients -- TLS, HTTP/2 or 1.1 --> frontend "edge" +-- changes nothing --> "repeatable" \
                                                      +-- the rest ---------> "once" ------+--> "apis": apis
The region's own servers come first; the other regions are backups, nearest (next in the order of regions) first, each
behind a door of its own inside the proxy, so that all its servers serve. What it may repeat and what it may not, its
limits and its drain are told in docs/edge.md.
"""

from __future__ import annotations

import resource
import shlex
import signal
import subprocess
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from reference_server.inner_links import seen_by
from reference_server.settings import Region, Settings
from reference_server.supervisor.certificates import write_certificates
from reference_server.supervisor.layout import StackDirectory
from reference_server.supervisor.part import Layer, Part
from reference_server.supervisor.parts import EDGE, HOST, SERVICES

STREAMS = 4000
"""streams through one proxy, where there are descriptors enough"""
_SPARE_FDS = 600
_MAX_CONNECTIONS = 12_100
_SPARE_CONNECTIONS = 100
"""for checks, and for what this host asks"""
API_REQUESTS = 1000
"""requests under way at one api; below the limit of its own server, so that the rest waits here or is refused here"""
BODY_BYTES = 1 << 20
KERNEL_BYTES = 1 << 16
"""what the kernel may hold on either side of a connection: a listener that does not read must show at the fep"""
_CHECKER = "check.invalid"
"""the host that checks name, so that doors know them"""
_VERSION_LIMIT_S = 5.0
_ERRORS = {
    400: ("bad-request", "Bad Request", "the request is not well-formed HTTP, or its head is too large"),
    404: ("not-found", "Not Found", "no such resource here"),
    408: ("bad-request", "Request Timeout", "the request did not arrive in time"),
    413: ("too-large", "Payload Too Large", f"a body has at most {BODY_BYTES} bytes"),
    500: ("unavailable", "Internal Server Error", "the edge failed"),
    502: ("unavailable", "Bad Gateway", "the server broke off; whether the request took effect is unknown"),
    503: ("unavailable", "Service Unavailable", "no server of any region can serve now"),
    504: ("unavailable", "Gateway Timeout", "the server is silent; whether the request took effect is unknown"),
}


class Room(NamedTuple):
    """Connections of each frontend, two descriptors each: a stream through a door has one at the edge and one there.

    Each has a share of its own: whatever clients open, what is further inside still takes what they sent.
    """

    connections: int
    """of all together"""
    clients: int
    """at the edge"""
    reads: int
    writes: int
    requests: int
    """through one door"""
    streams: int
    """of all feps together; they may all go through one door"""


def make_room() -> Room:
    """What this process's hard limit of descriptors allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MAX_CONNECTIONS if hard == resource.RLIM_INFINITY else (hard - _SPARE_FDS) // 2
    connections = max(2 * _SPARE_CONNECTIONS, min(_MAX_CONNECTIONS, most))
    unit = (connections - _SPARE_CONNECTIONS) / 24
    clients, reads, writes, requests, streams = (int(unit * share) for share in (11, 2, 1, 2, 8))
    return Room(connections, clients, reads, writes, requests, min(streams, STREAMS))


def edge_parts(
    program: str, stack: StackDirectory, settings: Settings, kinds: Collection[str] = SERVICES
) -> list[Part]:
    """Write certificates and configurations into the stack's folder `edge`; the proxies of all regions that have one.

    `kinds` are the kinds of parts that run behind them.
    Raises OSError.
    """
    folder = stack.edge
    folder.mkdir(mode=0o700, exist_ok=True)
    regions = [seen_by(region, EDGE) for region in settings.regions if region.edge_port]
    write_certificates(folder, stack.authority, [region.name for region in regions])
    exporter = _has_exporter(program)
    parts = []
    for region in regions:
        path = folder / f"{region.name}.cfg"
        path.write_text(configuration(settings, region, folder, exporter, kinds))
        parts.append(_part(program, path, region))
    return parts


def _part(program: str, path: Path, region: Region) -> Part:
    name = f"{region.name}.{EDGE}"
    return Part(
        handle=name,
        log_name=name,
        argv=(program, "-db", "-f", str(path)),
        probe=f"http://{HOST}:{region.metrics_ports[EDGE]}/readyz",
        layer=Layer.SERVICE,
        region=region.name,
        stop_signal=signal.SIGUSR1,
    )


def _has_exporter(program: str) -> bool:
    """Whether this build serves Prometheus metrics."""
    try:
        done = subprocess.run([program, "-vv"], capture_output=True, text=True, timeout=_VERSION_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return "prometheus-exporter" in done.stdout


def configuration(
    settings: Settings, region: Region, folder: Path, exporter: bool = True, kinds: Collection[str] = SERVICES
) -> str:
    """The whole file for one region."""
    room = make_room()
    sections = [
        _global(settings, region, room),
        _defaults(),
        _frontend(region, folder / f"{region.name}.pem", room),
        _apart(settings, region, room),
        _control(region, exporter, kinds),
        *_backends(settings, region, room),
    ]
    return "\n".join(sections)


def _global(settings: Settings, region: Region, room: Room) -> str:
    return f"""global
    nbthread 1
    maxconn {room.connections}
    spread-checks 20
    hard-stop-after 30s
    stats socket {shlex.quote(settings.socket(region.name, EDGE))} mode 600 level admin
    tune.bufsize 16384
    tune.maxrewrite 1024
    tune.http.maxhdr 64
    tune.sndbuf.client {KERNEL_BYTES}
    tune.rcvbuf.server {KERNEL_BYTES}
    ssl-default-bind-options ssl-min-ver TLSv1.2
"""


def _defaults() -> str:
    """Timeouts: a head within 10 s, a server's silence within 30 s; connections that do nothing end."""
    errors = "\n".join(_error(status) for status in _ERRORS)
    return f"""defaults
    mode http
    timeout connect 500ms
    timeout check 1s
    timeout queue 1s
    timeout client 30s
    timeout client-fin 5s
    timeout server 30s
    timeout server-fin 5s
    timeout http-request 10s
    timeout http-keep-alive 30s
    retries 3
    option redispatch 1
{errors}
"""


def _error(status: int) -> str:
    slug, title, detail = _ERRORS[status]
    body = f'{{"type":"urn:feedstorm:problem:{slug}","title":"{title}","status":{status},"detail":"{detail}"}}'
    retry = " hdr Retry-After 1" if status == 503 else ""
    return f"    http-error status {status} content-type application/problem+json string '{body}'{retry}"


def _frontend(region: Region, certificate: Path, room: Room) -> str:
    """The operator's paths are not for clients: what comes through here must not look as if it came from this host.

    Nor are metrics: making them costs a server a good deal, and nothing limits who asks.
    """
    return f"""frontend edge
    bind {HOST}:{region.edge_port} ssl crt {shlex.quote(str(certificate))} alpn h2,http/1.1
    maxconn {room.clients}
    option http-buffer-request
    option http-ignore-probes
    option http-no-delay
    http-request deny deny_status 404 if {{ path,url_dec -m beg /v1/operator }} || {{ path,url_dec /metrics }}
    http-request deny deny_status 413 if {{ req.body_size gt {BODY_BYTES} }}
    http-request set-header X-Forwarded-For %[src]
    http-request set-header X-Forwarded-Proto https
    # those of all servers together: while one is away the others take its streams
    http-request deny deny_status 503 if {{ path /v1/stream }} {{ be_conn(streams) ge {room.streams} }}
    use_backend streams if {{ path /v1/stream }}
    acl repeatable method GET HEAD
    acl repeatable path /v1/feed /v1/posts/batch
    use_backend repeatable if repeatable
    default_backend once
"""


def _apart(settings: Settings, region: Region, room: Room) -> str:
    """Lets each request be the first of a connection of its own, within the proxy.

    When a server breaks off in any later request of a connection, HAProxy ends it in silence, on HTTP/2 as
    REFUSED_STREAM: that says "nothing was done, do it again", which of a write nobody knows. In the first request it
    says 502; that is passed on, or, where a request changes nothing, the request goes to another server.
    """
    address = _unix(settings.socket(region.name, f"{EDGE}-apart"))
    return f"""backend repeatable
    option http-server-close
    http-reuse never
    retry-on conn-failure empty-response 502
    server here {address} maxconn {room.reads}

backend once
    option http-server-close
    http-reuse never
    retry-on conn-failure
    server here {address} maxconn {room.writes}

frontend apart
    bind {address} mode 600
    default_backend apis
"""


def _control(region: Region, exporter: bool, kinds: Collection[str]) -> str:
    """For this host alone: is the proxy there, can it serve (an api is asked through it), what does it count."""
    ok = 'status 200 content-type application/json string \'{"status":"ok"}\''
    lines = [
        "frontend control",
        f"    bind {HOST}:{region.metrics_ports[EDGE]}",
        "    maxconn 32",
        "    http-request use-service prometheus-exporter if { path /metrics }" if exporter else "",
        f"    http-request return {ok} if {{ path /healthz }}",
        "    http-request deny deny_status 404 unless { path /readyz }",
        "    http-request deny deny_status 503 unless { nbsrv(streams) gt 0 }" if "fep" in kinds else "",
        f"    default_backend {'apis' if 'api' in kinds else 'streams'}",
    ]
    return "\n".join(line for line in lines if line) + "\n"


_CHECKED = f"""    option httpchk
    http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host {_CHECKER}
    http-check expect status 200
    default-server check fastinter 250ms downinter 500ms fall 2 rise 1 observe layer4 error-limit 1 on-error mark-down
"""
_BY_USER = """    # a user stays with one api while it serves: what that api just changed, it also shows
    balance hdr(Authorization)
    hash-type consistent
"""
_APIS = f"""{_CHECKED}{_BY_USER}    retry-on conn-failure
    # each request is the first of its session, which would open a connection; idle ones are closed here, before the
    # server does
    http-reuse always
    default-server pool-purge-delay 2s
"""
_STREAMS = f"""{_CHECKED}    balance leastconn
    retry-on conn-failure empty-response
    option http-no-delay
    # silence is no failure of a stream; a fep that fails its checks loses its streams, which resume elsewhere
    timeout server 2h
    default-server on-marked-down shutdown-sessions
"""


def _backends(settings: Settings, region: Region, room: Room) -> Iterator[str]:
    """For each kind the region's own servers with a backup a region, nearest first, and what is behind the backups."""
    ring = settings.regions[region.index + 1 :] + settings.regions[: region.index]
    kinds = (("apis", _APIS, "api", room.requests), ("streams", _STREAMS, "fep", room.streams))
    for name, about, kind, through in kinds:
        doors = {other.name: _unix(settings.socket(region.name, f"{EDGE}-{name}-{other.index}")) for other in ring}
        # nothing but this proxy is asked: a door with nobody behind it is closed soon
        ways = (f"{door} maxconn {through} inter 500ms fall 1 pool-max-conn 0 backup" for door in doors.values())
        backups = (f"    server {other} {way}" for other, way in zip(doors, ways, strict=True))
        limit = [f"    fullconn {room.streams}"] if kind == "fep" else []  # to be seen in the metrics, no more
        yield _backend(name, about, [*limit, *_servers(region, kind, room, "500ms"), *backups])
        for other in ring:
            far = f"{name}-{other.name}"
            yield _door(far, doors[other.name])
            yield _backend(far, about, _servers(other, kind, room, "2s"))


def _unix(path: str) -> str:
    """A unix socket's address, whatever its path holds: HAProxy reads quotes as a shell does."""
    return shlex.quote(f"unix@{path}")


def _backend(name: str, about: str, servers: Iterable[str]) -> str:
    return "\n".join([f"backend {name}", about.rstrip(), *servers]) + "\n"


def _door(name: str, address: str) -> str:
    """The way to another region's servers. To checks it says itself whether any of them serves.

    Each request has a connection of its own here too (`pool-max-conn 0`), as told in `_apart`.
    """
    return f"""frontend {name}
    bind {address} mode 600
    option http-no-delay
    http-request return status 200 if {{ hdr(host) {_CHECKER} }} {{ nbsrv({name}) gt 0 }}
    http-request deny deny_status 503 if {{ hdr(host) {_CHECKER} }}
    default_backend {name}
"""


def _servers(region: Region, kind: str, room: Room, interval: str) -> Iterator[str]:
    """Lines for the servers of one kind; each may have all the streams there are."""
    ports = region.api_ports if kind == "api" else region.fep_ports
    limit = API_REQUESTS if kind == "api" else room.streams
    for k, port in enumerate(ports):
        yield f"    server {region.name}.{kind}-{k} {HOST}:{port} maxconn {limit} inter {interval}"
