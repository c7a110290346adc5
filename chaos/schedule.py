"""Runs faults at their due times: inject -> witness -> hold -> undo, each recorded with its actual times.

Each fault lives in a thread of its own, so a slow undo of one delays no other, and so that `undo_all` works from
anywhere: asyncio code, a signal handler, atexit. Whatever happens in the run, what was injected is undone before `run`
returns or raises; if this process is killed outright, the ledger tells `chaos.ledger.heal` what is left.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from chaos.faults import KINDS
from chaos.handles import Handle, parse_handle
from chaos.kind import FaultError, FaultKind, Witness, parse_parameters
from chaos.ledger import Ledger
from chaos.timeline import DueFault
from harness.core.clock import NS_PER_S, now_ns
from harness.core.errors import ResidueError, UsageError

SHORTEST_WITNESS_S = 0.5
UNDO_ALL_TIMEOUT_S = 30.0
"""how long `undo_all` waits for a fault's own thread before it undoes in its place"""


class Undone(msgspec.Struct, kw_only=True):
    """How the undo went."""

    ok: bool = False
    detail: str = ""


class FaultRow(msgspec.Struct, kw_only=True):
    """One fault as it happened: a line of faults.jsonl. Times are monotonic ns; null: has not happened (yet)."""

    id: str
    kind: str
    handle: str
    region: str | None
    regions: tuple[str, ...]
    params: dict[str, Any]
    phase: str
    hold_s: float
    colour: str
    due_ns: int
    injected_ns: int
    """when the injection began, also when it failed"""
    witnessed_ns: int | None = None
    undo_started_ns: int | None = None
    undone_ns: int | None = None
    inject_error: str = ""
    witness: Witness = Witness(False, "not looked for")
    undo: Undone = msgspec.field(default_factory=Undone)


class FaultRunner:
    """The faults of one run."""

    def __init__(self, handles: Mapping[str, Mapping[str, Any]], ledger_path: Path, faults_path: Path) -> None:
        self._handles = handles
        self._ledger = Ledger(ledger_path)
        self._faults_path = faults_path
        self._lives: list[_Life] = []
        self._stop = threading.Event()
        self._writing = threading.RLock()

    @property
    def rows(self) -> list[FaultRow]:
        """Every fault begun so far."""
        return [life.row for life in self._lives]

    @property
    def active(self) -> list[FaultRow]:
        """Faults that are injected and not undone."""
        return [life.row for life in self._lives if life.open]

    @property
    def residue(self) -> list[str]:
        """One sentence for each fault whose undo failed."""
        return [
            f"{life.row.id} ({life.row.kind} on {life.row.handle}): {life.row.undo.detail or 'still active'}"
            for life in self._lives
            if life.open and life.ended.is_set()
        ]

    async def run(self, faults: Sequence[DueFault]) -> None:
        """Run all faults at their due times. Cancelled: what is active is undone first.

        Raises UsageError for an unknown kind, handle or parameter before anything is touched (`chaos.guard` says more),
        ResidueError at the end when a fault could not be undone.
        """
        planned = [(fault, *self._resolve(fault)) for fault in faults]
        try:
            async with asyncio.TaskGroup() as group:
                for fault, kind, handle, params in planned:
                    group.create_task(self._at_due_time(fault, kind, handle, params))
        finally:
            self.raise_residue()

    def undo_all(self) -> None:
        """Start no more faults, undo the active ones, newest first. Idempotent; never raises for an undo that fails."""
        self._stop.set()
        deadline = time.monotonic() + UNDO_ALL_TIMEOUT_S
        for life in reversed(self._lives):
            life.ended.wait(max(0.0, deadline - time.monotonic()))
            life.undo()

    def raise_residue(self) -> None:
        """Raises ResidueError when an undo failed."""
        if self.residue:
            raise ResidueError("faults that could not be undone:\n" + "\n".join(self.residue))

    def _resolve(self, fault: DueFault) -> tuple[FaultKind[Any], Handle, dict[str, Any]]:
        if fault.kind not in KINDS or fault.handle not in self._handles:
            raise UsageError(f"fault {fault.id}: unknown kind or handle: {fault.kind} on {fault.handle}")
        params, problems = parse_parameters(KINDS[fault.kind], fault.params)
        try:
            handle = parse_handle(fault.handle, self._handles[fault.handle])
        except ValueError as error:
            problems.append(str(error))
        if problems:
            raise UsageError([f"fault {fault.id}: {problem}" for problem in problems])
        return KINDS[fault.kind], handle, params

    async def _at_due_time(self, fault: DueFault, kind: FaultKind[Any], handle: Handle, params: dict[str, Any]) -> None:
        await asyncio.sleep(max(0.0, (fault.due_ns - now_ns()) / NS_PER_S))
        if self._stop.is_set():
            return
        life = _Life(fault, kind, handle, params, self)
        self._lives.append(life)
        ended = asyncio.ensure_future(_wait_for_thread(life))
        try:
            await asyncio.shield(ended)
        except asyncio.CancelledError:
            self._stop.set()
            while not ended.done():
                try:
                    await asyncio.shield(ended)
                except asyncio.CancelledError:
                    continue
            raise

    def twin_of(self, row: FaultRow) -> FaultRow | None:
        """A fault of the same kind on the same handle that began earlier and has not ended."""
        for life in self._lives:
            if life.row is row:
                return None
            if not life.ended.is_set() and (life.row.kind, life.row.handle) == (row.kind, row.handle):
                return life.row
        return None

    def write_rows(self) -> None:
        """Write faults.jsonl as things stand."""
        with self._writing:
            draft = self._faults_path.with_suffix(".draft")
            draft.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in self.rows))
            draft.replace(self._faults_path)

    @property
    def ledger(self) -> Ledger:
        """Where undos are promised."""
        return self._ledger

    @property
    def stop(self) -> threading.Event:
        """Set: holds end now, and nothing more is injected."""
        return self._stop


class _Life:
    """One fault from its due time to its undo, in its own thread."""

    def __init__(
        self, fault: DueFault, kind: FaultKind[Any], handle: Handle, params: dict[str, Any], runner: FaultRunner
    ) -> None:
        self.kind = kind
        self.handle = handle
        self.params = params
        self.runner = runner
        self.plan: Any = None
        self.open = False
        self.ended = threading.Event()
        self.bug: BaseException | None = None
        self._lock = threading.RLock()
        self.row = FaultRow(
            id=fault.id,
            kind=fault.kind,
            handle=fault.handle,
            region=handle.region or None,
            regions=handle.regions,
            params=fault.params,
            phase=fault.phase,
            hold_s=fault.hold_s,
            colour=kind.colour,
            due_ns=fault.due_ns,
            injected_ns=now_ns(),
        )

    def live(self) -> None:
        """The whole life. An error that is no FaultError or OSError is kept in `bug`, after the undo."""
        try:
            if self._inject():
                self._witness()
                hold_until_ns = self.row.injected_ns + round(self.row.hold_s * NS_PER_S)
                self.runner.stop.wait(max(0.0, (hold_until_ns - now_ns()) / NS_PER_S))
        except BaseException as error:  # a bug in a kind: raised by the task that waits for this thread
            self.bug = error
        finally:
            try:
                self.undo()
            except BaseException as error:  # as above
                self.bug = error
            self.ended.set()

    def _inject(self) -> bool:
        row = self.row
        with self._lock:
            if self.runner.stop.is_set():
                row.inject_error = "the run was stopped first"
                return False
            try:
                if (twin := self.runner.twin_of(row)) is not None:
                    raise FaultError(f"{twin.id} ({twin.kind}) is still active on {twin.handle}")
                self.plan = self.kind.plan(self.handle, self.params)
                self.runner.ledger.open(row.id, row.kind, row.handle, self.plan)
                self.open = True
                self.kind.inject(self.plan)
            except (FaultError, OSError) as error:
                row.inject_error = str(error)
                row.witness = Witness(False, f"could not be injected: {error}")
                row.undo = Undone(ok=not self.open, detail="" if self.open else "nothing was touched")
                return False
            finally:
                self.runner.write_rows()
        return True

    def _witness(self) -> None:
        self.row.witness = self.kind.witness(self.plan, max(self.row.hold_s, SHORTEST_WITNESS_S))
        if self.row.witness.ok:
            self.row.witnessed_ns = now_ns()
        self.runner.write_rows()

    def undo(self) -> None:
        """Undo if there is something to undo. A failure is recorded, and the fault stays open."""
        with self._lock:
            if not self.open:
                return
            row = self.row
            row.undo_started_ns = row.undo_started_ns or now_ns()
            try:
                row.undo = Undone(ok=True, detail=self.kind.undo(self.plan))
                row.undone_ns = now_ns()
                self.open = False
                self.runner.ledger.done(row.id, row.undo.detail)
            except (FaultError, OSError) as error:
                self._undo_failed(error)
            finally:
                self.runner.write_rows()

    def _undo_failed(self, error: Exception) -> None:
        if not self.open:
            return  # undone; only the ledger could not be told, and a later heal undoes what is undone, harmlessly
        self.row.undo = Undone(ok=False, detail=str(error))
        try:
            self.runner.ledger.failed(self.row.id, str(error))
        except OSError:
            return


async def _wait_for_thread(life: _Life) -> None:
    """Run the life in a daemon thread; it goes on when the loop ends, and atexit may still undo."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    def body() -> None:
        life.live()
        try:
            loop.call_soon_threadsafe(done.set)
        except RuntimeError:
            return  # the loop is closed: nobody waits any more

    threading.Thread(target=body, name=f"fault-{life.row.id}", daemon=True).start()
    await done.wait()
    if life.bug is not None:
        raise life.bug
