"""Sample runs with their reports."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sample_run import EVIL, make_run

from harness.core.errors import ExitCode
from harness.core.verdict import Outcome
from harness.judge.suites import Suite, SuiteRun
from harness.record.manifest import Manifest
from harness.record.run_directory import RunDirectory
from harness.report import suite_page as page
from harness.report import write_reports


@pytest.fixture
def reported(tmp_path: Path) -> Callable[..., RunDirectory]:
    """A run directory of the given verdict, with reports."""

    def make(verdict: str = "fail", evil: str = "") -> RunDirectory:
        run = make_run(tmp_path / verdict, verdict, evil)
        write_reports(run)
        return run

    return make


@pytest.fixture
def suite() -> Suite:
    """One run that passed, one that did not, one that had to fail, one that was not made, and one that is wanted."""
    return Suite(
        runs=[
            SuiteRun(
                scenario="cache-kill", run="01-pass", outcome=Outcome.PASS, exit_code=0, says="all passed", took_s=65
            ),
            SuiteRun(
                scenario="mine & theirs", run="02 #fail", outcome=Outcome.FAIL, exit_code=1, says="1 check failed"
            ),
            SuiteRun(
                scenario="cache-kill",
                planted="--defect no-wal",
                caught_by="durability",
                run="03-caught",
                outcome=Outcome.PASS,
                exit_code=0,
                says="durability: fail: post p1 is missing",
            ),
            SuiteRun(scenario="far", run="04-far", exit_code=int(ExitCode.ENVIRONMENT), says=EVIL),
        ],
        wanted=5,
        ended="interrupted",
    )


@pytest.fixture
def suite_page(suite: Suite, tmp_path: Path) -> Path:
    """index.html of that suite, with the reports of all runs but the one that was not made."""
    folder = tmp_path / "20300102-suite"
    for run, verdict in zip(suite.runs, ("pass", "fail", "fail"), strict=False):
        write_reports(make_run(folder / run.run, verdict, ""))
    made = Manifest(
        command="feedstorm suite --seed 7", started="2030-01-02T03:04:05+00:00", machine={"cores": 2, "cpu": "some cpu"}
    )
    path = folder / "index.html"
    path.write_text(page.render(suite, made, [("Seed", "7")], folder), encoding="utf-8")
    return path
