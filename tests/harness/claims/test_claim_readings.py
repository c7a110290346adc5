"""From what was measured to a verdict on a claim."""

from __future__ import annotations

import duckdb
import pytest

from harness.claims import catalogue
from harness.claims.model import (
    Asked,
    Benchmark,
    Claim,
    Conformance,
    Field,
    Figure,
    Invariant,
    Measured,
    Properties,
    Quotient,
    Run,
    Threshold,
)
from harness.claims.readings import Finding, Standing, exit_code_of, finding_of, is_told, meets, read
from harness.core.verdict import Check, CheckKind, Outcome

RUN, BENCH, CONTRACT = Run("steady-peak"), Benchmark("tiers"), Conformance()
PASS, FAIL, UNSURE = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE
P99 = "p(99) >= 0"


def slo(name: str, value: float, verdict: Outcome = PASS, phase: str = "", machine: float | None = None) -> Check:
    return Check(
        name=name,
        kind=CheckKind.SLO,
        verdict=verdict,
        value=value,
        unit="ms",
        phase=phase,
        machine=machine,
        reason="so",
    )


def measured(*checks: Check, doubt: str = "", problem: str = "") -> Measured:
    return Measured(command=RUN.command, checks=list(checks), doubt=doubt, problem=problem)


def claim(*figures: Figure) -> Claim:
    return Claim("C0", "says", "claimed", "scaled", figures)


@pytest.mark.parametrize(
    ("bound", "inside", "outside"),
    [("<= 2", 2, 2.1), (">= 1_800_000", 1.8e6, 1.7e6), ("> 0", 0.1, 0), ("== 0", 0, 1), ("-75 .. -65", -70, -76)],
)
def test_bounds(bound, inside, outside):
    assert meets(bound, inside)
    assert not meets(bound, outside)


def test_a_bound_that_is_none_is_an_error():
    with pytest.raises(ValueError, match="no bound"):
        meets("about 3", 3)


@pytest.mark.parametrize("verdict", Outcome)
def test_a_threshold_is_what_the_judge_says_of_it(verdict):
    figure = catalogue.slo("p99", RUN, "feed_read{phase:steady}", "p(99) <= 200ms")
    found = measured(
        slo("feed_read p(99) <= 200ms", 9, phase="warm"), slo("feed_read p(99) <= 200ms", 21, verdict, "steady")
    )
    made = read(figure, {RUN: found})
    assert (made.value, made.unit, made.bound, made.outcome) == (21, "ms", "<= 200ms", verdict)


def test_of_several_phases_the_worst_counts():
    figure = catalogue.slo("p99", RUN, "feed_read", "p(99) <= 200ms")
    name = "feed_read p(99) <= 200ms"
    checks = [slo(name, 9, PASS, "a"), slo(name, 900, FAIL, "b"), slo(name, 20, UNSURE, "c")]
    assert read(figure, {RUN: measured(*checks)}).value == 900


def test_what_the_run_was_not_asked_is_not_known():
    figure = catalogue.slo("p99", RUN, "feed_read", "p(99) <= 200ms")
    assert read(figure, {RUN: measured()}).outcome is UNSURE


@pytest.mark.parametrize(
    ("over", "machine", "outcome"), [(20, None, PASS), (31, None, FAIL), (31, 5, FAIL), (31, 12, UNSURE)]
)
def test_a_ratio_is_compared_and_what_the_machine_alone_took_is_no_miss(over, machine, outcome):
    part = [Threshold(RUN, f"feed_read{{phase:{phase}}}", P99) for phase in ("late", "early")]
    name = f"feed_read {P99}"
    found = measured(slo(name, over, phase="late", machine=machine), slo(name, 10, phase="early"))
    made = read(Figure("ratio", Quotient(*part), "<= 2"), {RUN: found})
    assert made.outcome is outcome
    assert made.value == over / 10


def test_a_ratio_of_too_few_samples_is_not_known():
    part = [Threshold(RUN, f"feed_read{{phase:{phase}}}", P99) for phase in ("late", "early")]
    name = f"feed_read {P99}"
    found = measured(slo(name, 20, UNSURE, "late"), slo(name, 10, phase="early"))
    assert read(Figure("ratio", Quotient(*part), "<= 2"), {RUN: found}).outcome is UNSURE


def test_a_benchmark_is_read_by_path_and_what_it_does_not_tell_is_not_known():
    found = {BENCH: Measured(command="", results=[{"figures": {"skew": 1.2, "ok": True}}])}
    assert read(Figure("skew", Field(BENCH, "figures.skew"), "<= 1.3"), found).outcome is PASS
    assert read(Figure("skew", Field(BENCH, "figures.skew"), "<= 1.1"), found).outcome is FAIL
    assert read(Figure("skew", Field(BENCH, "figures.other"), "<= 1.1"), found).outcome is UNSURE
    assert read(Figure("skew", Field(BENCH, "figures.ok"), "<= 1.1"), found).outcome is UNSURE


def test_of_a_benchmark_that_was_run_several_times_the_median_counts():
    results = [{"value": 0.6}, {"value": 0.9}, {"value": 0.81}]
    made = read(Figure("ratio", Field(BENCH, "value"), ">= 0.8"), {BENCH: Measured(command="", results=results)})
    assert (made.value, made.outcome, made.reason) == (0.81, PASS, "median of 0.6, 0.9, 0.81")
    found = {BENCH: Measured(command="", results=[*results, {}])}
    assert read(Figure("ratio", Field(BENCH, "value"), ">= 0.8"), found).outcome is UNSURE


def test_what_was_run_less_often_than_it_is_now_does_not_answer():
    figure = Figure("ratio", Field(Benchmark("tiers", times=3), "value"), ">= 0.8")
    for count, answers in ((0, False), (1, False), (3, True), (4, True)):
        older = Measured(command="", results=[{"value": 0.9}] * count)
        assert is_told(figure, figure.of.source, older) is answers


def test_missing_an_absolute_figure_says_nothing_and_meeting_it_does():
    found = {BENCH: Measured(command="", results=[{"value": 5}])}
    for bound, outcome in (("<= 4", UNSURE), ("<= 5", PASS)):
        assert read(Figure("rate", Field(BENCH, "value"), bound, absolute=True), found).outcome is outcome


@pytest.mark.parametrize(("others", "missed"), [(None, FAIL), (0.1, FAIL), (0.4, UNSURE)])
def test_missing_a_bound_beside_others_says_nothing_and_meeting_it_does(others, missed):
    found = {BENCH: Measured(command="", results=[{"value": 5}], others=others)}
    for bound, outcome in (("<= 4", missed), ("<= 5", PASS)):
        assert read(Figure("rate", Field(BENCH, "value"), bound), found).outcome is outcome
    assert finding_of(claim(Figure("rate", Field(BENCH, "value"), "<= 5")), found).others == others


@pytest.mark.parametrize(("verdict", "outcome"), [(PASS, UNSURE), (FAIL, FAIL)])
def test_in_a_run_that_proves_nothing_only_what_must_never_be_counts(verdict, outcome):
    checks = [
        Check(name="durability", kind=CheckKind.INVARIANT, verdict=verdict, observations=7),
        slo("feed_read p(99) <= 200ms", 900, FAIL),
    ]
    found = {RUN: measured(*checks, doubt="generator: late")}
    kept = read(Figure("lost", Invariant(RUN, "durability")), found)
    assert (kept.outcome, kept.value, kept.decides) == (outcome, 7, True)
    late = read(catalogue.slo("p99", RUN, "feed_read", "p(99) <= 200ms"), found)
    assert (late.outcome, late.reason) == (UNSURE, "generator: late")


def test_a_number_asked_of_the_history():
    figure = Figure("parts", Asked(RUN, "select 1"), ">= 2")
    for answer, outcome in ((2.0, PASS), (1.0, FAIL), (None, UNSURE)):
        assert read(figure, {RUN: Measured(command="", answers={"select 1": answer})}).outcome is outcome


@pytest.mark.parametrize(
    ("verdicts", "outcome"), [((PASS, PASS), PASS), ((PASS, FAIL), FAIL), ((PASS,), UNSURE), ((PASS, UNSURE), UNSURE)]
)
def test_properties_of_the_contract_must_all_have_been_tried(verdicts, outcome):
    checks = [
        Check(name=name, kind=CheckKind.INVARIANT, verdict=verdict)
        for name, verdict in zip("ab", verdicts, strict=False)
    ]
    figure = Figure("seen", Properties(CONTRACT, ("a", "b")))
    assert read(figure, {CONTRACT: Measured(command="", checks=checks)}).outcome is outcome


def test_a_claim_rests_on_the_figures_that_decide():
    told = Figure("told", Field(BENCH, "none"))
    good, bad = Figure("good", Field(BENCH, "value"), "<= 9"), Figure("bad", Field(BENCH, "value"), "<= 1")
    large, unknown = (
        Figure("large", Field(BENCH, "value"), ">= 99", absolute=True),
        Figure("x", Field(BENCH, "x"), "> 0"),
    )
    found = {BENCH: Measured(command="", results=[{"value": 5}], date="2026-01-02", machine="2 cores", commit="abc")}
    standings = {
        (told, good): Standing.REPRODUCED,
        (good, bad, unknown): Standing.NOT_REPRODUCED,
        (good, large): Standing.UNDECIDED,
        (good, unknown): Standing.UNDECIDED,
        (told,): Standing.UNDECIDED,
    }
    for figures, standing in standings.items():
        assert finding_of(claim(*figures), found).standing is standing
    made = finding_of(claim(good), found)
    assert (made.date, made.machine, made.commit) == ("2026-01-02", "2 cores", "abc")


def test_what_could_not_be_measured_is_said_so():
    figure = Figure("good", Field(BENCH, "value"), "<= 9")
    for found in ({}, {BENCH: Measured(command="", problem="no memcached")}):
        made = finding_of(claim(figure), found)
        assert made.standing is Standing.UNMEASURED
        assert made.figures[0].reason in ("not measured", "no memcached")


@pytest.mark.parametrize(
    ("standings", "code"),
    [
        ([Standing.REPRODUCED, Standing.REPRODUCED], 0),
        ([Standing.REPRODUCED, Standing.UNDECIDED, Standing.NOT_REPRODUCED], 1),
        ([Standing.REPRODUCED, Standing.UNDECIDED], 3),
        ([Standing.UNMEASURED], 3),
        ([], 3),
    ],
)
def test_exit_codes(standings, code):
    assert exit_code_of(Finding(claim="C0", standing=standing) for standing in standings) == code


def asked(sql: str, ops: str, faults: str) -> float | None:
    """The answer over literal rows. ops: session, walk, page, region, kind, outcome, status, sent and done in s."""
    with duckdb.connect() as db:
        db.execute(
            f"""CREATE TABLE ops AS SELECT session, walk, page, region, kind, outcome, status, (sent * 1e9)::BIGINT AS
            sent_ns, (done * 1e9)::BIGINT AS done_ns, false AS final FROM (VALUES {ops})
            t(session, walk, page, region, kind, outcome, status, sent, done)"""
        )
        db.execute(
            f"""CREATE TABLE faults AS SELECT id, kind, handle, (injected * 1e9)::BIGINT AS injected_ns
            FROM (VALUES {faults}) t(id, kind, handle, injected)"""
        )
        row = db.execute(sql).fetchone()
    return None if row is None else row[0]


KILLS = "('f1','kill','us.api',10), ('f2','kill','ap.api',20)"


@pytest.mark.parametrize(
    ("ops", "count"),
    [
        ("('a',1,0,'us','feed','ok',200,8,9), ('a',1,1,'us','feed','ok',200,12,13)", 1),
        ("('a',1,0,'ap','feed','ok',200,8,9), ('a',1,1,'ap','feed','ok',200,12,13)", 0),  # of the region that lived
        ("('a',1,0,'us','feed','ok',200,11,12), ('a',1,1,'us','feed','ok',200,13,14)", 0),  # both behind the kill
        ("('a',1,0,'us','feed','ok',200,8,9), ('a',1,1,'us','feed','info',0,12,13)", 0),  # not answered
        ("('a',1,0,'us','feed','ok',200,8,9), ('a',2,1,'us','feed','ok',200,12,13)", 0),  # another walk
    ],
)
def test_walks_over_restarts(ops, count):
    assert asked(catalogue._WALKS_OVER_RESTARTS, ops, KILLS) == count


def test_how_long_after_the_flag_something_was_still_answered():
    sql, fault = catalogue._STOPPED_AFTER_S, "('f1','flag','us.api',10)"
    late = "('a',1,0,'us','feed','ok',200,11,12.5), ('a',1,0,'us','feed','fail',503,12,13)"
    assert asked(sql, late, fault) == pytest.approx(2.5)
    assert asked(sql, "('a',1,0,'us','feed','fail',503,12,13)", fault) == 0
    assert asked(sql, "('a',1,0,'us','feed','ok',200,9,13)", fault) is None


def test_what_share_was_refused_cleanly():
    sql, fault = catalogue._CLEANLY_REFUSED, "('f1','flag','us.api',10)"
    rows = "('a',1,0,'us','feed','fail',503,16,17), ('a',1,0,'us','post','info',0,17,18)"
    assert asked(sql, f"{rows}, ('a',1,0,'us','feed','ok',200,11,12)", fault) == 50


def test_how_many_parts_were_killed():
    assert asked(catalogue._KILLED_PARTS, "('a',1,0,'us','feed','ok',200,9,13)", KILLS) == 2
