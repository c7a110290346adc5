"""Makes the runs of a selftest, one after the other, each as `feedstorm run` would make it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from harness.core.scenario import Phase, Scenario
from harness.record.run_directory import RunDirectory
from harness.run.execute import Execution, Observer
from harness.run.request import RunRequest, read_request
from harness.selftest.catalogue import (
    CELEBRITY_POSTS_PER_S,
    CONVERGENCE_S,
    FAULTS,
    JOINS_AFTER_S,
    SCENARIO,
    TARGET,
    TROUBLED,
    WAITING,
    Trouble,
)
from harness.selftest.matrix import Matrix, Row, is_unsure, row_of
from harness.selftest.plan import Planned

Told = Callable[[Row], None]


async def run_all(runs: list[Planned], out: Path, matrix: Matrix, observe: Observer, told: Told) -> None:
    """Make all runs below `out`; each adds its row to the matrix as soon as it was judged.

    A run whose named checker was inconclusive (the machine was noisy) is made once more. When cancelled, the run under
    way is undone, and the rows so far stay. Raises FeedstormError when a run cannot be made at all.
    """
    matrix.planned = len(runs)
    for number, planned in enumerate(runs, 1):
        directory = out / f"{number:02}-{planned.name}"
        row = await run_one(planned, directory, observe)
        if is_unsure(row):
            told(row)
            again = await run_one(planned, directory.with_name(f"{directory.name}-again"), observe)
            row = msgspec.structs.replace(again, attempts=row.attempts + 1, took_s=row.took_s + again.took_s)
        matrix.rows.append(row)
        matrix.made = matrix.made or msgspec.json.decode(RunDirectory(directory).manifest.read_bytes())
        told(row)


async def run_one(planned: Planned, directory: Path, observe: Observer) -> Row:
    """Make one run and judge it."""
    started = time.monotonic()
    verdict = await Execution(request_of(planned, directory), observe).execute()
    return row_of(planned, verdict, directory.name, round(time.monotonic() - started, 1))


def request_of(planned: Planned, directory: Path) -> RunRequest:
    """The request behind a run. Raises UsageError."""
    adapt = partial(in_trouble, trouble=planned.trouble)
    request = read_request(SCENARIO, TARGET, (), None, directory, planned.defects, adapt=adapt)
    slo = msgspec.structs.replace(request.profile.slo, convergence_s=CONVERGENCE_S)
    return dataclasses.replace(request, profile=msgspec.structs.replace(request.profile, slo=slo))


def in_trouble(scenario: Scenario, trouble: Trouble) -> Scenario:
    """The scenario with the faults of that trouble in the phase that is meant for them, and somebody who joins late."""
    if trouble is Trouble.JOINING:
        scenario = _with_late_celebrity(scenario)

    def phase_of(phase: Phase) -> Phase:
        return msgspec.structs.replace(phase, faults=FAULTS[trouble]) if phase.name == TROUBLED else phase

    return msgspec.structs.replace(scenario, phases=tuple(phase_of(phase) for phase in scenario.phases))


def _with_late_celebrity(scenario: Scenario) -> Scenario:
    return msgspec.structs.replace(
        scenario,
        population=msgspec.structs.replace(scenario.population, late_celebrities=(WAITING,)),
        load=msgspec.structs.replace(
            scenario.load,
            celebrity_signups_per_s=1 / JOINS_AFTER_S,
            celebrity_posts_per_s=CELEBRITY_POSTS_PER_S,
        ),
    )
