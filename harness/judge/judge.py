"""The judgement of one run: from its directory to a verdict. Reads the run; writes ops.parquet, samples.parquet
and series.json only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.core.verdict import Check, Outcome, Verdict, worst
from harness.judge import barred, coverage, graph, metrics, streams
from harness.judge.case import Case, read_case
from harness.judge.expressions import Expectations, parse_expectations
from harness.judge.generator import judge_generator
from harness.judge.invariants import witness
from harness.judge.lost import as_far_as_known
from harness.judge.machine import machine_phases
from harness.judge.recordings import write_samples
from harness.judge.recovery import judge_recovery
from harness.judge.series import phases_in_seconds, write_series
from harness.judge.slos import judge_slos
from harness.judge.stops import judge_stops
from harness.judge.tables import open_tables
from harness.judge.timely import judge_invariant
from harness.judge.trial import Trial
from harness.record.parquet import to_parquet
from harness.record.run_directory import RunDirectory

_RANK = {Outcome.FAIL: 0, Outcome.INCONCLUSIVE: 1, Outcome.PASS: 2}


def judge(run: RunDirectory, expect: Mapping[str, Iterable[str]] | None = None) -> Verdict:
    """Judge a recorded run. `expect`: what is expected of it; default: what its scenario says.

    1. read the facts: scenario, profile, phases, faults, generator reports, scrapes
    2. parse what is expected
    3. convert the history to Parquet, unless that was done
    4. build the tables: ops, posts, pages, streams; who follows whom; what each read had to show
    5. stop conditions; SLOs, each threshold in each phase
    6. invariants, each over the whole history (a crash is one inconclusive check); witness whenever there are faults
    7. recovery after each fault
    8. generator health; what a lost load process leaves unproven
    9. series for the report, samples for comparisons
    10. merge: fail beats inconclusive beats pass; skipped checks do not count

    Raises UsageError for expectations of the impossible, HistoryError for a damaged history, OSError and
    msgspec.DecodeError for a directory that is not a run.
    """
    case = read_case(run)
    expected = parse_expectations(case.scenario.expect if expect is None else expect)
    ops = to_parquet(run)
    with open_trial(case, ops) as trial:
        checks = judge_trial(trial, expected)
        write_series(trial)
        write_samples(trial.con, run)
        counts = count(trial)
    return Verdict(
        verdict=worst(c.verdict for c in checks if not c.skipped),
        scenario=case.scenario.name,
        seed=case.scenario.seed,
        checks=ordered(checks),
        counts=counts,
        phases=phases_in_seconds(case),
        machine=machine_phases(case),
    )


@contextmanager
def open_trial(case: Case, ops: Path) -> Iterator[Trial]:
    """The trial of a case whose history is `ops` (Parquet), all tables built; they are gone afterwards."""
    with open_tables(case, ops) as con:
        graph.build(con, case)
        barred.build(con, case)
        coverage.build(con, case)
        streams.build(con)
        metrics.build(con)
        yield Trial(case=case, con=con)


def judge_trial(trial: Trial, expected: Expectations) -> list[Check]:
    """All checks, in the order of the stages."""
    checks = [*judge_stops(trial.case), *judge_slos(trial, expected.slos)]
    names = list(expected.invariants)
    if "witness" not in names and witness.is_due(trial.case):
        names.append("witness")
    checks += [judge_invariant(trial, name) for name in names]
    if expected.recovery_s is not None:
        checks += judge_recovery(trial, expected.recovery_s, expected.slos)
    return as_far_as_known(trial.case, checks, expected.slos) + judge_generator(trial.case)


def ordered(checks: list[Check]) -> list[Check]:
    """Worst first, skipped ones last; otherwise SLOs, invariants, recovery, generator as judged."""
    return sorted(checks, key=lambda c: 3 if c.skipped else _RANK[c.verdict])


def count(trial: Trial) -> dict[str, Any]:
    """What the run consisted of."""
    ops: dict[str, dict[str, int]] = {}
    for kind, outcome, number in trial.rows(
        "SELECT kind, outcome, count(*) FROM op GROUP BY ALL ORDER BY kind, outcome"
    ):
        ops.setdefault(kind, {})[outcome] = number
    named = {
        "posts_acked": "SELECT count(*) FROM post",
        "events": "SELECT count(*) FROM event",
        "resyncs": "SELECT count(*) FROM op WHERE kind = 'resync'",
        "reads_degraded": "SELECT count(*) FROM op WHERE degraded <> '' AND kind IN ('feed', 'feed_new')",
        "final_reads": "SELECT count(*) FROM page WHERE final",
        "items_read": "SELECT count(*) FROM item",
        "walks": "SELECT count(*) FROM walk",
        "streams": "SELECT count(*) FROM stream",
    }
    numbers = {name: trial.number(sql) for name, sql in named.items()}
    return {"total": trial.number("SELECT count(*) FROM op"), "ops": ops, **numbers}
