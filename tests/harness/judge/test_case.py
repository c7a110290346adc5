"""Which faults were active, and for how long."""

from made_history import T0_NS, ns

from harness.core.clock import NS_PER_S
from harness.core.verdict import Outcome

T = 15 * NS_PER_S  # convergence of the made profile


def windows(case):
    return [((w.start_ns - T0_NS) / NS_PER_S, (w.end_ns - T0_NS) / NS_PER_S) for w in case.fault_windows]


def test_a_refused_fault_was_never_active(made):
    h = made({1: [7]})
    h.fault(1.0, 5.0)
    h.refused(10.0)
    case = h.case()
    assert case.heal_ns == ns(5.0)
    assert windows(case) == [(1.0, 20.0)]
    assert [f.injected_ns for f in case.faults] == [ns(1.0), None]


def test_only_refused_faults_are_as_none(made):
    h = made({1: [7]})
    h.refused(10.0)
    case = h.case()
    assert (case.heal_ns, case.fault_windows) == (0, [])


def test_an_injection_that_failed_half_way_keeps_its_window(made):
    h = made({1: [7]})
    h.fault(10.0, 11.0).inject_error = "half way"
    assert windows(h.case()) == [(10.0, 26.0)]


def test_one_that_failed_and_could_not_be_undone_is_active_for_ever(made):
    h = made({1: [7]})
    row = h.refused(10.0)
    row.undo = {"ok": False, "detail": "still there"}
    assert h.case().heal_ns > ns(1e6)


def test_a_refused_fault_excuses_no_lost_post(made):
    h = made({1: [7]})
    h.refused(2.0)
    h.post(7, "p1", at=5.0)
    h.post(7, "p2", at=6.0)
    h.read(1, ["p2"], at=50.0, region="ap-tokyo", final=True)
    assert h.check("durability").verdict is Outcome.FAIL
