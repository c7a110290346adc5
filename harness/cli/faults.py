"""`feedstorm faults`: inject a fault by hand, see what is active, undo it, stop all of them at once."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec
from click.core import ParameterSource
from rich.table import Table

from chaos.faults import KINDS
from chaos.guard import validate
from chaos.handles import matching
from chaos.ledger import Ledger, LedgerRow, open_faults, undo_faults
from chaos.processes import living
from chaos.schedule import FaultRow, FaultRunner
from chaos.switch import DEFAULT_REASON, Switch
from chaos.timeline import DueFault
from harness.cli.interrupt import run_interruptible
from harness.cli.output import RUNS, find_run, json_option, messages, print_json, results
from harness.cli.stack import DEFAULT_DIRECTORY
from harness.contract.profile import load_profile
from harness.core.clock import NS_PER_S, now_ns
from harness.core.errors import ExitCode, ResidueError, UnavailableError, UsageError, nearest
from harness.core.scenario import FaultSpec
from harness.core.units import format_duration, parse_duration_s
from harness.record.run_directory import RunDirectory, run_folders
from harness.run.live import BY_HAND, Permission, live_game_day
from harness.run.scenario_file import toml_value

Handles = Mapping[str, Mapping[str, Any]]
Decorator = Callable[[Callable[..., None]], Callable[..., None]]


def _there_if_named(ctx: click.Context, param: click.Parameter, runs: Path) -> Path:
    """A folder that was named is there: in a wrong one no fault is active, and to stop them there stops nothing."""
    if ctx.get_parameter_source("runs") is ParameterSource.COMMANDLINE and not runs.is_dir():
        raise click.BadParameter(f"there is no folder {str(runs)!r}", ctx, param)
    return runs


def _runs_option(callback: Callable[[click.Context, click.Parameter, Path], Path] | None = None) -> Decorator:
    kind = click.Path(path_type=Path, file_okay=False)
    return click.option(
        "--runs", type=kind, default=RUNS, show_default=True, callback=callback, help="Folder of the runs."
    )


runs_option = _runs_option(_there_if_named)
made_runs_option = _runs_option()
"""the same, for who makes it where it is not there"""


@click.group()
def faults() -> None:
    """Inject faults by hand, list them, undo them, stop all of them.

    \b
    Examples: feedstorm faults kinds
              feedstorm faults inject kill us-east.memcached --for 10s
              feedstorm faults inject latency "link.*" --param latency=400ms --for 1m
              feedstorm faults stop --reason "customers complain"
    """


@faults.command()
@json_option
def kinds(as_json: bool) -> None:
    """The kinds of faults, what they need and their parameters."""
    if as_json:
        print_json([_told(name) for name in KINDS])
        return
    table = Table(box=None, pad_edge=False)
    for column in ("kind", "handle", "about", "parameters"):
        table.add_column(column)
    for name, kind in KINDS.items():
        parameters = "\n".join(
            f"{key}{' (required)' if one.required else ''}: {one.about}" for key, one in kind.parameters.items()
        )
        table.add_row(name, " or ".join(kind.backends), kind.about, parameters)
    results().print(table)


def _told(name: str) -> dict[str, Any]:
    kind = KINDS[name]
    parameters = {
        key: {"about": one.about, "required": one.required, "default": one.default}
        for key, one in kind.parameters.items()
    }
    return {"name": name, "about": kind.about, "backends": kind.backends, "needs": kind.needs, "parameters": parameters}


class Scene(NamedTuple):
    """Where a fault by hand is injected, and where it is written down."""

    handles: Handles
    run: RunDirectory
    """gets ledger and rows"""
    switch: Switch | Permission
    """tells when no fault may be active"""


@faults.command()
@click.argument("kind")
@click.argument("handle")
@click.option("--param", "params", multiple=True, metavar="KEY=VALUE", help="A parameter of the kind; see kinds.")
@click.option("--for", "hold", default="10s", show_default=True, metavar="TIME", help="How long it lasts.")
@click.option("--run", "run_name", metavar="RUN", help="Use the handles of a run under way. [default: a live game day]")
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Use those of a stack in this directory.",
)
@click.option("--target", metavar="PROFILE", help="Use those of a target profile.")
@click.option("--allow-host", "allow_hosts", multiple=True, metavar="HOST", help="Allow an address that is not local.")
@made_runs_option
@json_option
def inject(
    kind: str,
    handle: str,
    params: tuple[str, ...],
    hold: str,
    run_name: str | None,
    directory: Path | None,
    target: str | None,
    allow_hosts: tuple[str, ...],
    runs: Path,
    as_json: bool,
) -> None:
    """Inject a fault, hold it, undo it. Ctrl-C undoes it at once; so does whatever ends this command.

    \b
    HANDLE is a name of the target, or a pattern such as "link.*".
    Example: feedstorm faults inject pause us-east.redis-queue --for 5s
    """
    if kind not in KINDS:
        raise UsageError(f"kind: unknown fault kind {kind!r}{nearest(kind, KINDS)}")
    scene = _scene(run_name, directory, target, runs)
    spec = FaultSpec(kind=kind, handle=handle, hold_s=_duration(hold), params=dict(map(_parameter, params)))
    if problems := validate({"fault": spec}, scene.handles, allow_hosts):
        raise UsageError([problem.removeprefix("fault.") for problem in problems])
    rows = run_interruptible(_inject(scene, spec, quiet=as_json))
    if as_json:
        print_json(rows)
    failed = [row for row in rows if row.inject_error]
    if failed:
        raise UnavailableError("\n".join(f"{row.kind} on {row.handle}: {row.inject_error}" for row in failed))
    if not all(row.witness.ok for row in rows):
        raise click.exceptions.Exit(ExitCode.INCONCLUSIVE)


def _scene(run_name: str | None, directory: Path | None, target: str | None, runs: Path) -> Scene:
    """Raises UsageError, UnavailableError."""
    if sum(one is not None for one in (run_name, directory, target)) > 1:
        raise UsageError("--run, --dir and --target exclude each other")
    by_hand, switch = RunDirectory(runs / BY_HAND), Switch(runs)
    if target is not None:
        return Scene(load_profile(target).handles, by_hand, switch)
    named = RunDirectory(find_run(run_name, runs).resolve()) if run_name else None
    run = named or (None if directory else live_game_day(runs))
    if run is not None:
        return Scene(_handles(run.profile, f"run {run.path} has not brought its target up"), run, Permission(run))
    stack = directory or DEFAULT_DIRECTORY
    return Scene(_handles(stack / "endpoints.json", f"no stack runs in {stack}: feedstorm up"), by_hand, switch)


class _WithHandles(msgspec.Struct):
    handles: dict[str, dict[str, Any]] = {}


def _handles(path: Path, otherwise: str) -> Handles:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_WithHandles).handles
    except FileNotFoundError as error:
        raise UnavailableError(otherwise) from error
    except (OSError, msgspec.MsgspecError) as error:
        raise UnavailableError(f"{path}: {error}") from error


def _duration(text: str) -> float:
    try:
        return parse_duration_s(text)
    except ValueError as error:
        raise UsageError(f"--for: {error}") from error


def _parameter(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise UsageError(f"--param: must be KEY=VALUE, got {text!r}")
    return key, toml_value(value)


async def _inject(scene: Scene, spec: FaultSpec, *, quiet: bool) -> list[FaultRow]:
    """Run the fault on every handle it means; tell how it goes."""
    if reason := scene.switch.reason:
        raise UnavailableError(f"faults are forbidden: {reason} (after a stop: feedstorm faults allow)")
    scene.run.path.mkdir(parents=True, exist_ok=True)
    runner = FaultRunner(scene.handles, scene.run.ledger, scene.run.faults_by_hand, scene.switch, is_shared=True)
    due = [
        DueFault(
            id=f"h{secrets.token_hex(3)}",
            kind=spec.kind,
            handle=name,
            hold_s=spec.hold_s,
            due_ns=now_ns(),
            params=spec.params,
        )
        for name in matching(spec.handle, scene.handles)
    ]
    telling = asyncio.create_task(_tell(runner)) if not quiet else None
    try:
        await runner.run(due)
    finally:
        if telling is not None:
            await asyncio.sleep(0)
            telling.cancel()
            _say_changes(runner, {})
        await asyncio.to_thread(runner.audit)
    return runner.rows


async def _tell(runner: FaultRunner) -> None:
    said: dict[str, str] = {}
    while True:
        _say_changes(runner, said)
        await asyncio.sleep(0.1)


def _say_changes(runner: FaultRunner, said: dict[str, str]) -> None:
    for row in runner.rows:
        state = _state(row)
        if said.get(row.id) != state:
            said[row.id] = state
            messages().print(f"{row.id} {row.kind} on {row.handle}: {state}", markup=False)


def _state(row: FaultRow) -> str:
    if row.undone_ns is not None:
        return f"undone: {row.undo.detail}"
    if row.undo_started_ns is not None:
        return f"being undone {row.undo.detail}".rstrip()
    if row.inject_error:
        return f"not injected: {row.inject_error}"
    if row.witnessed_ns is None:
        return "injected"
    return f"active for {format_duration(row.hold_s)}: {row.witness.evidence}"


class Open(msgspec.Struct):
    """A fault that is not undone, as listed."""

    id: str
    kind: str
    handle: str
    run: str
    since_s: float
    lease_left_s: float | None
    writer: int
    """pid of the process that runs it; 0: it is gone"""


@faults.command("list")
@runs_option
@json_option
def list_faults(runs: Path, as_json: bool) -> None:
    """Faults that are not undone, of all runs, game days and by hand."""
    found = [_open(ledger, row) for ledger, row in _all_open(runs)]
    if as_json:
        print_json({"forbidden": Switch(runs).reason, "faults": found})
        return
    table = Table(box=None, pad_edge=False)
    for column in ("id", "kind", "handle", "run", "since", "lease", "process"):
        table.add_column(column)
    for one in found:
        lease = "" if one.lease_left_s is None else format_duration(max(0.0, one.lease_left_s))
        process = str(one.writer) if one.writer else "gone"
        table.add_row(one.id, one.kind, one.handle, one.run, format_duration(one.since_s), lease, process)
    results().print(table if found else "no fault is active")
    if reason := Switch(runs).reason:
        messages().print(f"new faults are forbidden: {reason} (feedstorm faults allow)", markup=False)


def _open(ledger: Path, row: LedgerRow) -> Open:
    now = now_ns()
    return Open(
        id=row.id,
        kind=row.kind,
        handle=row.handle,
        run=ledger.parent.name,
        since_s=max(0.0, (now - row.opened_ns) / NS_PER_S),
        lease_left_s=(row.lease_end_ns - now) / NS_PER_S if row.lease_end_ns else None,
        writer=row.writer.pid if row.writer is not None and living(row.writer) is not None else 0,
    )


def _all_open(runs: Path) -> list[tuple[Path, LedgerRow]]:
    found = [path for folder in run_folders(runs) for path in folder.glob("*/ledger.jsonl")]
    ledgers = sorted(path for path in found if not path.parent.is_symlink())
    return [(path, row) for path in ledgers for row in open_faults(path)]


@faults.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "everything", is_flag=True, help="Undo every fault that is not undone.")
@runs_option
def undo(ids: tuple[str, ...], everything: bool, runs: Path) -> None:
    """Undo faults now, whoever injected them. Example: feedstorm faults undo --all"""
    if bool(ids) == everything:
        raise UsageError("undo: name faults by their id, or say --all")
    chosen = _all_open(runs) if everything else _named(ids, runs)
    _undo(chosen)
    if not chosen:
        messages().print("no fault is active")


def _named(ids: tuple[str, ...], runs: Path) -> list[tuple[Path, LedgerRow]]:
    """The open faults of these ids. Raises UsageError."""
    found = _all_open(runs)
    known = {row.id for _, row in found}
    if unknown := [f"no active fault {one!r}{nearest(one, known)}" for one in ids if one not in known]:
        raise UsageError(unknown)
    return [(ledger, row) for ledger, row in found if row.id in ids]


@faults.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@runs_option
def forget(ids: tuple[str, ...], runs: Path) -> None:
    """Take faults off the ledger that can never be undone, as their target is gone for good. Nothing is undone."""
    for ledger, row in _named(ids, runs):
        Ledger(ledger).done(row.id, "forgotten by hand, not undone")
        messages().print(f"{row}: forgotten, not undone", markup=False)


def _undo(chosen: list[tuple[Path, LedgerRow]]) -> None:
    """Raises ResidueError."""
    told: dict[str, str] = {}
    left: list[str] = []
    for path in dict.fromkeys(path for path, _ in chosen):
        left += undo_faults(Ledger(path), [row for ledger, row in reversed(chosen) if ledger == path], told)
    for line in told.values():
        messages().print(line, markup=False)
    if left:
        raise ResidueError("faults that could not be undone:\n" + "\n".join(left))


@faults.command()
@click.option("--reason", default=DEFAULT_REASON, show_default=True, help="What others are told.")
@runs_option
def stop(reason: str, runs: Path) -> None:
    """Undo everything now, and forbid new faults until `feedstorm faults allow`."""
    runs.mkdir(parents=True, exist_ok=True)
    Switch(runs).forbid(reason)
    _undo(_all_open(runs))
    messages().print("all faults are undone; new ones are forbidden until: feedstorm faults allow")


@faults.command()
@runs_option
def allow(runs: Path) -> None:
    """Allow faults again, after `stop`."""
    said = "faults are allowed again" if Switch(runs).allow() else "faults were allowed"
    messages().print(said)
