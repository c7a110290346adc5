"""Which runs a selftest makes."""

import pytest

from harness.core.errors import UsageError
from harness.core.scenario import Scenario
from harness.core.verdict import Check, CheckKind, Outcome, Verdict
from harness.record.run_directory import RunDirectory
from harness.run.scenario_file import load_scenario
from harness.selftest.catalogue import FAULTS, PLANTED, QUICK, SCENARIO, TROUBLED, Trouble, catchers, planted
from harness.selftest.matrix import Matrix, row_of
from harness.selftest.plan import plan_runs
from harness.selftest.running import in_trouble, request_of, run_all


def test_the_whole_has_every_defect_alone_and_a_clean_run_for_each_trouble():
    runs = plan_runs()
    assert [run.defects for run in runs if run.planted] == [(entry.defect,) for entry in PLANTED]
    clean = [run.trouble for run in runs if not run.planted]
    assert sorted(clean) == sorted(Trouble)
    assert runs[: len(clean)] == [run for run in runs if not run.planted]


def test_chosen_defects_are_run_alone_or_together_without_clean_runs():
    alone, both = plan_runs(["no-resume", "no-wal+unordered-page"])
    assert (alone.name, alone.trouble) == ("no-resume", Trouble.EDGE)
    assert (both.name, both.defects) == ("no-wal+unordered-page", ("no-wal", "unordered-page"))


def test_a_clean_run_can_be_chosen_by_its_trouble():
    clean, planted_run = plan_runs(["clean-owner", "stale-unmarked"])
    assert (clean.name, clean.trouble, clean.defects) == ("clean-owner", Trouble.OWNER, ())
    assert planted_run.defects == ("stale-unmarked",)


def test_everything_wrong_with_the_choice_is_told():
    with pytest.raises(UsageError) as caught:
        plan_runs(["no-wall", "no-resume+no-wal", "cursor-skip+page-overlap", "clean-edges"])
    assert caught.value.problems == [
        "--only: unknown defect 'no-wall' (did you mean 'no-wal'?)",
        "--only no-resume+no-wal: they need different troubles",
        "--only cursor-skip+page-overlap: two of them are for the same checker",
        "--only: unknown defect 'clean-edges' (did you mean 'clean-edge'?)",
    ]


def test_a_clean_run_has_nothing_planted_in_it():
    with pytest.raises(UsageError, match="unknown defect 'clean-cache'"):
        plan_runs(["no-wal+clean-cache"])


def test_the_quick_sample_has_each_named_checker_once_and_no_two_in_a_run():
    seen = [planted(name).caught_by for group in QUICK for name in group]
    assert set(seen) == set(catchers())
    for group in QUICK:
        checkers = [planted(name).caught_by for name in group]
        assert len(set(checkers)) == len(checkers)
        assert len({planted(name).trouble for name in group}) == 1
    assert len({name for group in QUICK for name in group}) == len(seen)


def test_each_trouble_fits_its_phase_and_leaves_the_others_alone():
    scenario = load_scenario(SCENARIO)
    for trouble in Trouble:
        phases = {phase.name: phase for phase in in_trouble(scenario, trouble).phases}
        assert phases[TROUBLED].faults == FAULTS[trouble]
        assert all(fault.at_s + fault.hold_s <= phases[TROUBLED].duration_s for fault in FAULTS[trouble])
        assert not any(phase.faults for name, phase in phases.items() if name != TROUBLED)


@pytest.mark.parametrize("run", plan_runs(), ids=lambda run: run.name)
def test_every_run_can_be_asked_for(run, tmp_path):
    request = request_of(run, tmp_path)
    assert isinstance(request.scenario, Scenario)
    assert request.defects == run.defects


@pytest.mark.parametrize(("first", "attempts"), [(Outcome.INCONCLUSIVE, 2), (Outcome.PASS, 1), (Outcome.FAIL, 1)])
async def test_a_run_is_made_again_only_when_its_checker_was_inconclusive(monkeypatch, tmp_path, first, attempts):
    verdicts, made, told = [first, Outcome.FAIL], [], []

    async def run_one(planned, directory, observe):
        RunDirectory(directory).create().manifest.write_bytes(b"{}")
        made.append(directory.name)
        check = Check(name="durability", kind=CheckKind.INVARIANT, verdict=verdicts[len(made) - 1])
        return row_of(planned, Verdict(verdict=check.verdict, scenario="", seed=1, checks=[check]), directory.name, 1.0)

    monkeypatch.setattr("harness.selftest.running.run_one", run_one)
    matrix = Matrix()
    await run_all(plan_runs(["no-wal"]), tmp_path, matrix, lambda _: None, told.append)
    assert made == ["01-no-wal", "01-no-wal-again"][:attempts]
    assert [(row.attempts, row.took_s) for row in matrix.rows] == [(attempts, float(attempts))]
    assert len(told) == attempts
