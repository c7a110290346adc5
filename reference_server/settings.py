"""What every process of the stack is told at start: one immutable document, `settings.json` in the stack's directory.

The supervisor chooses the ports and writes it (mode 0600: it holds the signing secret); each process gets
its path, the name of its region and its own name on the command line.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

MAX_FEPS = 64
"""stream edges of a region: a lane keeps where a user listens as bits of one number"""


class Region(msgspec.Struct, kw_only=True, frozen=True):
    """Addresses of one region's parts. Everything listens on 127.0.0.1."""

    name: str
    index: int
    """0, 1, ...: position in the stack; part of hybrid clocks' tie-break"""
    api_ports: tuple[int, ...]
    fep_ports: tuple[int, ...]
    memcached_ports: tuple[int, ...]
    redis_queue_port: int
    redis_cache_port: int
    replicator_port: int
    """where peers pull this region's outbox from"""
    fanout_workers: int = 1
    peers: dict[str, int] = {}
    """peer region -> port on which its outbox is reached (a toxiproxy link, or directly)"""
    metrics_ports: dict[str, int] = {}
    """part ("graph", "fanout-0", ...) -> port of its own /metrics; absent: it has none"""
    proxied: dict[str, int] = {}
    """link within the region ("api-to-memcached") -> port of the proxy it goes through (see `inner_links`)"""
    edge_port: int = 0
    """TLS port of the region's edge proxy; 0: there is none"""


class Settings(msgspec.Struct, kw_only=True, frozen=True):
    """The whole stack."""

    directory: str
    """absolute; holds one folder a region (data), `logs/`, `pids/`, `holds/`"""
    sockets: str
    """a short absolute directory for unix sockets (the kernel allows 107 bytes a path)"""
    secret: str
    """hex; signs tokens and cursors; equal in all regions"""
    regions: tuple[Region, ...]
    population: str = ""
    """directory of the population hand-over files; empty: `users` users without follows, none joined"""
    users: int = 0
    """number of identities when there is no population"""
    lanes: int = 4
    depth: int = 800
    """entries a feed shows"""
    celebrity_threshold: int = 0
    """follower count from which an author takes the throttled path; 0: users / 10"""
    flags: dict[str, bool | int | float | str] = {}
    """what differs from the defaults at start (see `flags`)"""
    defects: tuple[str, ...] = ()

    def region(self, name: str) -> Region:
        """The region called `name`. Raises KeyError."""
        return {r.name: r for r in self.regions}[name]

    def data(self, region: str, *parts: str) -> Path:
        """A path in the region's data folder (created)."""
        folder = Path(self.directory, region, *parts)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def socket(self, region: str, name: str) -> str:
        """Unix socket of a part: "graph", "lane-3" ..."""
        return f"{self.sockets}/{region}.{name}.sock"

    def has_defect(self, name: str) -> bool:
        """Whether the planted defect is switched on."""
        return name in self.defects


DEFECTS: dict[str, str] = {
    "lose-after-ack": "the accept script acknowledges every 50th post without writing it to the queue",
    "duplicate-entry": "every 20th feed page shows one of its items a second time",
    "no-wal": "the lane owner forgets: a lost cache is rebuilt from the durable store alone, whose archive lags",
    "skip-notify": "fan-out writes the timeline but skips the notification of every 20th record",
    "phantom-post": "every 20th feed page holds a post that nobody wrote",
    "cursor-skip": "a cursor skips the first item of the next page",
    "unordered-page": "every 10th feed page has two neighbours swapped",
    "no-resume": "the edge ignores Last-Event-ID and starts at the head, without a resync",
}
"""Planted defects of the stack: name -> what is wrong. Each process checks the ones that concern it."""


def write_settings(path: Path, settings: Settings) -> None:
    """Store the document, readable by its owner only."""
    path.touch(mode=0o600)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(settings), indent=1))


def read_settings(path: str | Path) -> Settings:
    """Read the document. Raises OSError, msgspec.ValidationError."""
    return msgspec.json.decode(Path(path).read_bytes(), type=Settings)
