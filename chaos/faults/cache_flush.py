"""cache-flush: every entry of a memcached is gone at once; the process stays up. There is nothing to undo."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Mapping
from typing import Any

import msgspec

from chaos.handles import Handle
from chaos.kind import FaultError, Parameter, Witness

TIMEOUT_S = 2.0
MARK_LIFE_S = 600


class FlushPlan(msgspec.Struct, frozen=True):
    """The caches to empty, and the key that will prove it."""

    addresses: tuple[str, ...]
    mark: str


class CacheFlush:
    """See the module."""

    name = "cache-flush"
    about = "memcached `flush_all` on the handle's caches; they refill by themselves."
    backends: tuple[str, ...] = ("process",)
    needs: tuple[str, ...] = ("memcached",)
    colour = "#c98a1b"
    parameters: Mapping[str, Parameter] = {}
    plan_type = FlushPlan

    def plan(self, handle: Handle, params: Mapping[str, Any]) -> FlushPlan:
        """Name the mark."""
        return FlushPlan(handle.memcached, f"feedstorm:flush:{secrets.token_hex(6)}")

    def inject(self, plan: FlushPlan) -> None:
        """Leave a mark in each cache, see it there, flush."""
        for address in plan.addresses:
            _ask(address, f"set {plan.mark} 0 {MARK_LIFE_S} 1\r\n1\r\n", "STORED")
            if not _holds(address, plan.mark):
                raise FaultError(f"{address}: a key that was just set cannot be read")
            _ask(address, "flush_all\r\n", "OK")

    def witness(self, plan: FlushPlan, within_s: float) -> Witness:
        """The marks are gone."""
        try:
            left = [address for address in plan.addresses if _holds(address, plan.mark)]
        except (OSError, FaultError) as error:
            return Witness(False, str(error))
        if left:
            return Witness(False, f"{', '.join(left)} still holds a key set before the flush")
        return Witness(True, f"a key set before the flush is gone from {', '.join(plan.addresses)}")

    def undo(self, plan: FlushPlan) -> str:
        """Nothing."""
        return "nothing to undo: a cache refills by itself"


def _holds(address: str, key: str) -> bool:
    return _ask(address, f"get {key}\r\n", "END", "VALUE") == "VALUE"


def _ask(address: str, request: str, *expected: str) -> str:
    """First word of the reply. Raises FaultError when it is none of `expected`, OSError when nobody answers."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=TIMEOUT_S) as sock:
        sock.sendall(request.encode())
        with sock.makefile("rb") as replies:
            line = replies.readline().decode(errors="replace").strip()
    word = line.partition(" ")[0]
    if word not in expected:
        raise FaultError(f"{address}: {request.split()[0]} answered {line!r}, not {' or '.join(expected)}")
    return word
