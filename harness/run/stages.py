"""The stages of a run that stand on their own: what is written first, population and tokens, the phases' timeline."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import tomli_w

from chaos.kind import FaultError
from chaos.ledger import heal
from chaos.schedule import FaultRow
from chaos.timeline import DueFault
from harness.contract.client import FeedClient
from harness.contract.profile import Profile
from harness.core.clock import NS_PER_S, now_ns
from harness.core.errors import ResidueError, UnavailableError, UsageError
from harness.core.in_use import nobody_uses
from harness.core.json_file import write_json
from harness.core.scenario import Phase, Scenario
from harness.load.plan import PlanPhase
from harness.load.population import Population
from harness.record.run_directory import RunDirectory, run_folders
from harness.run.live import BY_HAND
from harness.run.manifest import manifest
from harness.run.request import RunRequest
from harness.run.scrape import scrape
from harness.run.stream_users import forget_tokens

FOLLOW_CONCURRENCY = 32


MADE_BY_A_START = (
    *("scenario.json", "scenario.toml", "manifest.json", "target.json", "plan.json", "tokens.*", "trace.*", "stack"),
    *("population", "history", "histograms", "logs", "generator.jsonl", ".generator.*", "clocks.jsonl", "noise.jsonl"),
)
"""what is in a run directory before load is offered"""


def open_run(path: Path) -> RunDirectory:
    """The run directory, made; what a start that failed left in it goes, anything else stays.

    Raises UsageError when a run is starting there, UnavailableError where none can be made.
    """
    run = RunDirectory(path)
    if _is_ours(path) and not run.is_taken():
        run.create()
        with nobody_uses(run.history) as free:
            if not free:
                raise UsageError(f"--out {path}: a run is starting there; choose another directory")
            for left in (left for name in MADE_BY_A_START for left in path.glob(name)):
                if left.is_dir() and not left.is_symlink():
                    shutil.rmtree(left)
                else:
                    left.unlink()
    return run.create()


def write_request(run: RunDirectory, request: RunRequest, scenario: Scenario) -> None:
    """Stage 1: what the run is made of, before anything can go wrong."""
    write_json(run.scenario, scenario)
    run.scenario_toml.write_text(tomli_w.dumps(_without_none(msgspec.to_builtins(scenario))), encoding="utf-8")
    facts = manifest(scenario.name, scenario.seed, request.profile.name, request.defects)
    write_json(run.manifest, facts)


def keep_trace(run: RunDirectory, scenario: Scenario) -> Scenario:
    """Copy the recorded arrivals into the run: it is played from there, and can be played again."""
    trace = scenario.load.trace
    if trace is None:
        return scenario
    kept = f"trace{Path(trace.path).suffix}"
    shutil.copyfile(trace.path, run.path / kept)
    load = msgspec.structs.replace(scenario.load, trace=msgspec.structs.replace(trace, path=kept))
    return msgspec.structs.replace(scenario, load=load)


def write_profile(run: RunDirectory, profile: Profile) -> None:
    """The resolved profile, for the judge."""
    run.profile.write_bytes(msgspec.json.encode(profile))


def heal_older_runs(runs: Path) -> None:
    """Undo what runs that were killed left behind: faults, tokens, and the data of their stacks.

    Touches only directories that are runs of this user, those of suites included. Runs that are still alive are left
    alone. Raises ResidueError when a fault cannot be undone.
    """
    left: list[str] = []
    older = sorted(run for folder in run_folders(runs) for run in folder.iterdir() if _is_ours(run))
    for run in [runs / BY_HAND, *older]:
        try:
            heal(RunDirectory(run).ledger)
        except (FaultError, ResidueError) as error:
            left.append(f"{run.name}: {error}")
    for run in older:
        if not _in_use(run):
            forget_tokens(run)
            shutil.rmtree(run / "stack", ignore_errors=True)
    if left:
        raise ResidueError("\n".join([*left, "(what cannot be undone any more: feedstorm faults forget ID)"]))


def _is_ours(run: Path) -> bool:
    """Whether this is a run directory, made by this user."""
    marks = (run / "manifest.json", run / "scenario.json")
    return not run.is_symlink() and all(m.is_file() for m in marks) and run.stat().st_uid == os.geteuid()


def _in_use(run: Path) -> bool:
    """Whether a process was started with this directory on its command line."""
    marker = str(run.resolve()).encode()
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if marker in command.read_bytes():
                return True
        except OSError:
            continue
    return False


async def create_population(profile: Profile, population: Population) -> None:
    """Sign up and follow through the contract, for a target that takes no population at its start."""
    edges = [(int(u), int(f)) for u in range(population.users) for f in population.followees_of(u)]
    users = list(range(population.users))
    async with FeedClient.of(profile, next(iter(profile.regions))) as client:
        tokens: dict[int, str] = {}

        async def join(user: int) -> None:
            result = await client.sign_up(profile.users.identity_of(user))
            if result.value is None:
                raise UnavailableError(f"sign-up of {profile.users.identity_of(user)!r} failed: {result.error}")
            tokens[user] = result.value.token

        async def follow(edge: tuple[int, int]) -> None:
            result = await client.user(tokens[edge[0]]).follow(profile.users.identity_of(edge[1]))
            if not result.ok:
                raise UnavailableError(f"user {edge[0]} could not follow {edge[1]}: {result.error}")

        await _each(users, join)
        await _each(edges, follow)


async def _each(items: list[Any], work: Any) -> None:
    """Do the work for each item, a few at a time."""
    waiting = iter(items)

    async def worker() -> None:
        for item in waiting:
            await work(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(FOLLOW_CONCURRENCY, len(items))):
            group.create_task(worker())


def write_phases(
    run: RunDirectory, phases: Sequence[PlanPhase], t0_ns: int, faults: Sequence[DueFault | FaultRow]
) -> None:
    """phases.json: when each phase is, in monotonic time, and which faults belong to it."""
    rows, struck = [], False
    for phase in phases:
        due = [f.id for f in faults if f.phase == phase.name]
        struck = struck or bool(due)
        calm = "recovered" if struck else "baseline"
        kind = "warmup" if phase.start_ns < 0 else "fault" if due else calm
        times = {"start_ns": t0_ns + phase.start_ns, "end_ns": t0_ns + phase.end_ns}
        rows.append({"name": phase.name, **times, "kind": kind, "faults": due})
    run.phases.write_bytes(msgspec.json.encode(rows))


def in_phases(rows: Sequence[FaultRow], phases: Sequence[PlanPhase], t0_ns: int) -> list[FaultRow]:
    """Faults by hand, each with the phase it began in."""
    return [
        msgspec.structs.replace(row, phase=phase.name)
        for row in rows
        for phase in phases
        if phase.start_ns <= row.injected_ns - t0_ns < phase.end_ns
    ]


def add_faults(run: RunDirectory, rows: Sequence[FaultRow]) -> None:
    """Put faults by hand into faults.jsonl, beside those that were planned."""
    if rows:
        with run.faults.open("ab") as file:
            file.write(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))


async def scrape_phases(run: RunDirectory, profile: Profile, phases: tuple[Phase, ...], t0_ns: int) -> None:
    """Read the target's own metrics at the start and end of each phase."""
    path = run.path / "scrapes.jsonl"
    at_s = t0_ns / NS_PER_S
    for phase in phases:
        await _sleep_until(at_s)
        await scrape(profile, phase.name, "start", path)
        at_s += phase.duration_s
        await _sleep_until(at_s)
        await scrape(profile, phase.name, "end", path)


async def _sleep_until(at_s: float) -> None:
    await asyncio.sleep(max(0.0, at_s - now_ns() / NS_PER_S))


def note_lost(run: RunDirectory, name: str) -> None:
    """A generator row for a load process that ended before it could write its own."""
    row = {"process": name, "completed": False, "errors": ["the process was lost, or did not end when asked"]}
    with run.generator.open("ab") as file:
        file.write(msgspec.json.encode(row) + b"\n")


def link_latest(run: Path) -> None:
    """Point `latest` beside the directory of a run or a suite at it; something else of that name is left alone."""
    link = run.parent / "latest"
    if link.exists() and not link.is_symlink():
        return
    with contextlib.suppress(OSError):
        link.unlink(missing_ok=True)
        link.symlink_to(run.name)


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_without_none(v) for v in value]
    return value
