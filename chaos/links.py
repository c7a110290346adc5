"""What the faults on proxied links share: identity, a probe that crosses the link, putting toxics back.

The probe sends bytes that make the upstream react (answer, or close) and times the reaction through the proxy, and
straight to the upstream as a control at the same moment; so a slow upstream is not taken for a slow link. A new
connection proves nothing: toxiproxy accepts it whatever its toxics.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

import msgspec

from chaos.handles import Handle
from chaos.kind import FaultError
from chaos.toxiproxy import NoSuchProxy, ProxyState, Toxic, ToxiproxyGone, ToxiproxyServer, same_toxic

DEFAULT_PROBE = b"GET / HTTP/1.0\r\n\r\n"
STREAMS = ("downstream", "upstream")
GONE_GRACE_S = 3.0
POLL_S = 0.1


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
            if (state.listen, state.upstream) != (link.listen, link.upstream):
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
