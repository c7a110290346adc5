"""Handles: what a target profile lets chaos touch, and the form each backend needs.

A handle is one named thing of the target: a process group (`backend = "process"`), a proxied network link
(`backend = "toxiproxy"`), all links between regions together (`backend = "network"`) or a Docker container
(`backend = "container"`). Profiles give plain tables; here they become typed, with every problem named.
"""

from __future__ import annotations

import fnmatch
import ipaddress
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from harness.core.errors import nearest

NEEDED = {
    "process": ("pid_file",),
    "toxiproxy": ("api", "proxy"),
    "network": ("api", "links"),
    "container": ("container",),
}
"""by backend, fields without which a handle is none"""
PATHS = ("pid_file", "hold_file", "wrapper_file", "durable", "log", "token_file", "operator_token_file")
"""fields that are paths"""
BACKENDS = tuple(NEEDED)


class RegionLink(msgspec.Struct, kw_only=True, frozen=True):
    """One directed link of a network: a toxiproxy proxy."""

    proxy: str
    regions: tuple[str, str]
    """from, to"""
    probe: str = ""
    """as in `Handle`"""


class Handle(msgspec.Struct, kw_only=True, frozen=True):
    """One thing that faults may touch."""

    name: str
    backend: str
    pid_file: str = ""
    """process: file holding "PID STARTTIME" of the leader of the process group (field 22 of /proc/PID/stat)"""
    hold_file: str = ""
    """process: while this file exists, its supervisor leaves the process down"""
    ready: str = ""
    """process, container: answers when it serves again: tcp://host:port, http://host:port/path (200), unix:///path"""
    wrapper_file: str = ""
    """process: words (a JSON list) that its supervisor puts before its command when it starts it; absent: none"""
    clock: str = ""
    """process: tells its clock: http://host:port/path (Date header), redis://host:port or memcached://host:port"""
    memcached: tuple[str, ...] = ()
    """process: host:port of the caches it is, if it is one"""
    redis: str = ""
    """process: host:port, if it is a redis server"""
    durable: str = ""
    """process: SQLite file of the durable store it writes"""
    log: str = ""
    """process: directory of its log; RocksDB databases at or right below it"""
    stream: str = ""
    """process: URL of the event streams it serves"""
    token_file: str = ""
    """process: bearer tokens of users who may open streams, one a line; readable by its owner only"""
    reads: str = ""
    """process: URL of the feed it serves to whoever has a user's token"""
    flags: str = ""
    """process: URL at which its operator reads flags, and below which sets one: http://host:port/path"""
    operator_token_file: str = ""
    """process: the operator's bearer token; readable by its owner only"""
    api: str = ""
    """toxiproxy: base URL of its API"""
    proxy: str = ""
    """toxiproxy: name of the proxy; data of the link flows downstream, from its upstream to the client"""
    probe: str = ""
    """toxiproxy, container: hex bytes that make the upstream or the container answer at once; empty: an HTTP request"""
    container: str = ""
    """container: its name or id"""
    docker: str = ""
    """container: its engine, unix:///path or tcp://host:port (no TLS); empty: this machine's"""
    links: tuple[RegionLink, ...] = ()
    """network: all links between the target's regions, proxies of the toxiproxy at `api`"""
    region: str = ""
    regions: tuple[str, ...] = ()
    """regions the handle belongs to; a link: from, to"""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Hosts that chaos would talk to (unix sockets are local by nature)."""
        urls = (self.ready, self.clock, self.api, self.docker, self.stream, self.reads, self.flags)
        hosts = [urlsplit(url).hostname or "" for url in urls if url and not url.startswith("unix:")]
        servers = (*self.memcached, *([self.redis] if self.redis else []))
        return (*hosts, *(address.rpartition(":")[0] for address in servers))

    def of_link(self, link: RegionLink) -> Handle:
        """network: one of its links as a handle of its own."""
        return Handle(
            name=f"{self.name}: {link.proxy}",
            backend="toxiproxy",
            api=self.api,
            proxy=link.proxy,
            probe=link.probe,
            regions=link.regions,
        )


def parse_handle(name: str, table: Mapping[str, Any]) -> Handle:
    """The handle in a profile's table. Raises ValueError; keys that are not ours are left alone.

    Its paths are absolute from here on: whoever undoes may be in another directory than the harness.
    """
    backend = table.get("backend")
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
    known = {field: table[field] for field in Handle.__struct_fields__ if field in table}
    try:
        handle = msgspec.convert({**known, "name": name}, Handle)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error
    missing = [field for field in NEEDED[backend] if not getattr(handle, field)]
    if missing:
        raise ValueError(f"needs {' and '.join(missing)}")
    if handle.docker and not _is_engine_url(handle.docker):
        raise ValueError(f"docker must be unix:///path or tcp://host:port, got {handle.docker!r}")
    if not handle.regions and handle.region:
        handle = msgspec.structs.replace(handle, regions=(handle.region,))
    paths = {field: str(Path(path).absolute()) for field in PATHS if (path := getattr(handle, field))}
    return msgspec.structs.replace(handle, **paths)


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """Handle names that `pattern` means: the name itself, or a shell pattern such as `link.*`. Sorted."""
    choices = sorted(names)
    return [pattern] if pattern in choices else fnmatch.filter(choices, pattern)


def unmatched(pattern: str, names: Iterable[str]) -> str:
    """Sentence for a pattern that means no handle, with the nearest name."""
    choices = sorted(names)
    if not choices:
        return f"{pattern!r} matches nothing: this target has no handles"
    return f"no handle is called {pattern!r}{nearest(pattern, choices)}"


def is_loopback(host: str) -> bool:
    """Whether the host is this machine by its address alone (no name is looked up)."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_engine_url(url: str) -> bool:
    parts = urlsplit(url)
    return bool(parts.path) if parts.scheme == "unix" else parts.scheme == "tcp" and bool(parts.hostname and parts.port)
