"""A suite as people read it: a line a run in the terminal, a table at its end, Markdown for the step summary, JUnit."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.core.verdict import Outcome
from harness.judge.suites import Suite, SuiteRun
from harness.record.run_directory import RunDirectory
from harness.report import junit, summary
from harness.report.github import Remark, remarks_of
from harness.report.markdown import MARK as EMOJI
from harness.report.markdown import plain
from harness.report.run_data import read_run
from harness.report.terminal import MARK, STYLE

MOST_TROUBLES = 4


def outcome_of(run: SuiteRun) -> Outcome:
    """What could not be judged counts as inconclusive."""
    return run.outcome or Outcome.INCONCLUSIVE


def word_of(run: SuiteRun) -> str:
    """What became of it, in a word."""
    if run.outcome is None:
        return "error"
    if run.planted:
        return {Outcome.PASS: "caught", Outcome.FAIL: "missed"}.get(run.outcome, "unknown")
    return str(run.outcome)


def headline(suite: Suite) -> str:
    """The suite in one sentence."""
    scenarios = [run for run in suite.runs if not run.planted]
    passed = sum(run.outcome is Outcome.PASS for run in scenarios)
    words = [f"{passed} of {len(scenarios)} scenarios passed"]
    if planted := [run for run in suite.runs if run.planted]:
        caught = sum(run.outcome is Outcome.PASS for run in planted)
        words.append(f"{caught} of {len(planted)} failed as they have to")
    words.append(f"in {duration(suite.took_s)}")
    missing = suite.wanted - len(suite.runs)
    unmade = "1 run was" if missing == 1 else f"{missing} runs were"
    return f"{', '.join(words)}; {unmade} not made: {suite.ended}." if missing else f"{', '.join(words)}."


def duration(seconds: float) -> str:
    """As people say it: "48 s", "2 min 5 s"."""
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60} s"


def print_run(run: SuiteRun, number: int, suite: Suite, console: Console) -> None:
    """The line of a run that has just ended."""
    mark = (f"{MARK[outcome_of(run)]} {number}/{suite.wanted} {word_of(run)} ", STYLE[outcome_of(run)])
    said = Text.assemble(mark, f"{run.name}  ", (f"{duration(run.took_s)}  {run.says}", "dim"))
    console.print(said, soft_wrap=True)


def print_suite(suite: Suite, folder: str, console: Console) -> None:
    """The table of all runs, where they lie, and the result in a line."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim")
    for column in ("", "scenario", "result", "took", "what did not pass"):
        table.add_column(column, no_wrap=column in ("result", "took"), justify="right" if column == "took" else "left")
    for run in suite.runs:
        style = STYLE[outcome_of(run)]
        mark, word = Text(MARK[outcome_of(run)], style=style), Text(word_of(run), style=style)
        table.add_row(mark, Text(run.name), word, Text(duration(run.took_s)), Text(troubles(run)))
    console.print(table)
    said = Text.assemble(f"{suite.verdict.upper()} ", headline(suite), style=STYLE[suite.verdict])
    console.print(said, soft_wrap=True)
    console.print(f"report: {folder}/index.html", soft_wrap=True, markup=False)


def troubles(run: SuiteRun) -> str:
    """The checks that did not pass, or why there are none; of a run that has to fail, what it says of its check."""
    if run.outcome is None or run.planted:
        return run.says
    more = len(run.troubles) - MOST_TROUBLES
    return ", ".join(run.troubles[:MOST_TROUBLES]) + (f", {more} more" if more > 0 else "")


def markdown(suite: Suite, folder: Path) -> str:
    """A table of all runs, then the summaries of those that did not pass."""
    lines = [f"## {EMOJI[suite.verdict]} {suite.verdict.upper()}: {plain(headline(suite))}", ""]
    lines += ["| | scenario | result | took | what did not pass |", "|---|---|---|--:|---|"]
    for run in suite.runs:
        cells = [run.name, word_of(run), duration(run.took_s), troubles(run)]
        lines.append(f"| {EMOJI[outcome_of(run)]} | {' | '.join(map(plain, cells))} |")
    parts = ["\n".join(lines) + "\n"]
    for run in suite.runs:
        if run.outcome not in (None, Outcome.PASS) and not run.planted:
            parts.append(summary.render(read_run(RunDirectory(folder / run.run))))
    return "\n".join(parts)


def remarks(suite: Suite, folder: Path) -> list[Remark]:
    """Annotations: one on each check that did not pass, and on each run that was not judged or did not fail."""
    found: list[Remark] = []
    for run in suite.runs:
        if run.outcome is None or run.planted:
            found += [Remark(outcome_of(run), run.name, run.says)] if run.outcome is not Outcome.PASS else []
        else:
            verdict = read_run(RunDirectory(folder / run.run)).verdict
            found += remarks_of(verdict.scenario, verdict.checks)
    return found


def junit_xml(suite: Suite, folder: Path) -> bytes:
    """One file: a test suite a run. A run that has to fail is a case by itself: it passes when it was caught."""
    return junit.document("feedstorm suite", [_test_suite(run, folder) for run in suite.runs])


def _test_suite(run: SuiteRun, folder: Path) -> ET.Element:
    if run.outcome is None:
        return junit.suite_of_one(run.name, "run", None, "not judged", run.says, run.took_s)
    if run.planted:
        case = f"{run.caught_by} fails"
        return junit.suite_of_one(run.name, case, run.outcome, word_of(run), run.says, run.took_s)
    return junit.suite_of(read_run(RunDirectory(folder / run.run)))
