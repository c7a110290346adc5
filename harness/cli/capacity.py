"""`feedstorm capacity`: the highest load at which everything a scenario expects holds, and what is at its end then."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import click
import msgspec

from harness.cli.ci import tell_ci
from harness.cli.interrupt import run_interruptible
from harness.cli.output import NewDirectory, json_option, messages, print_json, typed
from harness.cli.run import run_directory
from harness.cli.watching import watching
from harness.core.errors import ExitCode, UsageError, first_line, foremost
from harness.core.json_file import write_json
from harness.core.knobs import RATES, Knob, find_knob
from harness.core.scenario import Scenario
from harness.core.units import parse_duration_s
from harness.judge.capacity import Interval, Search, Steps, answer_of
from harness.judge.found import Capacity, StepRow
from harness.record.run_directory import CAPACITY
from harness.report import capacity as report
from harness.run.load_parts import MOST_WORKERS, workers_problems
from harness.run.request import RunRequest, read_request
from harness.run.stages import heal_older_runs
from harness.run.steps import StepResult, may_keep, step_scenario, target_steps

Step = Callable[[RunRequest], Awaitable[StepResult]]
STARTS = (0.001, 1000.0)
"""factors of the scenario's own load at which a search may begin"""
FEWEST_S = 5.0
"""of a step: less says too little"""


class Answer(msgspec.Struct, kw_only=True):
    """What --json prints, and capacity.json holds."""

    found: bool
    exit_code: int
    summary: str
    capacity: Capacity


class Duration(click.ParamType[float]):
    """A duration such as 20s or 15m, as seconds."""

    name = "duration"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse it, or fail with what is expected."""
        if isinstance(value, float):
            return value
        try:
            return parse_duration_s(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@dataclass(frozen=True)
class Plan:
    """A search to be made."""

    request: RunRequest
    """of the scenario as a step, at its own load"""
    knob: Knob
    search: Search
    limit_s: float
    keep: bool
    left_out: tuple[str, ...] = ()

    def at(self, factor: float, number: int) -> RunRequest:
        """The run of a step."""
        name = f"{number:02}-{self.knob.amount(factor):.4g}"
        return replace(self.request, scenario=self.knob.at(factor), out=self.request.out / name)

    @property
    def empty(self) -> Capacity:
        """What is known before the first step."""
        return Capacity(
            scenario=self.request.scenario.name,
            seed=self.request.scenario.seed,
            target=self.request.profile.name,
            knob=self.knob.name,
            unit=self.knob.unit,
            one=self.knob.amount(1.0),
            tolerance=self.search.tolerance,
            repeats=self.search.repeats,
            step_s=self.request.scenario.duration_s,
            left_out=list(self.left_out),
            kept=self.keep,
            interval=Interval(reason="interrupted"),
        )


@click.command()
@click.argument("scenario")
@click.option("--find", default=RATES, show_default=True, metavar="KNOB", help="rates, load.KEY, population.listeners.")
@click.option("--for", "length_s", type=Duration(), default="20s", show_default=True, help="How long a step lasts.")
@click.option("--limit", "limit_s", type=Duration(), default="20m", show_default=True, help="How long to search.")
@click.option("--start", type=float, default=1.0, show_default=True, metavar="FACTOR", help="Load of the first step.")
@click.option("--tolerance", type=click.FloatRange(0.01, 1), default=0.1, show_default=True, help="Width to end at.")
@click.option("--repeat", "repeats", type=click.IntRange(1, 20), default=3, show_default=True, metavar="N",
              help="Steps at each end of the interval.")  # fmt: skip
@click.option("--fresh", is_flag=True, help="A new target for every step, also where one could serve several.")
@click.option("--target", help="Target profile: a name or a path; default: what the scenario says.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Override a key of the scenario.")
@click.option("--seed", type=click.IntRange(0), help="Seed of everything random.")
@click.option("--flag", "flags", multiple=True, metavar="NAME=VALUE", help="Set a feature flag of the target.")
@click.option("--defect", "defects", multiple=True, metavar="NAME", help="Plant a defect in the reference stack.")
@click.option("--preset", metavar="NAME", help="A shape the target starts in.")
@click.option("--allow-host", "allow_hosts", multiple=True, metavar="HOST", help="Allow a target that is not loopback.")
@click.option("--workers", type=click.IntRange(1, MOST_WORKERS), default=1, metavar="N", help="As of `feedstorm run`.")
@click.option("--out", type=NewDirectory(), help="Directory; default: runs/<time>-capacity-<scenario>.")
@json_option
def capacity(
    scenario: str,
    find: str,
    length_s: float,
    limit_s: float,
    start: float,
    tolerance: float,
    repeats: int,
    fresh: bool,
    target: str | None,
    assignments: tuple[str, ...],
    seed: int | None,
    flags: tuple[str, ...],
    defects: tuple[str, ...],
    preset: str | None,
    allow_hosts: tuple[str, ...],
    workers: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Search the highest load at which everything the scenario expects holds, and say what is at its end then.

    Each step is a short run of one undisturbed phase. The load grows until a step fails, then the interval is halved,
    then both its ends are repeated. It takes 8 to 15 steps.

    \b
    Examples:
      feedstorm capacity steady-peak                                  (all rates together)
      feedstorm capacity steady-peak --find load.reads --set 'expect.feed_read=["p(95) <= 500ms"]'
      feedstorm capacity sse-storm --find population.listeners --tolerance 0.05
      feedstorm capacity steady-peak --for 30s --repeat 5 --limit 1h  (more sure, and longer)
    Exit code: 0 found and confirmed, 3 not decidable (generator at its end, noise, time), 130 interrupted; the
    interval known so far is told in each case.
    """
    place = run_directory(out, f"capacity-{Path(scenario).stem}")
    if made_steps(place):
        raise UsageError(f"--out {out}: holds a search already; choose another directory")
    left_out: list[str] = []

    def as_step(found: Scenario) -> Scenario:
        made, left = step_scenario(found, length_s)
        left_out.extend(left)
        return made

    request = read_request(scenario, target, assignments, seed, place, defects, flags, allow_hosts, preset, as_step)
    if problems := workers_problems(f"--workers {workers}", workers, request.scenario.population.panel):
        raise UsageError(problems)
    if problems := search_problems(start, length_s, tolerance):
        raise UsageError(problems)
    request, knob = replace(request, workers=workers), find_knob(find, request.scenario)
    search = Search(start=start, tolerance=tolerance, repeats=repeats, most=knob.most)
    plan = Plan(request, knob, search, limit_s, may_keep(request) and not fresh, tuple(left_out))
    knob.at(min(start, knob.most))
    run_search(plan, as_json)


def search_problems(start: float, length_s: float, tolerance: float) -> list[str]:
    """What cannot be searched by."""
    low, high = STARTS
    problems = [] if low <= start <= high else [f"--start: must be a number from {low:g} to {high:g}, got {start:g}"]
    problems += [] if length_s >= FEWEST_S else [f"--for: must be {FEWEST_S:g}s or more, got {length_s:g}s"]
    return problems + ([f"--tolerance: must be a number, got {tolerance:g}"] if math.isnan(tolerance) else [])


def made_steps(place: Path) -> bool:
    """Whether a search was made there; one whose first step could not begin is none."""
    try:
        answer = msgspec.json.decode((place / CAPACITY).read_bytes(), type=Answer)
    except FileNotFoundError:
        return False
    except msgspec.MsgspecError:
        return True
    return bool(answer.capacity.steps)


def run_search(plan: Plan, as_json: bool = False, step: Step | None = None) -> None:
    """Make the steps, tell of each and of all, end the command with the exit code.

    `step`: makes one; default: a run against the real target. What ends it before its time (Ctrl-C, a target that
    does not come up) ends the command as ever, with the interval known so far told and written first.
    """
    found, out = plan.empty, plan.request.out
    out.mkdir(parents=True, exist_ok=True)
    heal_older_runs(out.parent)
    _write(found, out)
    report.print_plan(found, messages())
    steps = Steps(plan.search)
    try:
        run_interruptible(_search(plan, found, steps, step))
    except BaseException as error:
        found.conclude(steps.interval("interrupted" if _is_interrupt(error) else first_line(foremost(error))))
        raise
    finally:
        _show(found, out, as_json)
    raise click.exceptions.Exit(_exit_code(found))


async def _search(plan: Plan, found: Capacity, steps: Steps, step: Step | None) -> None:
    if step is not None:
        await _make_steps(plan, found, steps, step)
        return
    async with target_steps(lambda: watching(messages()), keep=plan.keep) as made:
        await _make_steps(plan, found, steps, made.step)


async def _make_steps(plan: Plan, found: Capacity, steps: Steps, step: Step) -> None:
    begun, longest_s = time.monotonic(), 0.0
    while isinstance(factor := steps.next, float):
        if found.steps and time.monotonic() - begun + longest_s > plan.limit_s:
            found.conclude(steps.interval(f"the time is over (--limit {plan.limit_s:g}s)"))
            return
        started, number = time.monotonic(), len(found.steps) + 1
        request = plan.at(factor, number)
        result = await step(request)
        took_s = time.monotonic() - started
        longest_s = max(longest_s, took_s)
        answer, says = answer_of(result.verdict)
        row = StepRow(
            number=number,
            factor=factor,
            amount=plan.knob.amount(factor),
            answer=answer,
            says=says,
            run=request.out.name,
            took_s=round(took_s, 1),
            goodput=result.goodput,
            pressures=result.pressures,
        )
        found.steps.append(row)
        steps.add(factor, answer)
        found.conclude(steps.interval("interrupted"))
        report.print_step(row, found, messages())
        _write(found, plan.request.out)
    found.conclude(factor)


def _is_interrupt(error: BaseException) -> bool:
    return getattr(error, "exit_code", None) is ExitCode.INTERRUPTED or isinstance(error, KeyboardInterrupt)


def _exit_code(found: Capacity) -> ExitCode:
    return ExitCode.PASS if found.interval.found else ExitCode.INCONCLUSIVE


def _show(found: Capacity, out: Path, as_json: bool) -> None:
    """Write and tell what is known, also when it was interrupted."""
    answer = _write(found, out)
    tell_ci(report.markdown(found), [])
    if as_json:
        print_json(answer)
    else:
        report.print_capacity(found, typed(out), messages())


def _write(found: Capacity, out: Path) -> Answer:
    summary = report.headline(found)
    answer = Answer(found=found.interval.found, exit_code=_exit_code(found), summary=summary, capacity=found)
    write_json(out / CAPACITY, answer)
    return answer
