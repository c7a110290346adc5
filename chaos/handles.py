"""Handles: what a target profile lets chaos touch, and the form each backend needs.

A handle is one named thing of the target: a process group (`backend = "process"`) or a proxied network link
(`backend = "toxiproxy"`). Profiles give plain tables; here they become typed, with every problem named.
"""

from __future__ import annotations

import fnmatch
import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from harness.core.errors import nearest

BACKENDS = ("process", "toxiproxy")


class Handle(msgspec.Struct, kw_only=True, frozen=True):
    """One thing that faults may touch."""

    name: str
    backend: str
    pid_file: str = ""
    """process: file holding "PID STARTTIME" of the leader of the process group (field 22 of /proc/PID/stat)"""
    hold_file: str = ""
    """process: while this file exists, its supervisor leaves the process down"""
    ready: str = ""
    """process: answers when it serves again: tcp://host:port, http://host:port/path (200) or unix:///path"""
    memcached: tuple[str, ...] = ()
    """process: host:port of the caches it is, if it is one"""
    api: str = ""
    """toxiproxy: base URL of its API"""
    proxy: str = ""
    """toxiproxy: name of the proxy; data of the link flows downstream, from its upstream to the client"""
    probe: str = ""
    """toxiproxy: hex bytes that make the upstream answer at once; empty: an HTTP request"""
    region: str = ""
    regions: tuple[str, ...] = ()
    """regions the handle belongs to; a link: from, to"""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Hosts that chaos would talk to (unix sockets are local by nature)."""
        hosts = [urlsplit(url).hostname or "" for url in (self.ready, self.api) if url and not url.startswith("unix:")]
        return (*hosts, *(address.rpartition(":")[0] for address in self.memcached))


def parse_handle(name: str, table: Mapping[str, Any]) -> Handle:
    """The handle in a profile's table. Raises ValueError; keys that are not ours are left alone."""
    backend = table.get("backend")
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
    known = {field: table[field] for field in Handle.__struct_fields__ if field in table}
    try:
        handle = msgspec.convert({**known, "name": name}, Handle)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error
    needed = ("pid_file",) if backend == "process" else ("api", "proxy")
    missing = [field for field in needed if not getattr(handle, field)]
    if missing:
        raise ValueError(f"needs {' and '.join(missing)}")
    if not handle.regions and handle.region:
        handle = msgspec.structs.replace(handle, regions=(handle.region,))
    return handle


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
