from __future__ import annotations

import msgspec

from harness.core.verdict import CheckKind, Outcome


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


def test_a_planned_fault_without_a_record(made):
    h = made({1: [7]})
    h.fault(1.0, 5.0)
    h.faults.clear()
    check = h.check("witness")
    assert check.verdict is Outcome.INCONCLUSIVE
    assert not check.skipped


def test_a_target_that_chaos_may_not_touch_is_skipped(made):
    h = made({1: [7]})
    h.fault(1.0, 5.0)
    h.faults.clear()
    h.profile = msgspec.structs.replace(h.profile, handles={})
    assert h.check("witness").reason == "skipped: target made has no handles that chaos may touch"


def test_no_faults_is_skipped(made):
    check = made({1: [7]}).check("witness")
    assert check.skipped
    assert check.reason == "skipped: the scenario has no faults"
