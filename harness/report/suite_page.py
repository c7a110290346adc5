"""index.html of a suite: its runs in a table, each with a link to its report. One file, no network, no script."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from harness.judge.suites import Suite, SuiteRun
from harness.record.manifest import Manifest
from harness.record.run_directory import RunDirectory
from harness.report.layout import environment, style, tallied
from harness.report.suites import duration, headline, outcome_of, word_of


class Row(NamedTuple):
    """A run as the page shows it."""

    run: SuiteRun
    outcome: str
    word: str
    took: str
    report: str
    """where its report is, as seen from the page; empty: it has none"""


def render(suite: Suite, made: Manifest, options: Sequence[tuple[str, str]], folder: Path) -> str:
    """The page. `options`: what was asked of every run, name and value."""
    return (
        environment()
        .get_template("suite.html.j2")
        .render(
            outcome=suite.verdict,
            title="suite",
            brand=folder.name,
            headline=headline(suite),
            about="",
            facts=[*_facts(suite, made), *options],
            tally=tallied(Counter(str(outcome_of(run)) for run in suite.runs)),
            rows=[_row(run, folder) for run in suite.runs],
            proves=any(run.planted for run in suite.runs),
            commands=[(made.command, "all of it again")],
            versions=made.versions,
            style=style(),
        )
    )


def _facts(suite: Suite, made: Manifest) -> list[tuple[str, str]]:
    facts = [
        ("Runs", f"{len(suite.runs)} of {suite.wanted}"),
        ("Started", made.started_text),
        ("Length", duration(suite.took_s)),
        ("Machine", made.machine_text),
        ("Commit", made.commit),
    ]
    return [(name, value) for name, value in facts if value]


def _row(run: SuiteRun, folder: Path) -> Row:
    has_report = RunDirectory(folder / run.run).report.exists()
    report = quote(str(RunDirectory(Path(run.run)).report)) if has_report else ""
    return Row(run, str(outcome_of(run)), word_of(run), duration(run.took_s), report)
