"""`feedstorm run --repeat`: the same run several times, and how often each check passed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NoReturn

import click
import msgspec
from rich.text import Text

from harness.cli.ci import tell_ci
from harness.cli.exit_codes import EXIT_OF
from harness.cli.interrupt import run_interruptible
from harness.cli.output import messages, print_json, typed
from harness.cli.watching import watching
from harness.core.errors import UsageError, first_line, foremost
from harness.core.verdict import Outcome, Verdict
from harness.judge.compare import Comparison, compare
from harness.judge.repeats import Repeats, repeats_of
from harness.judge.tolerance import parse_tolerance
from harness.record.run_directory import RunDirectory
from harness.report import comparison as comparison_report
from harness.report import repeats as repeats_report
from harness.report.github import Remark
from harness.report.terminal import STYLE
from harness.report.wording import headline
from harness.run.execute import Execution
from harness.run.request import RunRequest


class Result(msgspec.Struct, kw_only=True):
    """What --json prints."""

    repeats: Repeats
    comparison: Comparison | None
    """with --baseline: all runs together against it"""


def run_once(request: RunRequest) -> Verdict:
    """One run, shown meanwhile. Raises FeedstormError; on Ctrl-C InterruptedRun, with everything undone."""
    with watching(messages()) as observe:
        return run_interruptible(Execution(request, observe).execute())


def run_repeatedly(
    request: RunRequest,
    times: int,
    baseline: Sequence[RunDirectory],
    as_json: bool,
    run: Callable[[RunRequest], Verdict] = run_once,
    *,
    every: bool = False,
) -> NoReturn:
    """Run it `times` times in OUT-1, OUT-2 ..., tell all together, end with the worst exit code.

    What ends it before that (Ctrl-C, a target that does not come up) ends the command as ever, with what is known told
    first. The runs together are compared with the baseline; with `every` figures that did not change are told as well.
    Raises UsageError when one of the directories is taken.
    """
    places = [request.out.with_name(f"{request.out.name}-{number}") for number in range(1, times + 1)]
    if taken := [f"--out {place}: holds a run already" for place in places if RunDirectory(place).is_taken()]:
        raise UsageError(taken)
    made: list[tuple[RunDirectory, Verdict]] = []
    try:
        for place in places:
            made.append((RunDirectory(place), run(replace(request, out=place))))
            _say(len(made), times, made[-1][1])
    except BaseException as error:
        if made:
            _tell(Result(repeats=_together(request, made, times, _why(error)), comparison=None), as_json)
        raise
    comparison = None
    if baseline:
        comparison = compare(
            baseline, [directory for directory, _ in made], parse_tolerance(request.scenario.tolerance)
        )
    also = [comparison.verdict] if comparison is not None else []
    result = Result(repeats=_together(request, made, times, "", also), comparison=comparison)
    _tell(result, as_json, every=every)
    raise click.exceptions.Exit(EXIT_OF[result.repeats.verdict])


def _say(number: int, times: int, verdict: Verdict) -> None:
    mark = (f"run {number} of {times}: {verdict.verdict.upper()} ", STYLE[verdict.verdict])
    messages().print(Text.assemble(mark, headline(verdict)), soft_wrap=True)


def _why(error: BaseException) -> str:
    return "interrupted" if isinstance(error, KeyboardInterrupt) else first_line(foremost(error))


def _together(
    request: RunRequest,
    made: Sequence[tuple[RunDirectory, Verdict]],
    times: int,
    ended: str,
    also: Sequence[Outcome] = (),
) -> Repeats:
    shown = [(typed(run.path), verdict) for run, verdict in made]
    return repeats_of(request.scenario.name, shown, times, ended, also)


def _tell(result: Result, as_json: bool, *, every: bool = False) -> None:
    if as_json:
        print_json(result)
    else:
        if result.comparison is not None:
            comparison_report.print_comparison(result.comparison, messages(), every=every)
        repeats_report.print_repeats(result.repeats, messages())
    markdown = repeats_report.markdown(result.repeats)
    remarks = [
        Remark(
            repeats_report.outcome_of(rate),
            f"{result.repeats.scenario}: {rate.name}" + (f" in {rate.phase}" if rate.phase else ""),
            f"passed in {repeats_report.rate_text(rate)} runs",
        )
        for rate in result.repeats.checks
        if rate.judged
    ]
    if result.comparison is not None:
        markdown += "\n" + comparison_report.markdown(result.comparison)
        remarks += comparison_report.remarks_of(result.comparison)
    tell_ci(markdown, remarks)
