"""Chooses free ports on 127.0.0.1 that stay ours for the life of the stack, also while a part is down.

Ports come from outside the kernel's range for outgoing connections: a part held down for ten seconds under load would
otherwise find its port taken by a client's socket. Two stacks on one machine agree by reservations: a
socket in the abstract namespace, bound while the stack lives and gone with it.
"""

from __future__ import annotations

import random
import socket
from pathlib import Path

from reference_server.supervisor.programs import StackUnavailable

_LOWEST = 10_240
_RANGE_FILE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_MIN_CHOICES = 1000


class Ports:
    """Hands out ports; keeps their reservations until `close`."""

    def __init__(self) -> None:
        self._reservations: list[socket.socket] = []
        self._choices = _choices()

    def take(self) -> int:
        """A port nobody listens on. Raises StackUnavailable."""
        for _ in range(1000):
            port = random.choice(self._choices)
            reservation = _reserve(port)
            if reservation is None:
                continue
            if _free(port):
                self._reservations.append(reservation)
                return port
            reservation.close()
        raise StackUnavailable("no free port on 127.0.0.1 was found in 1000 attempts; end other stacks first")

    def close(self) -> None:
        """Give the reservations back."""
        for reservation in self._reservations:
            reservation.close()
        self._reservations.clear()


def _choices() -> range:
    low, high = (int(word) for word in _RANGE_FILE.read_text().split())
    below, above = range(_LOWEST, low), range(high + 1, 65_536)
    best = max(below, above, key=len)
    return best if len(best) >= _MIN_CHOICES else range(_LOWEST, 65_536)


def _reserve(port: int) -> socket.socket | None:
    reservation = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        reservation.bind(f"\0feedstorm-port-{port}")
    except OSError:
        reservation.close()
        return None
    return reservation


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
