"""Offsets of clocks: the truth lies within the error that is stated, whatever the way to the other machine is like."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator

import pytest

from harness.core.clock import NS_PER_MS, NS_PER_S
from harness.record.clocks import Clock, Reading, clock_name, fit, read_clocks, widest_error_ns, write_clocks
from harness.record.run_directory import RunDirectory

AHEAD_NS = 3600 * NS_PER_S
"""the other clock is an hour ahead of ours"""


def readings(drift: float, seconds: int, seed: int = 1) -> Iterator[Reading]:
    """One a second, over an uneven and jittery way."""
    chance = random.Random(seed)
    for second in range(seconds):
        sent = second * NS_PER_S
        there = sent + round(chance.expovariate(1 / (3 * NS_PER_MS))) + 50_000
        replied = there + 20_000
        back = replied + round(chance.expovariate(1 / NS_PER_MS)) + 50_000
        yield Reading(sent, theirs(there, drift), theirs(replied, drift), back)


def theirs(ours_ns: int, drift: float) -> int:
    return ours_ns + AHEAD_NS + round(drift * ours_ns)


@pytest.mark.parametrize("drift", [0.0, 2e-5, -5e-4], ids=["steady", "20 ppm", "500 ppm slow"])
@pytest.mark.parametrize("seed", range(5))
def test_the_truth_is_within_the_error(drift: float, seed: int) -> None:
    clock = fit("locust-0", "m", list(readings(drift, 120, seed)))
    for second in range(120):
        ours = second * NS_PER_S
        assert abs(clock.to_ours(theirs(ours, drift)) - ours) <= clock.error_ns
        assert abs(clock.to_theirs(ours) - theirs(ours, drift)) <= clock.error_ns
    assert clock.error_ns < 3 * NS_PER_MS
    assert clock.readings == 120
    assert bool(clock.drift) == bool(abs(drift) > 1e-4) or abs(drift) == 2e-5


def test_the_quickest_exchange_counts() -> None:
    slow = Reading(0, AHEAD_NS + 90, AHEAD_NS + 90, 100)
    quick = Reading(1000, AHEAD_NS + 1005, AHEAD_NS + 1005, 1010)
    clock = fit("a", "m", [slow, quick, slow])
    assert (clock.offset_ns, clock.error_ns) == (-AHEAD_NS, 6)


def test_an_offset_that_jumps_is_an_error_as_large_as_the_jump() -> None:
    jump = 40 * NS_PER_MS
    steps = [Reading(s * NS_PER_S, s * NS_PER_S + (jump if s >= 20 else 0), 0, 0) for s in (1, 11, 21, 31, 41)]
    clock = fit("a", "m", [Reading(r.sent_ns, r.received_ns, r.received_ns, r.sent_ns + 10) for r in steps])
    for step in steps:
        assert abs(clock.to_ours(step.received_ns) - step.sent_ns) <= clock.error_ns + 10


def test_processes_of_a_machine_share_a_clock() -> None:
    other = subprocess.run(
        [sys.executable, "-c", "from harness.record.clocks import clock_name; print(clock_name())"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert other.stdout.strip() == clock_name()


def test_clocks_are_kept(run: RunDirectory) -> None:
    assert read_clocks(run.clocks) == {}
    clocks = [Clock(process="a", machine="m", offset_ns=5, error_ns=1, readings=3), Clock(process="b", machine="n")]
    write_clocks(run.clocks, clocks)
    assert list(read_clocks(run.clocks).values()) == clocks


def test_the_error_between_two_processes_is_that_of_the_two_worst_clocks() -> None:
    far = [Clock(process=f"a{n}", machine="far", error_ns=7) for n in range(2)]
    other = Clock(process="b", machine="other", error_ns=3)
    ours = Clock(process="c", machine="ours")
    assert widest_error_ns([]) == widest_error_ns([ours]) == 0
    assert widest_error_ns([*far, ours]) == 7
    assert widest_error_ns([ours, other, *far]) == 10
