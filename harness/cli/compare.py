"""`feedstorm compare`: two runs, or several repeats of each, side by side."""

from __future__ import annotations

import click

from harness.cli.ci import tell_ci
from harness.cli.exit_codes import EXIT_OF
from harness.cli.output import all_option, json_option, judged_runs, messages, print_json
from harness.judge.case import read_case
from harness.judge.compare import compare as compare_runs
from harness.judge.tolerance import Tolerance, parse_tolerance, with_assignments
from harness.record.run_directory import RunDirectory
from harness.report.comparison import markdown, print_comparison, remarks_of


@click.command()
@click.argument("before")
@click.argument("after")
@click.option(
    "--tolerance",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="How much worse is still as good; default: what the scenario of AFTER says.",
)
@all_option
@json_option
def compare(before: str, after: str, assignments: tuple[str, ...], every: bool, as_json: bool) -> None:
    """Compare two runs, figure by figure and phase by phase, with 99 % confidence bounds.

    BEFORE and AFTER are runs, or several repeats of one: NAME stands for NAME-1, NAME-2 ... of `run --repeat`, and a
    pattern for all that it matches. Figures that show no difference are counted, --all lists them. Exit code: 0 no
    regression, 1 a figure is worse by more than its tolerance or a check that passed fails, 3 the data do not tell.

    \b
    Examples:
      feedstorm compare 20260101-120000-region-lag latest
      feedstorm compare 'runs/20260101-*-region-lag' latest --tolerance times=10%
      feedstorm compare before after --tolerance 'feed_read{phase:recovered}=p(95) <= +10%'
    """
    sides = judged_runs(before), judged_runs(after)
    comparison = compare_runs(*sides, tolerance_of(sides[1][0], assignments))
    if as_json:
        print_json(comparison)
    else:
        print_comparison(comparison, messages(), every=every)
    tell_ci(markdown(comparison), remarks_of(comparison))
    raise click.exceptions.Exit(EXIT_OF[comparison.verdict])


def tolerance_of(run: RunDirectory, assignments: tuple[str, ...]) -> Tolerance:
    """The tolerances of a run's scenario, with those of the command line put in. Raises UsageError."""
    case = read_case(run)
    table = with_assignments(case.scenario.tolerance, assignments)
    phases = [phase.name for phase in case.judged_phases]
    return parse_tolerance(table, phases=phases, regions=case.profile.regions)
