"""`feedstorm run`: the main job."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import click

from harness.cli.ci import tell_ci
from harness.cli.exit_codes import EXIT_OF
from harness.cli.machines import Machines, with_machines
from harness.cli.output import RUNS, NewDirectory, all_option, find_run, json_option, judged_runs, messages, print_json
from harness.cli.repeat import run_once, run_repeatedly
from harness.contract.profile import Profile
from harness.core.errors import UsageError
from harness.core.json_file import read_json
from harness.core.verdict import Verdict
from harness.record.run_directory import RunDirectory
from harness.report.github import remarks_of
from harness.report.terminal import print_verdict
from harness.run.foreseen import undecidable
from harness.run.judging import unchanged_in
from harness.run.replay import replayed
from harness.run.request import RunRequest, read_request, regions_of

WITHOUT = {"toxiproxy": "there was no WAN delay between its regions (see `feedstorm doctor`)"}


@click.command()
@click.argument("scenario")
@click.option("--target", help="Target profile: a name or a path; default: what the scenario says.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Override a key of the scenario.")
@click.option("--seed", type=click.IntRange(0), help="Seed of everything random in the run.")
@click.option("--out", type=NewDirectory(), help="Run directory; default: runs/<time>-<scenario>.")
@click.option("--defect", "defects", multiple=True, metavar="NAME", help="Plant a defect in the reference stack.")
@click.option("--flag", "flags", multiple=True, metavar="NAME=VALUE", help="Set a feature flag of the target.")
@click.option("--scale", type=float, default=1.0, metavar="FACTOR", help="Make it that many times as large.")
@click.option("--preset", metavar="NAME", help="A shape the target starts in; reference: threads (default) or x-early.")
@click.option("--allow-host", "allow_hosts", multiple=True, metavar="HOST", help="Allow a target that is not loopback.")
@click.option("--repeat", type=click.IntRange(1), default=1, metavar="N", help="Run it N times, one after the other.")
@click.option("--baseline", metavar="RUN", help="Compare with an older run (or its repeats) at the end.")
@all_option
@with_machines
@click.option("--replay", metavar="RUN", help="Play the faults recorded in an older run, at the same times, no others.")
@json_option
def run(
    scenario: str,
    target: str | None,
    assignments: tuple[str, ...],
    seed: int | None,
    out: Path | None,
    defects: tuple[str, ...],
    flags: tuple[str, ...],
    scale: float,
    preset: str | None,
    allow_hosts: tuple[str, ...],
    repeat: int,
    baseline: str | None,
    every: bool,
    replay: str | None,
    machines: Machines,
    as_json: bool,
) -> None:
    """Run a scenario against a target and judge it.

    \b
    Examples:
      feedstorm run celebrity-cache-kill
      feedstorm run celebrity-cache-kill --defect skip-notify      (must fail, and say why)
      feedstorm run region-lag --set load.posts=80/s --seed 7
      feedstorm run region-lag --scale 2                           (twice the users and rates, ratios kept)
      feedstorm run signup-surge --preset x-early                  (one region, pull, imports while the user waits)
      feedstorm run region-lag --replay latest                     (its faults once more, whatever the scenario says)
      feedstorm run region-lag --repeat 10                         (how often does each check pass?)
      feedstorm run region-lag --baseline 20260101-120000-region-lag   (and fail when it got worse: docs/gates.md)
      feedstorm run sse-storm --workers 2                          (two processes make the load: docs/distribution.md)
    """
    directory = run_directory(out, Path(scenario).stem)
    recorded = find_run(replay) if replay is not None else None
    request = read_request(
        scenario,
        target,
        assignments,
        seed,
        directory,
        defects,
        flags,
        allow_hosts,
        preset,
        adapt=(lambda found: replayed(found, recorded)) if recorded is not None else None,
        scale=scale,
    )
    request = machines.applied_to(request, repeat)
    older = tuple(judged_runs(baseline)) if baseline is not None else ()
    warn_of_few_samples(request)
    if repeat > 1:
        run_repeatedly(request, repeat, older, as_json, every=every)
    verdict = run_once(replace(request, baseline=older))
    conclude(RunDirectory(directory), verdict, as_json, every=every)


def warn_of_few_samples(request: RunRequest) -> None:
    """Tell of thresholds that need more samples than the schedule brings, before any time is spent on the run."""
    for sentence in undecidable(request.scenario, request.phases, len(regions_of(request.profile))):
        messages().print(f"warning: {request.scenario.name}: {sentence}", soft_wrap=True, markup=False)


def conclude(run_files: RunDirectory, verdict: Verdict, as_json: bool, *, every: bool = False) -> NoReturn:
    """Tell the verdict of a run, and end the command with its exit code.

    `every`: also the figures that did not change since its baseline.
    """
    console = messages()
    if as_json:
        print_json(verdict)
    else:
        print_verdict(verdict, console, unchanged=() if every else unchanged_in(run_files))
        for part in lacking(run_files):
            console.print(f"note: the target ran without {part}; {WITHOUT.get(part, 'see `feedstorm doctor`')}")
        console.print(f"report: {run_files.report}", soft_wrap=True)
    tell_ci(run_files.summary.read_text(encoding="utf-8"), remarks_of(verdict.scenario, verdict.checks))
    raise click.exceptions.Exit(EXIT_OF[verdict.verdict])


def lacking(run_files: RunDirectory) -> list[str]:
    """Parts the target did without in this run."""
    return read_json(run_files.profile, Profile).missing


def run_directory(out: Path | None, name: str) -> Path:
    """Where a run goes; by default RUNS/<time>-<name>. Raises UsageError when there is a run already."""
    if out is None:
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        return (RUNS / f"{stamp}-{name}").resolve()
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: is a file; choose a directory")
    if RunDirectory(out).is_taken():
        raise UsageError(f"--out {out}: holds a run already; choose another directory")
    return out.resolve()
