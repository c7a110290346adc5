"""The null probe of a run, one small process: `python -m harness.load.null_probe RUN RATE`. Writes noise.jsonl.

It asks nothing of the target. An echo over TCP on 127.0.0.1, to a process that does nothing else, is due at fixed times
(RATE a second, that of the scenario's reads, within bounds). What it takes, from its due time on, this machine adds to
any answer. Once a second that is noted, with what the machine was busy with (`harness.load.machine`), and its cost.

One thread and `select` instead of an asyncio loop: timers of uvloop and asyncio count whole milliseconds, which is more
than a quiet loopback takes. The look at the machine takes some milliseconds: it is made between two echoes, when none
is on its way. Ends when its standard input does, or by SIGTERM; the echo ends with its connection.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
import time
from collections import deque
from pathlib import Path

import msgspec

from harness.core.clock import NS_PER_MS, NS_PER_S, now_ns
from harness.load.machine import Machine, handle_pids, read_account
from harness.record.noise_file import Echo, NoiseRow
from harness.record.run_directory import RunDirectory

MOST_PER_S = 25.0
"""more would cost over 1 % of a core"""
LEAST_PER_S = 10.0
"""fewer would make percentiles of a phase of seconds meaningless"""
LINE_NS = NS_PER_S
OVERDUE_NS = NS_PER_S // 4
"""a line waits at most this long for echoes that are on their way"""
MESSAGE_BYTES = 64
AT_ONE_MOMENT_NS = NS_PER_MS
"""clocks that were read within this time were read at one moment"""
READINGS = 5


class Echoes:
    """Echoes due at a fixed rate: sent when due, matched with their answers, which come in order."""

    def __init__(self, connection: socket.socket, per_s: float, start_ns: int) -> None:
        self._connection = connection
        self._interval_ns = round(NS_PER_S / per_s)
        self._waiting: deque[tuple[int, int]] = deque()
        """(due, sent) of those without an answer"""
        self._part = 0
        """bytes of an answer that has not come whole"""
        self._answered: list[tuple[int, int, int]] = []
        self.due_ns = start_ns + self._interval_ns
        """of the next one"""

    @property
    def unanswered(self) -> int:
        """How many are on their way."""
        return len(self._waiting)

    def send_due(self) -> None:
        """Send what is due by now, each with its own due time however late it is."""
        while (sent_ns := now_ns()) >= self.due_ns:
            self._waiting.append((self.due_ns, sent_ns))
            self.due_ns += self._interval_ns
            self._connection.sendall(bytes(MESSAGE_BYTES))

    def receive(self) -> bool:
        """Take the answers that are there. False when there will be no more."""
        block = self._connection.recv(1 << 16)
        came_ns = now_ns()
        whole, self._part = divmod(self._part + len(block), MESSAGE_BYTES)
        for _ in range(whole):
            due_ns, sent_ns = self._waiting.popleft()
            self._answered.append((due_ns, sent_ns, came_ns))
        return bool(block)

    def take(self, start_ns: int) -> list[Echo]:
        """What was answered since the last call, timed from `start_ns`."""
        answered, self._answered = self._answered, []
        return [
            Echo(_us(due_ns - start_ns), _us(sent_ns - due_ns), _us(came_ns - due_ns))
            for due_ns, sent_ns, came_ns in answered
        ]


class NullProbe:
    """The probe's loop."""

    def __init__(self, run: RunDirectory, per_s: float, connection: socket.socket, echo_pid: int) -> None:
        """`per_s`: echoes a second; `connection` leads to the echo, process `echo_pid`."""
        self._connection, self._echo_pid = connection, echo_pid
        self._out = os.open(run.noise, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        harness = os.getppid()
        self._machine = Machine(lambda: [harness, *handle_pids(run.profile).values()])
        self._start_ns = now_ns()
        self._cost_ns = self._cost()
        self._echoes = Echoes(connection, per_s, self._start_ns)
        self._ended = False

    def end(self, *_: object) -> None:
        """Stop soon; also a signal handler."""
        self._ended = True

    def run(self) -> None:
        """Echo until it is time to end. Returns when the last line is written."""
        while not self._ended:
            self._echoes.send_due()
            wait_ns = self._echoes.due_ns - now_ns()
            readable, _, _ = select.select([self._connection, sys.stdin], [], [], max(0, wait_ns) / NS_PER_S)
            if self._connection in readable and not self._echoes.receive():
                return
            if sys.stdin in readable and not os.read(sys.stdin.fileno(), 1 << 12):
                self._ended = True
            if self._is_line_due():
                self._write_line()
        self._write_line()

    def _is_line_due(self) -> bool:
        late_ns = now_ns() - self._start_ns - LINE_NS
        return late_ns >= 0 and (not self._echoes.unanswered or late_ns >= OVERDUE_NS)

    def _write_line(self) -> None:
        use = self._machine.look()
        start_ns = self._start_ns
        self._start_ns, wall_ns, raw_ns = read_clocks()
        before_ns, self._cost_ns = self._cost_ns, self._cost()
        row = NoiseRow(
            start_ns=start_ns,
            end_ns=self._start_ns,
            echoes=self._echoes.take(start_ns),
            unanswered=self._echoes.unanswered,
            cost=round((self._cost_ns - before_ns) / max(1, self._start_ns - start_ns), 5),
            wall_ns=wall_ns,
            raw_ns=raw_ns,
            **vars(use),
        )
        os.write(self._out, msgspec.json.encode(row) + b"\n")

    def _cost(self) -> int:
        """Processor time of probe and echo so far."""
        echo = read_account(self._echo_pid)
        return time.process_time_ns() + (echo.ran_ns if echo is not None else 0)


def read_clocks() -> tuple[int, int, int]:
    """Monotonic, wall and unadjusted clock at one moment, ns; the last two are 0 when there is none in some tries."""
    for _ in range(READINGS):
        at_ns, wall_ns, raw_ns = now_ns(), time.time_ns(), time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
        if now_ns() - at_ns <= AT_ONE_MOMENT_NS:
            return at_ns, wall_ns, raw_ns
    return now_ns(), 0, 0


def start_echo() -> tuple[socket.socket, int]:
    """A connection to a process that sends back what it gets, and the process; it ends when the connection does."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        served, _ = server.accept()
    pid = os.fork()
    if not pid:
        client.close()
        echo(served)
        os._exit(0)
    served.close()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client, pid


def echo(connection: socket.socket) -> None:
    """Send back what comes, until the other side is gone."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        while block := connection.recv(1 << 16):
            connection.sendall(block)
    except OSError:
        return


def _us(ns: int) -> int:
    return round(ns / 1000)


def main(arguments: list[str]) -> int:
    """Probe for as long as the run lasts."""
    run, reads_per_s = RunDirectory(Path(arguments[0])), float(arguments[1])
    connection, pid = start_echo()
    probe = NullProbe(run, min(MOST_PER_S, max(LEAST_PER_S, reads_per_s)), connection, pid)
    signal.signal(signal.SIGTERM, probe.end)
    signal.signal(signal.SIGINT, probe.end)
    gc.collect()
    gc.freeze()
    probe.run()
    connection.close()
    os.waitpid(pid, 0)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
