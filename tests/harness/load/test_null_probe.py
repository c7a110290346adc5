"""The null probe as a process: what it writes, what it costs, and that it ends with whoever started it."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from harness.core.clock import NS_PER_S, now_ns
from harness.load.null_probe import Echoes, read_clocks
from harness.record.noise_file import NoiseRow
from harness.record.run_directory import RunDirectory

LONG_S = 60
"""nothing takes so long, also where others have the machine"""


def wait_until(condition, timeout_s, what):
    deadline, pause = time.monotonic() + timeout_s, threading.Event()
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        pause.wait(0.02)
    return found


@pytest.fixture
def run(tmp_path):
    return RunDirectory(tmp_path / "run").create()


@pytest.fixture
def probe(run):
    command = [sys.executable, "-m", "harness.load.null_probe", str(run.path), "1000"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.wait()
    process.stdin.close()


def rows_of(run):
    written = run.noise.read_bytes() if run.noise.exists() else b""
    *lines, _ = written.split(b"\n")  # behind the last line end is a line that is not whole yet
    return [msgspec.json.decode(line, type=NoiseRow) for line in lines]


def is_running(pid):
    """Whether the process is there, and not only waiting for somebody to ask how it ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return stat.rpartition(b")")[2].split()[0] != b"Z"


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:  # noqa: PTH123
        return [int(word) for word in file.read().split()]


@pytest.mark.slow
def test_lines_without_a_gap_that_say_what_echoes_took_and_what_it_costs(run, probe):
    wait_until(lambda: len(rows_of(run)) >= 3, LONG_S, "three lines")
    probe.send_signal(signal.SIGTERM)
    assert probe.wait(LONG_S) == 0
    rows = rows_of(run)
    assert [row.start_ns for row in rows[1:]] == [row.end_ns for row in rows[:-1]]
    echoes = [echo for row in rows for echo in row.echoes]
    due = [row.start_ns + 1000 * echo.due_us for row in rows for echo in row.echoes]
    apart = [after - before for before, after in pairwise(due)]  # 25 a second, where 1000 were asked for
    assert apart == pytest.approx([NS_PER_S // 25] * (len(due) - 1), abs=2000)
    assert len(echoes) > 25
    assert all(0 <= echo.late_us <= echo.took_us for echo in echoes)
    assert all(row.cost < 0.2 for row in rows)  # about 0.01, on a machine that has time
    assert all(row.wall_ns > 0 for row in rows if row.raw_ns)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["end of input", "killed"])
def test_it_and_its_echo_end_with_whoever_started_it(run, probe, how):
    [echo] = wait_until(lambda: rows_of(run) and children_of(probe.pid), LONG_S, "a line")
    if how == "killed":
        probe.kill()
    else:
        probe.stdin.close()
    probe.wait(LONG_S)
    wait_until(lambda: not is_running(echo), LONG_S, "the echo is gone")


def test_echoes_count_from_their_due_times_however_late_they_are_sent():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        begun_ns = now_ns() - 1050 * NS_PER_S  # that passed before it came to send anything
        echoes = Echoes(ours, 0.01, begun_ns)
        echoes.send_due()
        assert echoes.unanswered == 10
        theirs.sendall(theirs.recv(1 << 16)[:-30])  # the last one comes in parts
        assert echoes.receive()
        assert echoes.unanswered == 1
        theirs.sendall(bytes(30))
        assert echoes.receive()
        taken = echoes.take(begun_ns)
        assert [echo.due_us for echo in taken] == [100_000_000 * k for k in range(1, 11)]
        assert all(echo.took_us >= echo.late_us >= 1_050_000_000 - echo.due_us for echo in taken)
        assert echoes.take(begun_ns) == []
        theirs.shutdown(socket.SHUT_RDWR)
        assert not echoes.receive()


def test_clocks_are_read_together():
    before_ns = now_ns()
    at_ns, wall_ns, raw_ns = read_clocks()
    assert before_ns <= at_ns <= now_ns()
    assert (wall_ns > 0) == (raw_ns > 0)
