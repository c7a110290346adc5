"""Judges a recorded run, stores the verdict and its reports. Used at the end of a run, and again by `check`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from harness.core.errors import UsageError
from harness.core.json_file import read_json, write_json
from harness.core.scenario import Scenario, parse_expect
from harness.core.verdict import Verdict, worst
from harness.judge.case import read_case
from harness.judge.compare import Comparison, as_checks, compare, unchanged_checks
from harness.judge.expressions import parse_expectations
from harness.judge.judge import judge, ordered
from harness.judge.tolerance import parse_tolerance
from harness.record.parquet import seal
from harness.record.run_directory import RunDirectory
from harness.report import write_reports
from harness.run.scenario_file import read_document


def judge_and_store(
    run: RunDirectory,
    baseline: Sequence[RunDirectory] = (),
    expect: Mapping[str, Iterable[str]] | None = None,
) -> Verdict:
    """The verdict of a run; verdict.json, report.html, junit.xml and summary.md are written beside its history.

    With a `baseline` it is compared with these judged runs, by its scenario's tolerances; the comparison is kept
    (comparison.json), and is part of the verdict also when the run is judged again without one. History segments are
    deleted once Parquet holds all of them.
    """
    verdict = judge(run, expect)
    seal(run)
    _store(run, verdict)
    comparison = _compared(run, baseline)
    if comparison is not None:
        verdict = with_comparison(verdict, comparison)
        _store(run, verdict)
    write_reports(run)
    return verdict


def _compared(run: RunDirectory, baseline: Sequence[RunDirectory]) -> Comparison | None:
    """How the run compares with its baseline, or did when it was compared last; None: it has none."""
    if baseline:
        scenario = read_json(run.scenario, Scenario)
        comparison = compare(baseline, [run], parse_tolerance(scenario.tolerance))
        write_json(run.comparison, comparison)
        return comparison
    if run.comparison.exists():
        return read_json(run.comparison, Comparison)
    return None


def unchanged_in(run: RunDirectory) -> set[tuple[str, str]]:
    """Name and phase of the checks of its verdict that compare a figure which is as in the run's baseline."""
    comparison = _compared(run, ())
    return unchanged_checks(comparison) if comparison is not None else set()


def with_comparison(verdict: Verdict, comparison: Comparison) -> Verdict:
    """The verdict with the checks of a comparison among its own."""
    checks = ordered([*verdict.checks, *as_checks(comparison)])
    outcome = worst(check.verdict for check in checks if not check.skipped)
    return msgspec.structs.replace(verdict, verdict=outcome, checks=checks)


def _store(run: RunDirectory, verdict: Verdict) -> None:
    write_json(run.verdict, verdict)


def expectations_for(run: RunDirectory, rules: Path) -> dict[str, tuple[str, ...]]:
    """The expectations in a file, for a run made with others. Raises UsageError with every problem, by file."""
    case = read_case(run)
    try:
        expect = parse_expect(read_document(rules))
        phases = [phase.name for phase in case.judged_phases]
        parse_expectations(expect, phases=phases, regions=case.profile.regions)
    except UsageError as error:
        raise UsageError([_with_file(rules, problem) for problem in error.problems]) from None
    return expect


def _with_file(rules: Path, problem: str) -> str:
    return problem if problem.startswith(f"{rules.name}: ") else f"{rules.name}: {problem}"
