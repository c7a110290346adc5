"""Runs faults at their due times: inject -> witness -> hold -> undo, each recorded with its actual times.

Each fault lives in a thread of its own, so a slow undo of one delays no other, and so that `undo_all` works from
anywhere: asyncio code, a signal handler, atexit. Whatever happens in the run, what was injected is undone before `run`
returns or raises; if this process is killed outright, or hangs beyond a fault's lease, the reaper undoes in its place.
A thrown switch, or an undo by somebody else, ends holds within WATCH_EVERY_S.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from chaos.faults import KINDS
from chaos.handles import Handle, parse_handle
from chaos.kind import FaultError, FaultKind, Witness, parse_parameters
from chaos.ledger import Ledger, open_faults, persistently
from chaos.marks import marks_in
from chaos.processes import own_identity
from chaos.reaper import Reaper
from chaos.residue import LINK_BACKENDS, Observation, observe, residue
from chaos.timeline import DueFault
from harness.core.clock import NS_PER_S, now_ns
from harness.core.errors import ResidueError, UnavailableError, UsageError

_log = logging.getLogger(__name__)
SHORTEST_WITNESS_S = 0.5
UNDO_ALL_TIMEOUT_S = 30.0
"""how long `undo_all` waits for a fault's own thread before it undoes in its place"""
LEASE_MARGIN_S = 30.0
"""from the end of a hold until others may undo: as long as an undo may take"""
WATCH_EVERY_S, LOOK_S = 0.2, 0.02
STOPPED = "the run was stopped first"


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


def read_rows(path: Path) -> list[FaultRow]:
    """The faults of faults.jsonl as they stood last, in the order in which they began; [] when there is no file."""
    rows: dict[str, FaultRow] = {}
    for line in path.read_bytes().splitlines() if path.exists() else []:
        try:
            row = msgspec.json.decode(line, type=FaultRow)
        except msgspec.DecodeError:
            continue  # being written
        rows[row.id] = row
    return list(rows.values())


class Forbids(Protocol):
    """Something like `chaos.switch.Switch`."""

    @property
    def reason(self) -> str:
        """Why no fault may be active now; "": one may."""
        ...


class FaultRunner:
    """The faults of one run."""

    def __init__(
        self,
        handles: Mapping[str, Mapping[str, Any]],
        ledger_path: Path,
        faults_path: Path,
        switch: Forbids | None = None,
        *,
        is_shared: bool = False,
    ) -> None:
        """`switch`: thrown, it stops this runner. `is_shared`: others write to `faults_path` too (see read_rows)."""
        self._handles = handles
        self._ledger = Ledger(ledger_path)
        self._faults_path = faults_path
        self._switch = switch
        self._is_shared = is_shared
        self._reaper: Reaper | None = None
        self._starting = threading.Lock()
        self._before: Observation | None = None
        self._lives: list[_Life] = []
        self._stop_reason = ""
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
        UnavailableError when the reaper does not start, ResidueError at the end when a fault could not be undone.
        """
        planned = [(fault, *self._resolve(fault)) for fault in faults]
        try:
            await asyncio.to_thread(self.prepare)
        except (FaultError, OSError) as error:
            raise UnavailableError(f"no fault can begin: {error}") from error
        watching = asyncio.create_task(self._watch())
        try:
            async with asyncio.TaskGroup() as group:
                for fault, kind, handle, params in planned:
                    group.create_task(self._at_due_time(fault, kind, handle, params))
        finally:
            watching.cancel()
            await asyncio.to_thread(self._undo_left)
            self._end_reaper()
            self.raise_residue()

    def prepare(self) -> None:
        """Have the reaper watch, and note how the handles are. Idempotent. Raises FaultError: no fault may begin."""
        with self._starting:
            if self._before is None:
                self._before = observe(*self._calm())
            if self._reaper is None or not self._reaper.is_alive:
                self._reaper = Reaper(self._ledger.path)

    def stop(self, reason: str) -> None:
        """Inject nothing more, and end all holds now; each fault's own thread undoes it."""
        self._stop_reason = self._stop_reason or reason
        self._stop.set()
        for life in self._lives:
            life.released.set()

    async def _watch(self) -> None:
        """Stop when the switch is thrown; release what was undone from elsewhere."""
        while True:
            try:
                self._look_around()
            except OSError as error:
                _log.warning("switch and ledger cannot be read: %s", error)
            await asyncio.sleep(WATCH_EVERY_S)

    def _look_around(self) -> None:
        if self._switch is not None and (reason := self._switch.reason):
            self.stop(f"faults are forbidden: {reason}")
        held = [life for life in self._lives if life.is_held and not life.released.is_set()]
        if held:
            still_open = {row.id for row in open_faults(self._ledger.path)}
            for life in held:
                if life.is_held and life.row.id not in still_open:
                    life.released.set()

    def undo_all(self) -> None:
        """Start no more faults, undo the active ones, newest first. Idempotent; never raises for an undo that fails."""
        self.stop(STOPPED)
        deadline = time.monotonic() + UNDO_ALL_TIMEOUT_S
        for life in reversed(self._lives):
            life.ended.wait(max(0.0, deadline - time.monotonic()))
            life.undo()
        self._end_reaper()

    def _undo_left(self) -> None:
        """Once more: what an undo waited for may be there now, and the reaper may have undone it."""
        for life in reversed(self._lives):
            if life.ended.is_set():
                life.undo()

    def _end_reaper(self) -> None:
        with self._starting:
            if self._reaper is not None:
                self._reaper.end()

    def audit(self) -> None:
        """Compare the handles with how they were before the first fault. Raises ResidueError with what differs."""
        if self._before is not None and (left := residue(self._before, *self._calm())):
            raise ResidueError("left behind by faults:\n" + "\n".join(left))

    def _calm(self) -> tuple[dict[str, Mapping[str, Any]], set[str]]:
        """The handles that no fault of somebody else is active on, and marks of the faults of this runner."""
        others = [row for row in open_faults(self._ledger.path) if row.writer != own_identity()]
        struck = {self._handles[row.handle].get("backend") for row in others if row.handle in self._handles}
        busy = {row.handle for row in others}
        if struck & LINK_BACKENDS:
            busy |= {name for name, table in self._handles.items() if table.get("backend") in LINK_BACKENDS}
        marks = {mark for life in self._lives if life.plan is not None for mark in marks_in(life.plan)}
        return {name: table for name, table in self._handles.items() if name not in busy}, marks

    def raise_residue(self) -> None:
        """Raises ResidueError when an undo failed."""
        if self.residue:
            raise ResidueError("faults that could not be undone:\n" + "\n".join(self.residue))

    def _resolve(self, fault: DueFault) -> tuple[FaultKind[Any], Handle, dict[str, Any]]:
        if fault.kind not in KINDS or fault.handle not in self._handles:
            raise UsageError(f"fault {fault.id}: unknown kind or handle: {fault.kind} on {fault.handle}")
        params, problems = parse_parameters(KINDS[fault.kind], fault.params)
        if "lease" in params and "lease" not in fault.params:
            params["lease"] = max(params["lease"], fault.hold_s + LEASE_MARGIN_S)
        try:
            handle = parse_handle(fault.handle, self._handles[fault.handle])
        except ValueError as error:
            problems.append(str(error))
        if problems:
            raise UsageError([f"fault {fault.id}: {problem}" for problem in problems])
        return KINDS[fault.kind], handle, params

    async def _at_due_time(self, fault: DueFault, kind: FaultKind[Any], handle: Handle, params: dict[str, Any]) -> None:
        while (left_s := (fault.due_ns - now_ns()) / NS_PER_S) > 0 and not self._stop.is_set():  # noqa: ASYNC110 - threads stop
            await asyncio.sleep(min(left_s, WATCH_EVERY_S))
        if self._stop_reason == STOPPED:
            return
        life = _Life(fault, kind, handle, params, self)
        self._lives.append(life)
        ended = asyncio.ensure_future(_wait_for_thread(life))
        try:
            await asyncio.shield(ended)
        except asyncio.CancelledError:
            self.stop(STOPPED)
            while not ended.done():
                try:
                    await asyncio.shield(ended)
                except asyncio.CancelledError:
                    continue
            raise

    def write_rows(self) -> None:
        """Write faults.jsonl as things stand."""
        data = b"".join(msgspec.json.encode(row) + b"\n" for row in self.rows)
        with self._writing:
            if self._is_shared:
                with self._faults_path.open("ab") as file:
                    file.write(data)
                return
            draft = self._faults_path.with_suffix(".draft")
            draft.write_bytes(data)
            draft.replace(self._faults_path)

    @property
    def ledger(self) -> Ledger:
        """Where undos are promised."""
        return self._ledger

    @property
    def why_not(self) -> str:
        """Why nothing may be injected now; "": it may."""
        if self._stop.is_set():
            return self._stop_reason
        reason = self._switch.reason if self._switch is not None else ""
        return f"faults are forbidden: {reason}" if reason else ""


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
        """promised in the ledger, and not undone"""
        self.is_held = False
        """injected"""
        self.released = threading.Event()
        """the hold is over"""
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
                self.released.wait(max(0.0, (hold_until_ns - now_ns()) / NS_PER_S))
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
            try:
                self._raise_if_forbidden()
                self.runner.prepare()
                with self.runner.ledger.claim(row.handle, row.kind):
                    self.plan = self.kind.plan(self.handle, self.params)
                    self._raise_if_forbidden()
                    self._promise()
                self.open = True
                self.kind.inject(self.plan)
                self._promise_again()
            except (FaultError, OSError) as error:
                row.inject_error = str(error)
                row.witness = Witness(False, f"could not be injected: {error}")
                row.undo = Undone(ok=not self.open, detail="" if self.open else "nothing was touched")
                return False
            finally:
                self.runner.write_rows()
        self.is_held = True
        return True

    def _raise_if_forbidden(self) -> None:
        if reason := self.runner.why_not:
            raise FaultError(reason)

    def _promise(self) -> None:
        row = self.row
        self.runner.ledger.open(row.id, row.kind, row.handle, self.plan, row.hold_s + LEASE_MARGIN_S)

    def _promise_again(self) -> None:
        """Who undid the fault while it was being injected closed it in the ledger; it is over, but must be undone."""
        if self.row.id not in {row.id for row in open_faults(self.runner.ledger.path)}:
            self._promise()
            self.released.set()

    def _witness(self) -> None:
        """Look for proof until there is some or the hold is over; one that is cut short is not waited for."""
        within_s = max(self.row.hold_s, SHORTEST_WITNESS_S)
        found: list[Witness] = []

        def look() -> None:
            try:
                found.append(self.kind.witness(self.plan, within_s))
            except BaseException as error:  # a bug in a kind: raised by the task that waits for this life
                self.bug = error

        looking = threading.Thread(target=look, name=f"witness-{self.row.id}", daemon=True)
        looking.start()
        while looking.is_alive() and not self.released.is_set():
            looking.join(LOOK_S)
        if self.bug is not None:
            raise self.bug
        self.row.witness = found[0] if found else Witness(False, "the hold was ended before there was proof")
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
                row.undo = Undone(ok=True, detail=persistently(lambda: self.kind.undo(self.plan)))
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
