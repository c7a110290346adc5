"""`feedstorm suite`: several scenarios one after the other, with one summary, one JUnit file and one exit code."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import click
import msgspec

from harness.cli import told
from harness.cli.ci import tell_ci
from harness.cli.exit_codes import EXIT_OF
from harness.cli.output import NewDirectory, json_option, messages, print_json, typed
from harness.cli.repeat import run_once
from harness.cli.run import run_directory, warn_of_few_samples
from harness.cli.tags import tagged
from harness.core.catalogue import Failing
from harness.core.errors import ExitCode, InterruptedRun, UsageError, first_line, foremost
from harness.core.json_file import write_json
from harness.core.verdict import Outcome, Verdict
from harness.judge.repeats import troubles_of
from harness.judge.suites import Suite, SuiteRun
from harness.record.manifest import Manifest
from harness.record.run_directory import SUITE
from harness.report import suite_page
from harness.report import suites as report
from harness.report.wording import headline
from harness.run.load_parts import MOST_WORKERS, workers_problems
from harness.run.manifest import circumstances
from harness.run.request import RunRequest, read_request
from harness.run.stages import heal_older_runs, link_latest
from harness.selftest.matrix import cells_of

DEFAULT_TAG = "ci"
PAGE, JUNIT, SUMMARY = "index.html", "junit.xml", "summary.md"
MOST_LISTED = 3
Run = Callable[[RunRequest], Verdict]


class Answer(msgspec.Struct, kw_only=True):
    """What --json prints, and suite.json holds."""

    verdict: Outcome
    exit_code: int
    summary: str
    suite: Suite


class Planned(NamedTuple):
    """One run of the suite."""

    request: RunRequest
    failing: Failing | None = None
    """what is planted in it, and who must say so"""


class Options(NamedTuple):
    """What holds for every run of the suite."""

    target: str | None = None
    assignments: tuple[str, ...] = ()
    seed: int | None = None
    scale: float = 1.0
    preset: str | None = None
    allow_hosts: tuple[str, ...] = ()
    workers: int = 1

    @property
    def asked(self) -> list[tuple[str, str]]:
        """Those that were given, as people read them: name and value."""
        named = [
            ("Target", self.target or ""),
            ("Preset", self.preset or ""),
            ("Seed", "" if self.seed is None else str(self.seed)),
            ("Scale", f"{self.scale:g}"),
            ("Set", ", ".join(self.assignments)),
            ("Workers", str(self.workers)),
            ("Allowed hosts", ", ".join(self.allow_hosts)),
        ]
        return [(name, value) for name, value in named if value not in ("", "1")]


@click.command()
@click.argument("names", nargs=-1, metavar="[SCENARIO]...")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="All scenarios with this tag; default: ci.")
@click.option("--target", help="Target profile: a name or a path; default: what each scenario says.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Override a key of every scenario.")
@click.option("--seed", type=click.IntRange(0), help="Seed of everything random in each run.")
@click.option("--scale", type=float, default=1.0, metavar="FACTOR", help="Make each scenario that many times as large.")
@click.option("--preset", metavar="NAME", help="A shape the target starts in.")
@click.option("--allow-host", "allow_hosts", multiple=True, metavar="HOST", help="Allow a target that is not loopback.")
@click.option("--workers", type=click.IntRange(1, MOST_WORKERS), default=1, metavar="N", help="As of `feedstorm run`.")
@click.option("--prove", is_flag=True, help="Run each again with what has to make it fail: does it?")
@click.option("--fail-fast", is_flag=True, help="End with the first run that does not do what it has to.")
@click.option("--out", type=NewDirectory(), help="Directory; default: runs/<time>-suite.")
@json_option
def suite(
    names: tuple[str, ...],
    tags: tuple[str, ...],
    target: str | None,
    assignments: tuple[str, ...],
    seed: int | None,
    scale: float,
    preset: str | None,
    allow_hosts: tuple[str, ...],
    workers: int,
    prove: bool,
    fail_fast: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Run several scenarios one after the other: those of a tag, or those named.

    All are checked before the first begins. The directory gets a run directory each, index.html, junit.xml,
    summary.md and suite.json.

    \b
    Examples:
      feedstorm suite --tag ci                         (what a CI job runs)
      feedstorm suite cache-kill cache-flush --prove   (do they pass, and fail when they have to?)
      feedstorm suite --tag nightly --scale 3          (three times the size, ratios kept)
    Exit code: the gravest of all runs; in this order 5, 70, 4, 2, 1, 3, 0.
    """
    directory = run_directory(out, "suite")
    if (directory / SUITE).exists():
        raise UsageError(f"--out {out}: holds a suite already; choose another directory")
    chosen = list(dict.fromkeys(chosen_scenarios(names, tags)))
    options = Options(target, assignments, seed, scale, preset, allow_hosts, workers)
    planned = plan_suite(chosen, directory, options, prove=prove)
    for one in planned:
        if one.failing is None:
            warn_of_few_samples(one.request)
    run_suite(planned, directory, options.asked, fail_fast=fail_fast, as_json=as_json)


def chosen_scenarios(names: Sequence[str], tags: Sequence[str]) -> list[str]:
    """The scenarios meant. Raises UsageError."""
    if names and tags:
        raise UsageError("suite: name scenarios, or choose them by --tag")
    return list(names) or [scenario.name for scenario in tagged(tags or (DEFAULT_TAG,))]


def plan_suite(names: Sequence[str], out: Path, options: Options, *, prove: bool = False) -> list[Planned]:
    """All runs, each checked as `feedstorm run` would. Raises UsageError with the problems of all of them."""
    planned: list[Planned] = []
    problems: dict[str, list[str]] = {}
    for name in names:
        try:
            planned += _runs_of(name, out, len(planned), options, prove)
        except UsageError as error:
            told_already = (f"scenario {name}:", f"scenario {name!r}:", f"{Path(name).name}:")
            for problem in error.problems:
                of = problems.setdefault(problem, [])
                of += [] if problem.startswith(told_already) else [name]
    if problems:
        raise UsageError([f"{_listed(of)}: {problem}" if of else problem for problem, of in problems.items()])
    return planned


def _listed(names: Sequence[str]) -> str:
    """Scenarios that share a problem, such as one of an option: a, b, c and 12 more."""
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return ", ".join(names[:MOST_LISTED]) + more


def _runs_of(name: str, out: Path, made: int, options: Options, prove: bool) -> list[Planned]:
    clean = _request(name, out / f"{made + 1:02}-{Path(name).stem}", options)
    catalogue = clean.scenario.catalogue
    if prove and catalogue is None:
        raise UsageError("does not say what makes it fail ([catalogue] fails_with)")
    runs = [Planned(clean)]
    for failing in catalogue.fails_with if prove and catalogue else ():
        planted = (failing.defect or failing.flag).replace("=", "-")
        directory = out / f"{made + len(runs) + 1:02}-{Path(name).stem}-{planted}"
        runs.append(Planned(_request(name, directory, options, failing), failing))
    return runs


def _request(name: str, out: Path, options: Options, failing: Failing | None = None) -> RunRequest:
    request = read_request(
        name,
        options.target,
        options.assignments,
        options.seed,
        out,
        (failing.defect,) if failing and failing.defect else (),
        (failing.flag,) if failing and failing.flag else (),
        options.allow_hosts,
        options.preset,
        scale=options.scale,
    )
    panel = request.scenario.population.panel
    if problems := workers_problems(f"--workers {options.workers}", options.workers, panel):
        raise UsageError(problems)
    return replace(request, workers=options.workers)


def run_suite(
    planned: Sequence[Planned],
    out: Path,
    asked: Sequence[tuple[str, str]] = (),
    *,
    fail_fast: bool = False,
    as_json: bool = False,
    run: Run = run_once,
) -> None:
    """Make the runs, tell of each as it ends and of all at the end, and end the command with the gravest exit code.

    A run that cannot be made is told and the next one made. One that leaves a fault behind ends the suite, as does
    Ctrl-C: what was done so far is told and written first. `asked` is what the page says of the options.
    """
    made = msgspec.convert(circumstances(), Manifest)
    suite, console = Suite(wanted=len(planned), ended="interrupted"), messages()
    out.mkdir(parents=True, exist_ok=True)
    heal_older_runs(out.parent)
    _write(suite, out)
    link_latest(out)
    try:
        for one in planned:
            suite.runs.append(_made(one, run))
            report.print_run(suite.runs[-1], len(suite.runs), suite, console)
            if why := _why_ended(suite, fail_fast):
                suite.ended = why
                break
        else:
            suite.ended = ""
    finally:
        (out / PAGE).write_text(suite_page.render(suite, made, asked, out), encoding="utf-8")
        _show(suite, out, as_json)
    raise click.exceptions.Exit(suite.exit_code)


def _why_ended(suite: Suite, fail_fast: bool) -> str:
    """Why no further run is made; empty: there may be one."""
    code = suite.runs[-1].exit_code
    if code == ExitCode.RESIDUE:
        return "a fault could not be undone"
    return "the first that did not pass ended it" if fail_fast and code != ExitCode.PASS else ""


def _made(planned: Planned, run: Run) -> SuiteRun:
    """One run, whatever comes of it but an interruption."""
    started = time.monotonic()
    try:
        verdict = run(planned.request)
    except Exception as raised:
        error = foremost(raised)
        if isinstance(error, InterruptedRun):
            raise
        return _row(planned, started, None, told(error), first_line(error))
    outcome, says = _judged(planned.failing, verdict)
    row = _row(planned, started, outcome, EXIT_OF[outcome], says)
    return msgspec.structs.replace(row, troubles=troubles_of(verdict))


def _judged(failing: Failing | None, verdict: Verdict) -> tuple[Outcome, str]:
    """Whether a run did what it has to: pass, or turn the named check red."""
    if failing is None:
        return verdict.verdict, headline(verdict)
    cell = cells_of(verdict).get(failing.check)
    if cell is None:
        return Outcome.INCONCLUSIVE, f"the run has no check {failing.check}"
    turned = {Outcome.FAIL: Outcome.PASS, Outcome.PASS: Outcome.FAIL}
    return turned.get(cell.verdict, Outcome.INCONCLUSIVE), f"{failing.check}: {cell.verdict}: {cell.says}".rstrip(": ")


def _row(planned: Planned, started: float, outcome: Outcome | None, code: ExitCode, says: str) -> SuiteRun:
    return SuiteRun(
        scenario=planned.request.scenario.name,
        planted=planned.failing.option if planned.failing else "",
        caught_by=planned.failing.check if planned.failing else "",
        run=planned.request.out.name,
        outcome=outcome,
        exit_code=code,
        says=says,
        took_s=round(time.monotonic() - started, 1),
    )


def _show(suite: Suite, out: Path, as_json: bool) -> None:
    """Write and tell what is known, also when it was interrupted."""
    answer = _write(suite, out)
    (out / JUNIT).write_bytes(report.junit_xml(suite, out))
    markdown = report.markdown(suite, out)
    (out / SUMMARY).write_text(markdown, encoding="utf-8")
    tell_ci(markdown, report.remarks(suite, out))
    if as_json:
        print_json(answer)
    else:
        report.print_suite(suite, typed(out), messages())


def _write(suite: Suite, out: Path) -> Answer:
    summary = report.headline(suite)
    answer = Answer(verdict=suite.verdict, exit_code=suite.exit_code, summary=summary, suite=suite)
    write_json(out / SUITE, answer)
    return answer
