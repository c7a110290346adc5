"""What an idle toxiproxy link adds to a small request and its reply over loopback: the difference of the p99s.

A memcached is asked for nothing ("mn"), one question at a time, straight and through a proxy without toxics, in turns
on two connections that stay open. The stack's links between regions always have such a proxy, others only when a fault
names them.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np

from benchmarks._lane import free_port, machine, memcached_nodes, printed
from reference_server.parent import die_with_parent
from reference_server.supervisor.links import Link, apply_links
from reference_server.supervisor.programs import StackUnavailable, find_toxiproxy

TARGET_MS = 1.0
TURNS = 40
QUESTIONS = 500
"""of a turn"""
WARM_UP = 200
ASK, ANSWER = b"mn\r\n", b"MN\r\n"
START_LIMIT_S = 10.0


@contextmanager
def running_link(upstream_port: int) -> Iterator[int]:
    """Port of a proxy without toxics. Exits 4 when there is no toxiproxy."""
    program = find_toxiproxy()
    if program is None:
        print("toxiproxy-server is not installed: see `feedstorm doctor`", file=sys.stderr)
        raise SystemExit(4)
    api_port, port = free_port(), free_port()
    process = subprocess.Popen(
        [program, "-host", "127.0.0.1", "-port", str(api_port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=die_with_parent,
    )
    try:
        link = Link(handle="idle", proxy="idle", regions=(), listen_port=port, upstream_port=upstream_port)
        deadline = time.monotonic() + START_LIMIT_S
        while True:
            try:
                asyncio.run(apply_links(api_port, [link]))
                break
            except StackUnavailable:
                if time.monotonic() > deadline:
                    raise
        yield port
    finally:
        process.kill()
        process.wait()


def connect(port: int) -> socket.socket:
    """A connection that sends small things at once."""
    sock = socket.create_connection(("127.0.0.1", port), 5)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def turn(sock: socket.socket, questions: int) -> list[int]:
    """Nanoseconds of each exchange."""
    times = []
    for _ in range(questions):
        began = time.perf_counter_ns()
        sock.sendall(ASK)
        if sock.recv(16) != ANSWER:
            raise RuntimeError("memcached did not answer")
        times.append(time.perf_counter_ns() - began)
    return times


def measure() -> tuple[np.ndarray, np.ndarray]:
    """Milliseconds of all exchanges: straight, and through the link."""
    with ExitStack() as stack:
        (port,) = stack.enter_context(memcached_nodes(1))
        linked = stack.enter_context(running_link(port))
        straight, through = (stack.enter_context(connect(p)) for p in (port, linked))
        times: tuple[list[int], list[int]] = ([], [])
        for sock in (straight, through):
            turn(sock, WARM_UP)
        for number in range(TURNS):
            order = (0, 1) if number % 2 else (1, 0)
            for which in order:
                times[which].extend(turn((straight, through)[which], QUESTIONS))
    return np.array(times[0]) / 1e6, np.array(times[1]) / 1e6


def main() -> int:
    """Measure and print one JSON line."""
    straight, through = measure()
    added_ms = float(np.percentile(through, 99) - np.percentile(straight, 99))
    told = {
        f"{name}_p{p}_ms": round(float(np.percentile(values, p)), 3)
        for name, values in (("straight", straight), ("through", through))
        for p in (50, 99)
    }
    result = {
        "benchmark": "link_overhead",
        "value": round(added_ms, 3),
        "unit": "ms that an idle proxy adds to p99",
        "target": TARGET_MS,
        "ok": added_ms < TARGET_MS,
        "details": told | {"exchanges": len(straight)},
        "machine": machine(),
    }
    return printed(result)


if __name__ == "__main__":
    sys.exit(main())
