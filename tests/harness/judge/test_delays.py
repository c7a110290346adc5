"""How much the machine explains of a time: literal lines of the null probe, and chains of queues in virtual time."""

from __future__ import annotations

import numpy as np
import pytest
from noisy_machine import chain

from harness.core.clock import NS_PER_MS, NS_PER_S
from harness.judge.delays import AFTERMATH_NS, FEW_HOPS, MANY_HOPS, delays, hops_of
from harness.record.noise_file import Echo, MainThread, NoiseRow

SEEDS = range(2)


def line(second, *threads, echoes=(), length=1.0, own=0.1, outside=0.8):
    """A second of two processors: (pid, ran, waited, turns) of each main thread, in ms, and what echoes took."""
    return NoiseRow(
        start_ns=round(second * NS_PER_S),
        end_ns=round((second + length) * NS_PER_S),
        echoes=[Echo(k, 0, round(1000 * ms)) for k, ms in enumerate(echoes)],
        own=own,
        outside=outside,
        processors=2,
        processes=[MainThread(pid, 1000 * ran, 1000 * waited, turns) for pid, ran, waited, turns in threads],
    )


def longest_ms(*rows):
    return [delay.longest_ns / NS_PER_MS for delay in delays(rows, [False] * len(rows), MANY_HOPS)]


def test_posts_have_a_long_way_to_others():
    [few], [many] = (
        [*delays([line(0, (1, 100, 100, 100))], [False], hops_of(what))] for what in ("feed_read", "cross_region")
    )
    assert few.longest_ns / NS_PER_MS == pytest.approx(30 / 0.8 + 9 * 2 / 0.8)
    assert many.longest_ns / NS_PER_MS == pytest.approx(30 / 0.8 + 19 * 2 / 0.8)


def test_a_quiet_machine_explains_next_to_nothing():
    assert longest_ms(line(0, outside=0.0), line(1, (1, 50, 1, 100), echoes=[0.2] * 25)) == [0.0, pytest.approx(2.0)]


HOPS = [
    # main threads of a second, ms that it explains
    ([(1, 100, 100, 100)], 30 / 0.8 + 19 * 2 / 0.8),  # a turn waited 1 ms; it slept 0.8 of the time
    ([(1, 100, 100, 100), (2, 0, 2, 100)], 30 / 0.8 + 19 * (2 / 0.8 + 0.04 / 0.998) / 2),  # the other hops as usual
    ([(1, 100, 400, 40)], 400 + 19 * 40),  # no hop waits longer than all turns together
    ([(1, 10, 300, 1)], 300 + 19 * 300),
    ([(1, 40, 900, 300)], 900 + 19 * 100),  # nearly no time left: queues before each turn
    ([(1, 30, 960, 300)], 960),  # none left: it is as late as it stood in line
    ([(1, 30, 960, 300), (2, 20, 970, 99)], 1000),  # queues in series, but not longer than they last
    ([(1, 30, 960, 300), (2, 100, 100, 100)], 960 + 30 / 0.8 + 19 * 2 / 0.8),
]


@pytest.mark.parametrize(("threads", "expected_ms"), HOPS)
def test_what_standing_in_line_explains(threads, expected_ms):
    assert longest_ms(line(0, *threads)) == [pytest.approx(expected_ms, rel=1e-3)]


def test_who_never_sleeps_falls_behind_second_by_second_until_it_slept():
    starved, sleepy, busy = (1, 100, 900, 300), (1, 100, 100, 100), (1, 990, 5, 9)
    usual = 30 / 0.8 + 19 * 2 / 0.8
    rows = [line(k, thread) for k, thread in enumerate([starved, starved, starved, busy, sleepy, starved])]
    assert longest_ms(*rows) == pytest.approx([900, 1800, 2700, 2705, usual, 900])


def test_a_wait_that_began_before_its_line_is_in_the_line_in_which_it_ended():
    assert longest_ms(line(0), line(1), line(2, (1, 100, 2900, 2))) == [0, 0, pytest.approx(2900)]


def test_others_explain_only_as_much_waiting_as_they_ran():
    starved = (1, 500, 490, 300)
    assert longest_ms(line(0, starved, own=0.5, outside=0.5)) == [490]  # its siblings took less than others
    assert longest_ms(line(0, starved, own=0.75, outside=0.25)) == [pytest.approx(490 * 0.5 / 1.0)]
    assert longest_ms(line(0, starved, own=1.0, outside=0.0)) == [0]


ECHOES = [
    ([], 0),
    ([80.0], 80 + 9 * 80),
    ([80.0] + [0.5] * 24, 80 + 9 * (80 + 12) / 25),  # the machine stood still once: each time is later once
    ([12.0] * 25, 12 + 9 * 12),
]


@pytest.mark.parametrize(("echoes", "expected_ms"), ECHOES)
def test_what_an_echo_explains(echoes, expected_ms):
    assert longest_ms(line(0, echoes=echoes)) == [pytest.approx(expected_ms)]


def test_what_the_run_makes_itself_explains_nothing():
    rows = [line(0, (1, 30, 960, 300), echoes=[300.0]), line(1, (1, 30, 960, 300))]
    own, others = delays(rows, [True, False], MANY_HOPS)
    assert (own.longest_ns, own.lost_ns) == (0, 0)
    assert (others.longest_ns, others.lost_ns) == (960 * NS_PER_MS, 960 * NS_PER_MS)


def test_a_line_explains_times_that_touch_it_or_what_it_left():
    [delay] = delays([line(3, (1, 30, 960, 300))], [False], FEW_HOPS)
    assert (delay.start_ns, delay.end_ns) == (3 * NS_PER_S, 4 * NS_PER_S + AFTERMATH_NS)


MACHINES = [
    # hops; work of one; stretches with a processor and without, all in s
    (3, 0.001, 0.003, 0.003),
    (3, 0.005, 0.003, 0.012),
    (3, 0.001, 0.1, 0.1),
    (8, 0.001, 0.003, 0.012),
    (8, 0.005, 0.003, 0.03),  # each falls behind all the time
    (8, 0.005, 0.3, 0.05),
    (20, 0.001, 0.003, 0.03),
    (20, 0.005, 0.003, 0.012),
    (20, 0.001, 0.1, 0.1),
]
"""chains of queues whose processes lose their processor"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("hops", "work_s", "on_s", "off_s"), MACHINES)
def test_what_noise_made_late_is_explained_and_not_much_more(seed, hops, work_s, on_s, off_s):
    random = np.random.default_rng(seed)
    sent, answered, calm, rows = chain(random, hops=hops, seconds=8, per_s=20, work_s=work_s, on_s=on_s, off_s=off_s)
    late_s, found = answered - calm, list(delays(rows, [False] * len(rows), MANY_HOPS if hops > FEW_HOPS else FEW_HOPS))
    explained_s = np.asarray([most_s(found, begin, end) for begin, end in zip(sent, answered, strict=True)])
    assert np.mean(late_s > explained_s) <= (0.01 if hops <= FEW_HOPS else 0.15)  # hardly a false alarm
    assert np.median(explained_s) <= 4 * late_s.max()  # and no excuse for what is out of proportion


def most_s(found, begin_s, end_s):
    touched = [d.longest_ns for d in found if d.start_ns <= end_s * NS_PER_S and d.end_ns > begin_s * NS_PER_S]
    return max(touched, default=0) / NS_PER_S
