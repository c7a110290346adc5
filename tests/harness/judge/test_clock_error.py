"""When processes ran on several machines, what their clocks may be off by counts in favour of the target."""

from __future__ import annotations

import pytest
from made_history import AWAY

from harness.core.op import OpKind
from harness.core.verdict import Outcome


def author_order(h):
    h.post(7, "p3", at=2.5, ts=1.5)  # p2 was acknowledged at 2.01 s


def read_your_writes(h):
    h.read(7, ["p1"], at=2.5)


def visibility(h):
    h.read(1, ["p1"], at=4.5)  # 2 s after 2.01 s


def cross_region(h):
    h.read(1, ["p1"], at=5.5, region=AWAY)  # 3 s


def honest_degradation(h):
    h.read(1, ["p1"], at=7.5)  # 2 s + 3 s


def durability(h):
    h.fault(10.0, 12.0)
    h.read(1, ["p1"], at=27.5, region=AWAY, final=True)  # T = 15 s


def eligibility(h):
    h.op(OpKind.DELETE, 7, at=3.0, post="p2")
    h.read(1, ["p2", "p1"], at=5.5)  # 2 s after 3.01 s


def eligibility_until(h):
    h.op(OpKind.HIDE, 7, at=3.0, post="p2")
    h.op(OpKind.SHOW, 7, at=20.0, post="p2")
    h.read(1, ["p2", "p1"], at=19.5)


def sse_completeness(h):
    h.event(1, "p2", at=7.5)  # 2 s + 3 s


def sse_soundness(h):
    h.event(1, "p2", at=3.0)
    h.read(1, ["p1"], at=5.5)  # 2 s after 3 s


def cursor_completeness(h):
    h.read(1, ["p2"], at=3.0, session="one")
    h.read(1, ["p1"], at=3.5, more=True, session="other")
    h.read(1, [], at=3.6, page=1, session="other")


CASES = (author_order, read_your_writes, visibility, cross_region, honest_degradation, durability, eligibility)
CASES += (eligibility_until, sse_completeness, sse_soundness, cursor_completeness)


@pytest.mark.parametrize("spoil", CASES, ids=lambda case: case.__name__)
def test_half_a_second_too_late_is_no_violation_when_clocks_are_known_to_a_second(made, spoil):
    h = made({1: [7]})
    h.open(1, at=0.0)
    h.post(7, "p1", at=1.0)
    h.event(1, "p1", at=1.1)
    h.post(7, "p2", at=2.0)
    h.end(1, at=40.0)
    spoil(h)
    name = spoil.__name__.removesuffix("_until")
    assert h.check(name).verdict is Outcome.FAIL
    h.clock_error_s = 1.0
    assert h.check(name).verdict is not Outcome.FAIL
