"""Ports are free, distinct, reserved, and outside the range for outgoing connections."""

from __future__ import annotations

import socket
from pathlib import Path

from reference_server.supervisor.ports import Ports


def test_distinct_and_reserved_against_other_stacks() -> None:
    one, other = Ports(), Ports()
    try:
        taken = [ports.take() for ports in (one, other) for _ in range(50)]
        assert len(set(taken)) == 100
    finally:
        one.close()
        other.close()


def test_never_a_port_the_kernel_gives_to_clients() -> None:
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    ports = Ports()
    try:
        assert not [p for p in (ports.take() for _ in range(100)) if low <= p <= high]
    finally:
        ports.close()


def test_can_be_listened_on() -> None:
    ports = Ports()
    try:
        with socket.create_server(("127.0.0.1", ports.take())):
            pass
    finally:
        ports.close()
