from __future__ import annotations

import msgspec
from made_history import AWAY, HOME

from harness.judge.series import make_series
from harness.judge.staleness import StalenessCurve, StalenessPoint, staleness, stretches


def looked_at(made, **options):
    """p1, acknowledged at 1.01 s, is there after 200 ms at home, and after 1 s in the other region."""
    h = made({1: [7]}, **options)
    h.post(7, "p1", at=1.0)
    h.read(1, [], at=1.07)
    h.read(1, [], at=1.08)
    h.read(1, ["p1"], at=1.22)
    h.read(1, [], at=1.52, region=AWAY)
    h.read(1, ["p1"], at=2.02, region=AWAY)
    return h


def test_one_stretch_without_faults(made):
    with looked_at(made).trial() as trial:
        here, there = staleness(trial)
    assert (here.home, here.region, here.fault, here.period) == (HOME, HOME, "", "whole run")
    assert here.points == [StalenessPoint(50, 2, 0), StalenessPoint(200, 1, 1)]
    assert (there.home, there.region) == (HOME, AWAY)
    assert [(p.age_ms, p.share) for p in there.points] == [(500, 0.0), (1000, 1.0)]
    assert (here.start_s, here.end_s) == (0.0, 60.0)


def test_before_during_and_after_each_fault(made):
    h = looked_at(made, regions=(HOME,))
    h.fault(1.1, 10.0)
    h.fault(20.0, 30.0, kind="pause", handle="us-east.api")
    h.post(7, "p2", at=10.0)
    h.read(1, ["p1"], at=10.07)  # after the first, before the second
    h.read(1, ["p2", "p1"], at=25.0)
    with h.trial() as trial:
        found = {(c.fault.split()[0], c.period): c for c in staleness(trial) if c.region == HOME}
    assert found["kill", "before"].points == [StalenessPoint(50, 2, 0)]
    assert found["kill", "during"].points == [StalenessPoint(200, 1, 1)]
    assert found["kill", "after"].points == [StalenessPoint(50, 1, 0), StalenessPoint(5000, 1, 1)]
    assert found["pause", "before"].points == found["kill", "after"].points
    assert found["pause", "during"].points == [StalenessPoint(10_000, 2, 2)]
    assert ("pause", "after") not in found
    assert (found["kill", "after"].start_s, found["kill", "after"].end_s) == (10.0, 20.0)


def test_a_fault_inside_another_of_the_same_sort(made):
    h = made({1: [7]})
    h.fault(10.0, 30.0)
    h.fault(15.0, 20.0)
    case = h.case()
    spans = {
        (s.fault, s.period): ((s.start_ns - case.t0_ns) / 1e9, (s.end_ns - case.t0_ns) / 1e9) for s in stretches(case)
    }
    first, second = "kill us-east.memcached at 10.000 s", "kill us-east.memcached at 15.000 s"
    assert spans[first, "before"] == (0, 10)
    assert spans[first, "during"] == (10, 30)
    assert spans[second, "before"] == (0, 15)
    assert spans[second, "during"] == (15, 20)
    assert spans[first, "after"][0] == 30
    assert spans[second, "after"][0] == 20


def test_own_degraded_and_celebrity_reads_are_left_out(made):
    h = made({1: [0]}, celebrities=1)
    h.post(0, "star", at=1.0)
    h.read(1, [], at=1.5)
    h.read(0, ["star"], at=1.5)
    with h.trial() as trial:
        assert staleness(trial) == []


def test_it_stands_in_the_series(made):
    with looked_at(made).trial() as trial:
        document = msgspec.json.decode(msgspec.json.encode(make_series(trial)))
    curves = msgspec.convert(document["staleness"], list[StalenessCurve])
    assert curves[0].points[0] == StalenessPoint(50, 2, 0)
