"""What the bounds of a change show: literal rows, the smallest regression and the nearest legal one."""

from __future__ import annotations

import numpy as np
import pytest

from harness.core.verdict import Outcome
from harness.judge.bootstrap import Bounds, Recording
from harness.judge.difference import (
    Difference,
    Finding,
    judged,
    lack,
    machine_quantile,
    signed,
    told,
    weigh_machine,
)
from harness.judge.tolerance import Allowance

GENERAL, OWN = Allowance(0.2), Allowance(0.1)
NOTHING = ("", "")


def row(aggregation="p(95)", samples=(5000, 5000), before=100.0):
    unit = {"rate": "/s", "failures": "share"}.get(aggregation, "ms")
    return Difference(
        selector="feed_read",
        phase="calm",
        aggregation=aggregation,
        unit=unit,
        before=before,
        after=before,
        samples=samples,
    )


@pytest.mark.parametrize(
    # what, change, low, high, tolerance of its own; finding, verdict, skipped
    ("aggregation", "bounds", "own", "finding", "verdict", "skipped"),
    [
        ("p(95)", (0.3, 0.21, 0.4), None, Finding.WORSE, Outcome.FAIL, False),
        ("p(95)", (0.3, 0.20, 0.4), None, Finding.WORSE, Outcome.PASS, False),  # may be as little as is allowed
        ("p(95)", (0.3, -0.01, 0.6), None, Finding.SAME, Outcome.PASS, False),
        ("p(95)", (-0.1, -0.2, -0.01), None, Finding.BETTER, Outcome.PASS, False),
        ("p(95)", (0.3, -0.4, 1.01), None, Finding.UNKNOWN, Outcome.INCONCLUSIVE, True),  # a doubling could hide
        ("p(95)", (0.05, 0.01, 0.1), OWN, Finding.WORSE, Outcome.PASS, False),  # shown to be within
        ("p(95)", (0.05, -0.01, 0.11), OWN, Finding.SAME, Outcome.INCONCLUSIVE, False),  # not shown to be within
        ("p(95)", (0.15, 0.11, 0.19), OWN, Finding.WORSE, Outcome.FAIL, False),
        ("p(95)", (0.3, -0.4, 5.0), OWN, Finding.SAME, Outcome.INCONCLUSIVE, False),
        ("rate", (-0.3, -0.4, -0.21), None, Finding.WORSE, Outcome.FAIL, False),
        ("rate", (-0.3, -0.4, -0.2), None, Finding.WORSE, Outcome.PASS, False),
        ("rate", (0.3, 0.2, 0.4), None, Finding.BETTER, Outcome.PASS, False),
        ("failures", (0.3, 0.25, 0.4), None, Finding.WORSE, Outcome.FAIL, False),
        ("failures", (0.0, -0.06, 0.06), None, Finding.UNKNOWN, Outcome.INCONCLUSIVE, True),
    ],
)  # fmt: skip
def test_what_bounds_show(aggregation, bounds, own, finding, verdict, skipped):
    made = judged(row(aggregation), Bounds(*bounds), own, GENERAL, NOTHING)
    assert (made.finding, made.verdict, made.skipped) == (finding, verdict, skipped)
    assert made.tolerance == (own or GENERAL).share


def test_too_little_data_is_skipped_unless_somebody_asked_or_it_is_so_only_now():
    few = ("12 samples before; its bounds need 20", "9 samples after; its bounds need 20")
    assert judged(row(samples=(12, 9)), None, None, GENERAL, few).skipped
    asked = judged(row(samples=(12, 9)), None, OWN, GENERAL, few)
    assert (asked.skipped, asked.verdict) == (False, Outcome.INCONCLUSIVE)
    assert asked.reason == "; ".join(few)
    lost = judged(row(samples=(50, 9)), None, None, GENERAL, ("", few[1]))
    assert (lost.skipped, lost.verdict) == (False, Outcome.INCONCLUSIVE)
    fewer = judged(row(samples=(21, 19)), None, None, GENERAL, ("", "19 samples after"))
    assert fewer.skipped


def recording(count, length_s=20.0):
    return Recording(length_s, np.full(count, 20.0), np.linspace(0, length_s - 0.1, count), np.array([]))


@pytest.mark.parametrize(
    ("aggregation", "before", "after", "lacking"),
    [
        ("p(95)", recording(200), recording(200), NOTHING),
        ("p(95)", recording(200), recording(199), ("", "199 samples after; its bounds need 200")),
        ("med", recording(19), recording(20), ("19 samples before; its bounds need 20", "")),
        ("rate", recording(3), recording(0), NOTHING),
        ("rate", recording(0), recording(3), ("0 samples before; its bounds need 1", "")),
        ("med", recording(500, 4.0), recording(500), ("the phase is 4 s long; bounds need 8 s",) * 2),
    ],
)
def test_what_each_side_lacks(aggregation, before, after, lacking):
    assert lack(aggregation, [[before], [after]]) == lacking


@pytest.mark.parametrize(
    ("aggregation", "machine", "verdict"),
    [
        ("p(95)", (1.0, 21.0), Outcome.INCONCLUSIVE),  # 140 ms without 20 ms: within 20 % of 100 ms
        ("p(95)", (1.0, 20.9), Outcome.FAIL),
        ("p(95)", (21.0, 1.0), Outcome.FAIL),
        ("p(95)", (None, 50.0), Outcome.FAIL),
        ("rate", (1.0, 99.0), Outcome.FAIL),
    ],
)
def test_what_may_be_all_the_machines_is_inconclusive(aggregation, machine, verdict):
    made = row(aggregation)
    made.after = 140.0
    change = -0.4 if aggregation == "rate" else 0.4
    judged(made, Bounds(change, change - 0.1, change + 0.1), None, GENERAL, NOTHING)
    weigh_machine(made, *(machine if machine_quantile(aggregation) else (None, None)))
    assert made.verdict is verdict
    assert ("the machine alone took 1.0 ms before, 21.0 ms after" in made.reason) is (verdict is Outcome.INCONCLUSIVE)


def test_percentiles_are_held_against_those_of_echoes():
    assert [machine_quantile(a) for a in ("med", "p(90)", "p(95)", "p(99)", "rate", "failures")] == [
        "p50_ms", "p95_ms", "p95_ms", "p99_ms", "", "",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "unit", "text"),
    [(0.123, "ms", "+12.3 %"), (-0.05, "/s", "-5 %"), (0.005, "share", "+0.5 pp"), (155.04, "ms", "+15,504 %")],
)
def test_a_change_as_people_read_it(change, unit, text):
    assert signed(change, unit) == text


def test_a_row_in_a_sentence():
    made = row(before=41.2)
    made.after = 52.0
    judged(made, Bounds(0.262, 0.18, 0.345), None, Allowance(0.1), NOTHING)
    assert told(made) == (
        "41.2 ms before, 52.0 ms after: +26.2 % (+18 % to +34.5 % with 99% confidence), worse; "
        "worse by more than the tolerance"
    )
