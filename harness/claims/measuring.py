"""Measures the sources of claims: each is a program of its own, one at a time, with a limit on its time.

    DIR/<source>.json        what came of it, as `readings` needs it
    DIR/<source>/            of a run: its directory
    DIR/<source>.out, .err   what the program wrote

A source of whose file something is known can be taken from there another time (`--resume`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from harness.claims.model import Asked, Benchmark, Conformance, Figure, Invariant, Measured, Quotient, Run, Source
from harness.claims.model import Threshold as ThresholdOf
from harness.core.errors import ExitCode, FeedstormError
from harness.core.json_file import write_json
from harness.core.verdict import Check, CheckKind, Outcome
from harness.judge.judge import judge
from harness.load.machine import Machine
from harness.record.manifest import Manifest
from harness.record.parquet import open_history
from harness.record.run_directory import RunDirectory
from harness.run.manifest import git_state
from harness.run.manifest import machine as this_machine

ROOT = Path(__file__).resolve().parents[2]
ENDING_S = 90.0
"""what a run that is stopped may take to undo what it did"""
PROVES_NOTHING = (CheckKind.GENERATOR, CheckKind.WITNESS, CheckKind.STOP)


def name_of(source: Source) -> str:
    """A name for its files."""
    words = source.command.removeprefix("feedstorm ").removeprefix("python -m ")
    return re.sub(r"[^A-Za-z0-9._]+", "-", words).strip("-")


def kept(source: Source, out: Path) -> Measured | None:
    """What was measured before and is still good; None: nothing."""
    try:
        found = msgspec.json.decode(_stored(source, out).read_bytes(), type=Measured)
    except (OSError, msgspec.DecodeError):
        return None
    return None if found.problem else found


def _stored(source: Source, out: Path) -> Path:
    return out / f"{name_of(source)}.json"


async def measure(source: Source, figures: Iterable[Figure], out: Path) -> Measured:
    """Measure one source for all figures that are read off it. When cancelled, its program undoes what it did."""
    out.mkdir(parents=True, exist_ok=True)
    started, made = time.monotonic(), Manifest(git=git_state(), machine=this_machine())
    found = Measured(command=source.command, machine=made.machine_text, commit=made.commit)
    found.date = datetime.now(UTC).date().isoformat()
    found.problem = _missing(source)
    if not found.problem:
        place, output = free_place(out / name_of(source)), out / f"{name_of(source)}.out"
        for _ in range(source.times if isinstance(source, Benchmark) else 1):
            await _execute(_argv(source, place), source.limit_s, output, found)
            if found.problem:
                break
            _read_result(source, list(figures), place, output, found)
    found.took_s = round(time.monotonic() - started, 1)
    write_json(_stored(source, out), found)
    return found


def free_place(path: Path) -> Path:
    """The directory of a run; what an older one left there is moved aside."""
    if path.exists():
        number = 1
        while (aside := path.with_name(f"{path.name}-{number}")).exists():
            number += 1
        path.rename(aside)
    return path


def _missing(source: Source) -> str:
    if isinstance(source, Benchmark) and not (ROOT / "benchmarks" / f"{source.name}.py").is_file():
        return "not measured: benchmarks are part of the checkout, and not of what is installed"
    return ""


def _argv(source: Source, place: Path) -> list[str]:
    match source:
        case Run():
            return [*_FEEDSTORM, "run", source.scenario, *source.options, "--out", str(place), "--json"]
        case Benchmark():
            return [sys.executable, "-m", f"benchmarks.{source.name}"]
        case Conformance():
            return [*_FEEDSTORM, "conform", "--json"]


_FEEDSTORM = (sys.executable, "-m", "harness.cli")


async def _execute(argv: Sequence[str], limit_s: float, output: Path, found: Measured) -> None:
    """Run a program to its end, in a session of its own: what stops us stops it in order, once."""
    errors = output.with_name(f"{output.stem}.err")
    with output.open("wb") as out, errors.open("wb") as err:
        process = await asyncio.create_subprocess_exec(
            *argv, cwd=ROOT, stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
        )
        shares: list[float] = []
        watching = asyncio.ensure_future(_watch(process.pid, shares))
        try:
            async with asyncio.timeout(limit_s):
                found.exit_code = await process.wait()
        except TimeoutError:
            found.problem = f"no result within {limit_s:g} s"
        finally:
            watching.cancel()
            if process.returncode is None:
                await asyncio.shield(_ended(process))
    if shares:
        found.others = max(found.others or 0.0, round(sum(shares) / len(shares), 3))
    if not found.problem and not output.stat().st_size:
        lines = errors.read_text(errors="replace").strip().splitlines()
        found.problem = f"ended with {found.exit_code} and no result: {' '.join(lines[-1:])}".rstrip(": ")
    if found.exit_code == ExitCode.RESIDUE:
        found.problem = "a fault could not be undone"


async def _watch(pid: int, shares: list[float]) -> None:
    """Each second, the share of the processors that neither we nor the program took."""
    machine = Machine(lambda: [os.getpid(), pid])
    while True:
        await asyncio.sleep(1)
        use = machine.look()
        shares.append(use.outside + use.steal)


async def _ended(process: asyncio.subprocess.Process) -> None:
    """Ask it to end, and wait; what is left then, of it or of what it started in its session, is killed."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGINT)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(ENDING_S):
            await process.wait()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _read_result(source: Source, figures: list[Figure], place: Path, output: Path, found: Measured) -> None:
    try:
        match source:
            case Run():
                _read_run(source, figures, RunDirectory(place), found)
            case Benchmark():
                found.results.append(msgspec.json.decode(output.read_bytes().splitlines()[-1], type=dict[str, Any]))
            case Conformance():
                found.checks = msgspec.json.decode(output.read_bytes(), type=list[Check])
    except (FeedstormError, OSError, msgspec.DecodeError, IndexError) as error:
        found.problem = f"ended with {found.exit_code}, and its result cannot be read: {error}"


def _read_run(source: Run, figures: list[Figure], run: RunDirectory, found: Measured) -> None:
    """Judge it by what the claims ask, and ask its history."""
    asked = list(_values(source, figures))
    expect: dict[str, list[str]] = {}
    for of in asked:
        if isinstance(of, ThresholdOf):
            expect.setdefault(of.selector, []).append(of.expression)
    expect["invariants"] = [of.name for of in asked if isinstance(of, Invariant)]
    verdict = judge(run, expect)
    found.checks = verdict.checks
    unproven = [c for c in verdict.checks if c.kind in PROVES_NOTHING and c.verdict is not Outcome.PASS]
    found.doubt = "; ".join(f"{c.name}: {c.reason or c.verdict}" for c in unproven if not c.skipped)
    with open_history(run) as history:
        for of in asked:
            if isinstance(of, Asked):
                found.answers[of.sql] = _number(history, of.sql)


def _values(source: Run, figures: Iterable[Figure]) -> Iterable[Any]:
    """All that is to be read off this run, each once."""
    parts = [p for f in figures for p in ((f.of.over, f.of.under) if isinstance(f.of, Quotient) else (f.of,))]
    return dict.fromkeys(part for part in parts if part.source == source)


def _number(history: duckdb.DuckDBPyConnection, sql: str) -> float | None:
    row = history.execute(sql).fetchone()
    return None if row is None or row[0] is None else float(row[0])
