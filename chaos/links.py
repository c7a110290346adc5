"""What the faults on proxied links share: identity, probes that cross the link, putting toxics back.

A probe sends bytes that make the upstream react (answer, or close) and times the reaction through the proxy, and
straight to the upstream as a control at the same moment; so a slow upstream is not taken for a slow link. A new
connection proves nothing: toxiproxy accepts it whatever its toxics. Nor do toxiproxy's own counters of bytes: they are
added up when a connection ends.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from chaos.handles import Handle
from chaos.kind import FaultError, Parameter
from chaos.toxiproxy import NoSuchProxy, ProxyState, Toxic, ToxiproxyGone, ToxiproxyServer, same_toxic

DEFAULT_PROBE = b"GET / HTTP/1.1\r\nHost: probe\r\n\r\n"
STREAMS = ("downstream", "upstream")
DIRECTIONS: Mapping[str, tuple[str, ...]] = {"both": STREAMS, "one-way": ("downstream",)}
GONE_GRACE_S = 3.0
POLL_S = 0.1
CONTROL_S = 0.5
"""patience with the upstream itself"""
QUIET_S = 0.05
"""silence after which a reply is taken to be over"""
READ_BYTES = 65_536


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """One proxied link, with its identity (a proxy of that name with other addresses is another stack's)."""

    api: str
    proxy: str
    listen: str
    upstream: str
    probe: str

    @property
    def server(self) -> ToxiproxyServer:
        """The server that runs the proxy."""
        return ToxiproxyServer(self.api)


class Reaction(msgspec.Struct, frozen=True):
    """What came back to a probe: after how long, and whether it held data (else the other side just closed)."""

    seconds: float
    data: bool


class Exchange(msgspec.Struct, frozen=True):
    """What became of bytes that were sent: how long until the last byte of the reply, and how the connection ended."""

    seconds: float
    received: int
    end: str = ""
    """ "closed", "reset", or "": it is still open"""


def _direction(value: Any) -> str:
    if value not in DIRECTIONS:
        raise ValueError(f"must be one of {', '.join(DIRECTIONS)}, got {value!r}")
    return str(value)


DIRECTION = Parameter(
    _direction,
    '"both", or "one-way": only what flows from the link\'s first region (in a region: its upstream) to its second',
    default="both",
)


def read_link(handle: Handle) -> tuple[Link, ProxyState]:
    """The link of a handle as it is now. Raises FaultError."""
    state = ToxiproxyServer(handle.api).proxy(handle.proxy)
    if not state.enabled:
        raise FaultError(f"{handle.name}: proxy {handle.proxy} is disabled")
    link = Link(api=handle.api, proxy=handle.proxy, listen=state.listen, upstream=state.upstream, probe=handle.probe)
    return link, state


def probe(address: str, payload: bytes, timeout_s: float, *, half_close: bool) -> Reaction | None:
    """Reaction of whoever serves at `address` (host:port); None when none came in time. Raises OSError if refused."""
    host, _, port = address.rpartition(":")
    began = time.monotonic()
    with socket.create_connection((host, int(port)), timeout=timeout_s) as sock:
        sent = time.monotonic()
        sock.settimeout(max(timeout_s - (sent - began), 0.001))
        try:
            sock.sendall(payload)
            if half_close:
                sock.shutdown(socket.SHUT_WR)
            data = sock.recv(1)
        except TimeoutError:
            return None
        except ConnectionError:
            data = b""
        return Reaction(time.monotonic() - sent, bool(data))


def exchange(address: str, payload: bytes, timeout_s: float, *, enough: int | None = None) -> Exchange:
    """Send all of `payload` while reading what comes back, until `enough` bytes, or else until the reply has ended.

    Ends after `timeout_s` in any case. Raises OSError when nobody accepts the connection.
    """
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=timeout_s) as sock:
        sock.setblocking(False)
        began = last = time.monotonic()
        unsent, received = memoryview(payload), 0
        while enough is None or received < enough:
            until = began + timeout_s
            if enough is None and received and not unsent:
                until = min(until, last + QUIET_S)
            waiting = [sock] if unsent else []
            readable, writable, _ = select.select([sock], waiting, [], max(until - time.monotonic(), 0))
            if not readable and not writable:
                break
            try:
                if writable:
                    unsent = unsent[sock.send(unsent) :]
                if readable and not (count := len(sock.recv(READ_BYTES))):
                    return Exchange(time.monotonic() - began, received, "closed")
            except ConnectionError:
                return Exchange(time.monotonic() - began, received, "reset")
            if readable:
                received, last = received + count, time.monotonic()
        ended = last if enough is None or received >= enough else time.monotonic()
        return Exchange(ended - began, received)


def probe_payload(link: Link) -> bytes:
    """Bytes that make this link's upstream react."""
    return bytes.fromhex(link.probe) if link.probe else DEFAULT_PROBE


def nominal_latency_s(toxics: tuple[Toxic, ...], stream: str) -> float:
    """Sum of the delays that latency toxics put on one stream."""
    return sum(t.attributes.get("latency", 0) for t in toxics if t.type == "latency" and t.stream == stream) / 1000


def undo_on(link: Link, change: Callable[[ToxiproxyServer, ProxyState], str]) -> str:
    """Apply `change` to the link's proxy, again for a while if it fails: a restarted server is filled by others too.

    A server or proxy that stays away took its toxics with it: that is undone. Raises FaultError.
    """
    server = link.server
    deadline = time.monotonic() + GONE_GRACE_S
    while True:
        try:
            state = server.proxy(link.proxy)
            if state.listen != link.listen:  # its upstream may be another one for as long as a fault lasts
                return f"proxy {link.proxy} now belongs to another stack: nothing of this fault is left"
            return change(server, state)
        except (ToxiproxyGone, NoSuchProxy) as error:
            if time.monotonic() >= deadline:
                return f"the toxics went with their proxy ({error})"
        except FaultError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(POLL_S)


def put_back(server: ToxiproxyServer, proxy: str, before: tuple[Toxic, ...], ours: Callable[[Toxic], bool]) -> None:
    """Remove toxics that are `ours`, restore those of `before`, and read back that exactly this is there."""
    recorded = {t.name: t for t in before}
    for toxic in server.proxy(proxy).toxics:
        if toxic.name not in recorded and ours(toxic):
            server.remove_toxic(proxy, toxic.name)
    for toxic in before:
        server.set_toxic(proxy, toxic)
    state = server.proxy(proxy)
    wrong = [t.name for t in before if (found := state.toxic(t.name)) is None or not same_toxic(found, t)]
    wrong += [t.name for t in state.toxics if t.name not in recorded and ours(t)]
    if wrong:
        raise FaultError(f"proxy {proxy}: toxics not as before: {', '.join(wrong)}")
