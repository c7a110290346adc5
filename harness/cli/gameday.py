"""`feedstorm gameday`: load without end, faults by hand, a live view, and a verdict."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console

from chaos.switch import Switch
from harness.cli.interrupt import run_interruptible
from harness.cli.keys import reading_keys
from harness.cli.output import NewDirectory, json_option, messages
from harness.cli.run import conclude, run_directory
from harness.cli.watching import watching
from harness.core.errors import ResidueError, UsageError
from harness.core.values import positive_duration
from harness.core.verdict import Verdict
from harness.record.run_directory import RunDirectory
from harness.run.execute import Execution
from harness.run.game_day import read_game_day
from harness.run.load_parts import MOST_WORKERS, workers_problems

KEYS = """\
q  undo all and end     f  forbid faults, undo active ones     a  allow faults
in a second terminal:   feedstorm faults inject KIND HANDLE --for 10s"""
FORBIDDEN = "by the operator of the game day"


@click.command()
@click.argument("scenario", required=False)
@click.option("--target", help="Target profile: a name or a path; default: what the scenario says.")
@click.option("--for", "length", default="30m", show_default=True, metavar="TIME", help="Ends by itself after this.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Override a key of the scenario.")
@click.option("--seed", type=click.IntRange(0), help="Seed of everything random in the load.")
@click.option("--out", type=NewDirectory(), help="Run directory; default: runs/<time>-gameday.")
@click.option("--flag", "flags", multiple=True, metavar="NAME=VALUE", help="Set a feature flag of the target.")
@click.option("--preset", metavar="NAME", help="A shape the target starts in.")
@click.option("--proxy", "proxies", multiple=True, metavar="LINK", help="Put a proxy on a link inside the target.")
@click.option("--allow-host", "allow_hosts", multiple=True, metavar="HOST", help="Allow a target that is not loopback.")
@click.option("--workers", type=click.IntRange(1, MOST_WORKERS), default=1, metavar="N", help="As of `feedstorm run`.")
@json_option
def gameday(
    scenario: str | None,
    target: str | None,
    length: str,
    assignments: tuple[str, ...],
    seed: int | None,
    out: Path | None,
    flags: tuple[str, ...],
    preset: str | None,
    proxies: tuple[str, ...],
    allow_hosts: tuple[str, ...],
    workers: int,
    as_json: bool,
) -> None:
    """Run a scenario's load for as long as you want, and inject faults by hand from a second terminal.

    Its own phases and faults are not played. Without SCENARIO: a steady load on --target. What happened is recorded,
    judged and reported like a run. docs/gameday.md walks through one.

    \b
    Examples:
      feedstorm gameday --target reference
      feedstorm gameday celebrity-cache-kill --for 10m
      feedstorm faults inject kill us-east.memcached --for 10s     (in a second terminal)
    """
    if scenario is None and target is None:
        raise UsageError("gameday: name a scenario, or a target with --target")
    directory = run_directory(out, "gameday")
    request = read_game_day(
        scenario, target, assignments, seed, directory, _length_s(length), flags, proxies, allow_hosts, preset
    )
    if problems := workers_problems(f"--workers {workers}", workers, request.scenario.population.panel):
        raise UsageError(problems)
    request, console = replace(request, workers=workers), messages()
    with watching(console, KEYS) as observe:
        verdict = run_interruptible(led(Execution(request, observe), console))
    if reason := Switch(directory.parent).reason:
        messages().print(f"note: new faults are forbidden: {reason} (feedstorm faults allow)", markup=False)
    conclude(RunDirectory(directory), verdict, as_json)


async def led(execution: Execution, console: Console) -> Verdict:
    """The session, with the operator's keys; `console`: where it is said that a fault could not be undone."""
    switch = Switch(execution.request.out.parent)
    undoing: set[asyncio.Task[None]] = set()

    def forbid() -> None:
        switch.forbid(FORBIDDEN)
        if not undoing:
            task = asyncio.create_task(_undo(execution, console))
            undoing.add(task)
            task.add_done_callback(undoing.discard)

    actions = {
        "q": lambda: execution.ending.now("the operator ended it"),
        "f": forbid,
        "a": switch.allow,
    }
    with reading_keys(actions):
        return await execution.execute()


async def _undo(execution: Execution, console: Console) -> None:
    """Undo what is active, also where the process that injected it hangs and does not see the switch."""
    try:
        await asyncio.to_thread(execution.by_hand.undo_all)
    except (ResidueError, OSError) as error:
        console.print(str(error), style="bold red", markup=False)


def _length_s(text: str) -> float:
    try:
        return positive_duration(text)
    except ValueError as error:
        raise UsageError(f"--for: {error}") from None
