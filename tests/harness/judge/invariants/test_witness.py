from __future__ import annotations

import msgspec
import pytest

from harness.core.random_plan import DrawnKind, RandomPlan
from harness.core.verdict import CheckKind, Outcome
from harness.judge.expressions import parse_expectations
from harness.judge.invariants.witness import unproven_phases
from harness.judge.judge import judge_trial

NAME = "kill of us-east.memcached"


def test_a_proven_and_undone_fault(made):
    h = made({1: [7]})
    h.fault(1.0, 5.0)
    check = h.check("witness")
    assert check.kind is CheckKind.WITNESS
    assert check.verdict is Outcome.PASS
    assert check.evidence == ["kill of us-east.memcached from 1.000 s to 5.000 s: connection refused"]


def test_a_fault_without_proof(made):
    h = made({1: [7]})
    h.fault(1.0, 5.0)
    h.fault(6.0, 7.0).witness = {"ok": False, "evidence": "still answers"}
    check = h.check("witness")
    assert check.verdict is Outcome.INCONCLUSIVE
    assert "still answers" in check.reason


def test_a_fault_that_was_not_undone(made):
    h = made({1: [7]})
    h.fault(1.0, None)
    assert "was not undone" in h.check("witness").reason


def test_a_fault_that_was_refused(made):
    h = made({1: [7]})
    h.fault(1.0, 5.0)
    h.refused(6.0)
    check = h.check("witness")
    assert check.verdict is Outcome.INCONCLUSIVE
    assert "kill of us-east.memcached (f1) was not injected: faults are forbidden: customers complain" in check.reason


def test_a_planned_fault_without_a_record(made):
    h = made({1: [7]})
    h.fault(1.0, 5.0)
    h.faults.clear()
    check = h.check("witness")
    assert check.verdict is Outcome.INCONCLUSIVE
    assert not check.skipped
    assert "planned faults left no record: f0" in check.reason


def test_one_of_the_faults_of_a_pattern_without_a_record(made):
    h = made({1: [7]})
    h.fault(1.0, 5.0, kind="partition", handle="link.us-east.ap-tokyo")
    h.planned.append("f1")  # the scenario has one fault, of link.*; it means two links
    check = h.check("witness")
    assert check.verdict is Outcome.INCONCLUSIVE
    assert (check.value, check.bound) == (1, 2)
    assert "planned faults left no record: f1" in check.reason


def test_a_fault_that_was_never_due(made):
    h = made({1: [7]})
    h.fault(1.0, 5.0)
    h.fault(6.0, 7.0)
    h.faults.pop()
    h.planned.pop()
    check = h.check("witness")
    assert check.verdict is Outcome.INCONCLUSIVE
    assert "1 faults of the scenario were never due" in check.reason


@pytest.mark.parametrize("listed", [(), ("durability",), ("witness",), ("all",)])
def test_faults_need_a_witness_whatever_is_listed(made, listed):
    h = made({1: [7]}, expect={"invariants": listed})
    h.fault(1.0, 5.0).witness = {}
    with h.trial() as trial:
        checks = judge_trial(trial, parse_expectations(trial.case.scenario.expect))
    [witness] = [c for c in checks if c.name == "witness"]
    assert witness.verdict is Outcome.INCONCLUSIVE
    assert not witness.skipped


def test_without_faults_it_is_judged_only_when_listed(made):
    with made({1: [7]}, expect={"invariants": ()}).trial() as trial:
        checks = judge_trial(trial, parse_expectations(trial.case.scenario.expect))
    assert [c.name for c in checks] == ["generator"]


def test_a_target_that_chaos_may_not_touch_is_skipped(made):
    h = made({1: [7]})
    h.fault(1.0, 5.0)
    h.faults.clear()
    h.profile = msgspec.structs.replace(h.profile, handles={})
    assert h.check("witness").reason == "skipped: target made has no handles that chaos may touch"


def test_a_random_plan_from_which_nothing_was_drawn(made):
    h = made({1: [7]})
    drawn = RandomPlan(kinds=(DrawnKind(kind="kill"),), handles=("*",), rate_per_s=0.1)
    h.scenario = msgspec.structs.replace(h.scenario, chaos=drawn)
    check = h.check("witness")
    assert (check.verdict, check.skipped) == (Outcome.INCONCLUSIVE, False)


def test_phases_whose_faults_are_not_proven(made):
    h = made({1: [7]})
    h.baseline = 30.0
    h.fault(1.0, 5.0)
    assert unproven_phases(h.case()) == {}
    h.fault(6.0, 7.0).witness = {}
    assert unproven_phases(h.case()) == {"calm": f"{NAME} (f1) has no witness: nothing was observed"}
    drawn = h.fault(40.0, 45.0)
    drawn.witness, drawn.phase = {}, "after"
    h.planned[-1] = "f3"  # for which there is no record
    assert unproven_phases(h.case()) == {
        "calm": f"{NAME} (f1) has no witness: nothing was observed; and 1 more",
        "after": f"{NAME} (f2) has no witness: nothing was observed",
    }
    h.planned[1:] = []
    assert unproven_phases(h.case())["calm"] == "2 faults of the scenario were never due"
    h.planned[:] = ["f4"]
    assert unproven_phases(h.case())["calm"] == "fault f4 left no record; and 1 more"


def test_where_chaos_may_touch_nothing_no_phase_is_unproven(made):
    h = made({1: [7]})
    h.fault(1.0, 5.0)
    h.faults.clear()
    h.profile = msgspec.structs.replace(h.profile, handles={})
    assert unproven_phases(h.case()) == {}


def test_no_faults_is_skipped(made):
    check = made({1: [7]}).check("witness")
    assert check.skipped
    assert check.reason == "skipped: the scenario has no faults"
