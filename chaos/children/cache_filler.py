"""Fills memcached servers with keys of its own until they evict others', then waits for its end.

A server throws an entry out only when its memory is all in use, and then one of the same slab class as what comes in.
So the memory that is left goes first, to entries of one class; then each class the target uses gets entries until as
many as asked have been evicted in it; at last the class of the mark, a key that was set before and that nobody reads.
Everything is bounded by the numbers in the job, and expires with the lease.
"""

from __future__ import annotations

import signal
import socket
import sys
from typing import Any

from chaos.children.lease import begin, say_ready
from chaos.memcached import connected, held, stats

BATCH_BYTES = 1 << 20
LOOK_EVERY_BYTES = 4 << 20
SEND_TIMEOUT_S = 10.0


def main() -> None:
    """See the module."""
    lease_s = int(float(sys.argv[3]))
    job = begin()
    fillers = [_Filler(node, lease_s) for node in job["nodes"]]
    for filler in fillers:
        filler.mark()
    say_ready()
    for filler in fillers:
        filler.fill()
    while True:
        signal.pause()


class _Filler:
    def __init__(self, node: dict[str, Any], lease_s: int) -> None:
        self.node, self.lease_s = node, lease_s
        self.address = node["address"]
        self.connection: socket.socket = connected(self.address, SEND_TIMEOUT_S)

    def mark(self) -> None:
        """Set the key that will prove the evictions, and see it there."""
        self._send(self.node["mark_class"], 0, 1)
        if not held(self.address, [f"{self.node['mark_class']['prefix']}0"]):
            sys.exit(f"{self.address}: a key that was just set cannot be read")

    def fill(self) -> None:
        """The storm."""
        before = stats(self.address)["evictions"]
        self._push(self.node["filling"], lambda: stats(self.address)["evictions"] > before)
        for kind in self.node["classes"]:
            name = f"items:{kind['number']}:evicted"
            until = stats(self.address, "items").get(name, 0) + kind["evict"]
            self._push(kind, lambda name=name, until=until: stats(self.address, "items").get(name, 0) >= until)
        mark = f"{self.node['mark_class']['prefix']}0"
        self._push(self.node["mark_class"], lambda: not held(self.address, [mark]), first=1)

    def _push(self, kind: dict[str, Any], is_enough: Any, first: int = 0) -> None:
        """Set keys of the class, in order, until it is enough or there are no more."""
        step = max(1, min(LOOK_EVERY_BYTES // kind["value_bytes"], kind["keys"] // 20 + 1))
        at = first
        while at < kind["keys"] and not is_enough():
            self._send(kind, at, min(at + step, kind["keys"]))
            at += step

    def _send(self, kind: dict[str, Any], start: int, stop: int) -> None:
        size = kind["value_bytes"]
        tail = b" 0 %d %d noreply\r\n%b\r\n" % (self.lease_s, size, b"x" * size)
        prefix = kind["prefix"].encode()
        batch = max(1, BATCH_BYTES // size)
        for at in range(start, stop, batch):
            numbers = range(at, min(at + batch, stop))
            self.connection.sendall(b"".join(b"set %b%d%b" % (prefix, number, tail) for number in numbers))
        self.connection.sendall(b"mn\r\n")
        while not self.connection.recv(4096).endswith(b"MN\r\n"):
            pass


if __name__ == "__main__":
    main()
