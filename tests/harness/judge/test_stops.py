"""Stop conditions in the verdict."""

from __future__ import annotations

import msgspec

from harness.core.verdict import CheckKind, Outcome
from harness.judge.case import StopReport, read_case
from harness.judge.stops import judge_stops

CONDITIONS = ["feed_read failures < 20%", "feed_read{region:us-east} p(99) <= 1s"]


def checks(made, report: StopReport | None):
    h = made({1: [7]})
    with h.trial() as trial:  # writes the run's facts
        run = trial.case.run
        t0_ns = trial.case.t0_ns
        if report is not None:
            ended = None if report.ended_ns is None else t0_ns + report.ended_ns
            run.stop.write_bytes(msgspec.json.encode(msgspec.structs.replace(report, ended_ns=ended)))
        return list(judge_stops(read_case(run)))


def test_a_run_without_conditions_has_no_checks(made):
    assert checks(made, None) == []


def test_conditions_that_held(made):
    found = checks(made, StopReport(conditions=CONDITIONS, looks=34, seen=dict.fromkeys(CONDITIONS, 34)))
    assert [(c.name, c.kind, c.verdict, c.observations) for c in found] == [
        (f"stop: {condition}", CheckKind.STOP, Outcome.PASS, 34) for condition in CONDITIONS
    ]
    assert found[0].reason == "held at each of 34 looks"


def test_conditions_that_were_never_looked_at_prove_nothing(made):
    found = checks(made, StopReport(conditions=CONDITIONS))
    assert {c.verdict for c in found} == {Outcome.INCONCLUSIVE}


def test_a_condition_of_which_nothing_was_measured_proves_nothing(made):
    first, second = checks(made, StopReport(conditions=CONDITIONS, looks=34, seen={CONDITIONS[1]: 3}))
    assert (first.verdict, first.observations) == (Outcome.INCONCLUSIVE, 0)
    assert first.reason == "nothing was measured at any look"
    assert (second.verdict, second.observations) == (Outcome.PASS, 3)


def test_the_condition_that_ended_the_run_fails(made):
    broken = StopReport(
        conditions=CONDITIONS,
        looks=9,
        seen=dict.fromkeys(CONDITIONS, 9),
        broken=CONDITIONS[0],
        value=0.45,
        bound=0.2,
        unit="share",
        ended_ns=12_340_000_000,
        reason="feed_read failures < 20%: 45 % of 230 ops in the last seconds",
    )
    first, second = checks(made, broken)
    assert (first.verdict, first.value, first.bound, first.unit) == (Outcome.FAIL, 0.45, 0.2, "share")
    assert first.reason == f"the run was ended at 12.340 s: {broken.reason}"
    assert second.verdict is Outcome.PASS


def test_a_run_whose_faults_were_stopped_is_inconclusive(made):
    report = StopReport(ended_ns=5_000_000_000, reason="faults were stopped: customers complain")
    [check] = checks(made, report)
    assert (check.name, check.verdict) == ("ran to its end", Outcome.INCONCLUSIVE)
    assert check.reason == "the run was ended at 5.000 s: faults were stopped: customers complain"
    assert checks(made, msgspec.structs.replace(report, by_operator=True)) == []
