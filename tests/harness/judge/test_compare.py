"""Runs side by side: a slower one is a regression, the same one is none, and what differs beside is said."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from made_history import MadeHistory

from harness.core.op import OpOutcome
from harness.core.seeds import rng
from harness.core.verdict import Check, CheckKind, MachinePhase, Outcome, Verdict
from harness.judge.case import read_case
from harness.judge.compare import TOGETHER, Comparison, as_checks, compare
from harness.judge.difference import Difference, Finding
from harness.judge.recordings import samples_of
from harness.judge.tolerance import Tolerance, parse_tolerance
from harness.record.run_directory import RunDirectory

pytestmark = pytest.mark.slow
PASSED = Check(name="durability", kind=CheckKind.INVARIANT, verdict=Outcome.PASS, value=0.0, observations=9)


def recorded(
    folder: Path,
    seed: int = 1,
    *,
    slower: float = 1.0,
    failing: float = 0.0,
    reads: int = 600,
    posts: int = 0,
    length: float = 20.0,
    checks: tuple[Check, ...] = (PASSED,),
) -> RunDirectory:
    """A judged run of reads of about 20 ms, and a phase "after" of four seconds."""
    h = MadeHistory(folder, {1: [7]}, length=length + 4.0)
    h.baseline = length
    random = rng(seed, "reads")
    for at in sorted(random.uniform(0, length, reads)):
        outcome = OpOutcome.FAIL if random.random() < failing else OpOutcome.OK
        h.read(1, [], at=float(at), took=float(slower * 0.02 * random.lognormal(0, 0.3)), outcome=outcome)
    for k in range(posts):
        h.post(7, f"p{k:03}", at=k * length / posts)
    run = h.store()
    judged(run, *checks)
    return run


def judged(run: RunDirectory, *checks: Check, machine: Sequence[MachinePhase] = ()) -> None:
    verdict = Verdict(verdict=Outcome.PASS, scenario="made", seed=42, checks=list(checks), machine=list(machine))
    run.verdict.write_bytes(msgspec.json.encode(verdict))


def row(comparison: Comparison, aggregation: str, phase: str = "calm", selector: str = "feed_read") -> Difference:
    [found] = [
        d for d in comparison.differences if (d.selector, d.phase, d.aggregation) == (selector, phase, aggregation)
    ]
    return found


def test_a_run_is_no_worse_than_another_of_the_same_kind(tmp_path):
    made = compare([recorded(tmp_path / "a", 1)], [recorded(tmp_path / "b", 2)], Tolerance())
    assert made.verdict is Outcome.PASS
    median = row(made, "med")
    assert (median.verdict, median.unit, median.samples) == (Outcome.PASS, "ms", (600, 600))
    assert median.before == pytest.approx(20, rel=0.1)
    assert median.low < median.change < median.high
    assert row(made, "p(99)").skipped  # 600 of 1,000 samples
    assert row(made, "failures").high > 0
    assert [d.phase for d in made.differences if not d.skipped] == ["calm"] * 4
    assert compare([RunDirectory(tmp_path / "a" / "run")], [RunDirectory(tmp_path / "b" / "run")], Tolerance()) == made


def test_a_slower_run_is_a_regression_and_the_other_way_round_better(tmp_path):
    before, after = recorded(tmp_path / "a", 1), recorded(tmp_path / "b", 2, slower=2.5)
    made = compare([before], [after], Tolerance())
    assert made.verdict is Outcome.FAIL
    assert row(made, "med").change == pytest.approx(1.5, abs=0.3)
    assert {d.aggregation for d in made.differences if d.verdict is Outcome.FAIL} == {"med", "p(95)"}
    back = compare([after], [before], Tolerance())
    assert (back.verdict, row(back, "med").finding) == (Outcome.PASS, Finding.BETTER)


def test_what_only_a_noisier_machine_made_slower_is_inconclusive(tmp_path):
    before, after = recorded(tmp_path / "a", 1), recorded(tmp_path / "b", 2, slower=2.5)
    quiet, noisy = (MachinePhase(phase="calm", echoes=200, p50_ms=ms, p95_ms=ms) for ms in (1.0, 60.0))
    judged(before, PASSED, machine=[quiet])
    judged(after, PASSED, machine=[noisy])
    made = compare([before], [after], Tolerance())
    assert made.verdict is Outcome.INCONCLUSIVE
    assert "the machine alone took 1.0 ms before, 60.0 ms after" in row(made, "med").reason
    judged(after, PASSED, machine=[quiet])
    assert compare([before], [after], Tolerance()).verdict is Outcome.FAIL


def test_what_is_tolerated_is_declared(tmp_path):
    sides = [recorded(tmp_path / "a", 1)], [recorded(tmp_path / "b", 2, slower=2.5)]
    assert compare(*sides, parse_tolerance({"times": ("400%",)})).verdict is Outcome.PASS
    line = {"times": ("400%",), "feed_read{phase:baseline}": ("p(95) <= +50%",)}
    made = compare(*sides, parse_tolerance(line))
    assert [d.aggregation for d in made.differences if d.verdict is Outcome.FAIL] == ["p(95)"]
    assert row(made, "p(95)").tolerance == 0.5
    elsewhere = compare(*sides, parse_tolerance({"times": ("400%",), "feed_read{phase:after}": ("p(95) <= +50%",)}))
    assert (row(elsewhere, "p(95)").tolerance, row(elsewhere, "p(95)", "after").tolerance) == (4.0, 0.5)


def test_what_somebody_asked_for_and_the_data_do_not_tell_is_inconclusive(tmp_path):
    sides = [recorded(tmp_path / "a", 1)], [recorded(tmp_path / "b", 2)]
    for line in ({"feed_read": ("p(99) <= +50%",)}, {"feed_read": ("med <= +0%",)}, {"feed_new": ("med <= +50%",)}):
        made = compare(*sides, parse_tolerance(line))
        assert made.verdict is Outcome.INCONCLUSIVE, line
    assert row(made, "med", selector="feed_new").reason.startswith("0 samples before")


def test_too_short_a_run_proves_nothing_even_if_a_check_passes_now(tmp_path):
    failed = msgspec.structs.replace(PASSED, verdict=Outcome.FAIL)
    sides = [recorded(tmp_path / "a", length=5.0, checks=(failed,))], [recorded(tmp_path / "b", length=5.0)]
    made = compare(*sides, Tolerance())
    assert made.verdict is Outcome.INCONCLUSIVE
    assert all(d.skipped for d in made.differences)
    assert "bounds need 8 s" in row(made, "med").reason


def test_more_failures_and_fewer_ops_are_regressions(tmp_path):
    before, after = recorded(tmp_path / "a", 1), recorded(tmp_path / "b", 2, failing=0.1)
    made = compare([before], [after], Tolerance())
    assert row(made, "failures").verdict is Outcome.FAIL
    assert row(made, "failures").after == pytest.approx(0.1, abs=0.04)
    gone = compare([recorded(tmp_path / "c", posts=400)], [before], Tolerance())
    assert row(gone, "rate", selector="post_accept").verdict is Outcome.FAIL
    assert row(gone, "med", selector="post_accept").verdict is Outcome.INCONCLUSIVE


def test_several_repeats_of_each_side_are_one_side(tmp_path):
    before = [recorded(tmp_path / f"a{k}", k) for k in range(3)]
    after = [recorded(tmp_path / f"b{k}", 10 + k) for k in range(3)]
    made = compare(before, after, Tolerance())
    assert made.verdict is Outcome.PASS
    assert row(made, "p(99)").samples == (1800, 1800)
    assert not any("too few runs" in note for note in made.notes)


def test_a_check_that_passed_and_fails_is_a_regression(tmp_path):
    broken = msgspec.structs.replace(PASSED, verdict=Outcome.FAIL, reason="3 violations")
    unsure = msgspec.structs.replace(PASSED, verdict=Outcome.INCONCLUSIVE, reason="nothing was observed")
    run = recorded(tmp_path / "a")
    for old, new, verdict in (
        (PASSED, broken, Outcome.FAIL),
        (PASSED, unsure, Outcome.INCONCLUSIVE),
        (unsure, broken, Outcome.INCONCLUSIVE),
        (broken, PASSED, Outcome.PASS),
        (broken, unsure, Outcome.PASS),
        (PASSED, PASSED, Outcome.PASS),
    ):
        other = recorded(tmp_path / "b", checks=(new,))
        judged(run, old)
        made = compare([run], [other], Tolerance())
        assert made.verdict is verdict, (old.verdict, new.verdict)
        assert len(made.checks) == (old is not new)
    judged(run, PASSED)
    [change] = compare(
        [run, run], [recorded(tmp_path / "b"), recorded(tmp_path / "c", checks=(broken,))], Tolerance()
    ).checks
    assert (change.passed, change.reason) == (("2 of 2", "1 of 2"), "3 violations")


def test_what_only_one_side_has_is_no_change_and_is_said(tmp_path):
    skipped = msgspec.structs.replace(PASSED, name="order", verdict=Outcome.INCONCLUSIVE, skipped=True)
    of_comparison = msgspec.structs.replace(PASSED, kind=CheckKind.BASELINE, name=TOGETHER)
    before = recorded(tmp_path / "a", checks=(PASSED, msgspec.structs.replace(skipped, skipped=False), of_comparison))
    made = compare([before], [recorded(tmp_path / "b", checks=(PASSED, skipped))], Tolerance())
    assert (made.checks, made.compared_checks) == ([], 1)
    gone = compare([before], [recorded(tmp_path / "c")], Tolerance())
    assert "checks that are only there before: order" in gone.notes


def test_what_makes_runs_hard_to_compare_is_said(tmp_path):
    before, after = recorded(tmp_path / "a"), recorded(tmp_path / "b")
    assert compare([before], [after], Tolerance()).notes == [
        "too few runs to tell how runs differ among each other: the bounds hold for these runs alone"
    ]
    case = read_case(after)
    other = msgspec.structs.replace(case.scenario, seed=7, warmup_s=1.0)
    after.scenario.write_bytes(msgspec.json.encode(other))
    before.manifest.write_bytes(b'{"machine":{"cores":2,"kernel":"6.1"}}')
    after.manifest.write_bytes(b'{"machine":{"cores":4,"kernel":"6.1"},"defects":["no-wal"]}')
    notes = compare([before], [after], Tolerance()).notes
    assert notes[:4] == [
        "the scenario was changed between the runs: warmup_s",
        "different seeds, so not the same ops: 42 before, 7 after",
        "different machines: 2 cores, kernel 6.1 before, 4 cores, kernel 6.1 after",
        "different planted defects: none before, no-wal after",
    ]
    after.scenario.write_bytes(msgspec.json.encode(msgspec.structs.replace(other, name="other")))
    assert "different scenarios: made before, other after" in compare([before], [after], Tolerance()).notes


def test_phases_that_are_not_in_both_are_not_compared_and_said(tmp_path):
    before, after = recorded(tmp_path / "a"), recorded(tmp_path / "b")
    after.phases.write_bytes(after.phases.read_bytes().replace(b'"after"', b'"later"'))
    made = compare([before], [after], Tolerance())
    assert {d.phase for d in made.differences} == {"calm"}
    assert "phases that are not in all runs, and not compared: after, later" in made.notes


def test_the_comparison_as_checks_of_the_verdict(tmp_path):
    made = compare([recorded(tmp_path / "a", 1)], [recorded(tmp_path / "b", 2, slower=2.5)], Tolerance())
    together, *rows = as_checks(made)
    assert (together.name, together.verdict, together.observations) == (TOGETHER, Outcome.PASS, 1)
    assert {check.kind for check in rows} == {CheckKind.BASELINE}
    assert len(rows) == sum(not d.skipped for d in made.differences)
    median = next(check for check in rows if check.name == "feed_read med against the baseline")
    assert (median.verdict, median.phase, median.unit, median.bound) == (
        Outcome.FAIL,
        "calm",
        "share",
        pytest.approx(0.5, abs=0.1),
    )
    assert "before" in median.reason
    assert "worse by more than the tolerance" in median.reason
    nothing = msgspec.structs.replace(made, differences=[])
    assert as_checks(nothing)[0].verdict is Outcome.INCONCLUSIVE


def test_samples_are_made_again_when_the_history_is_newer(tmp_path):
    run = recorded(tmp_path / "a", reads=30)
    path = samples_of(read_case(run))
    first = path.stat().st_mtime_ns
    assert samples_of(read_case(run)).stat().st_mtime_ns == first
    os.utime(run.history / "ops.parquet", ns=(first + 1, first + 1))
    assert samples_of(read_case(run)).stat().st_mtime_ns > first
