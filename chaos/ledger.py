"""The undo ledger: what must be undone, on disk before the fault begins.

JSON lines, each fsynced. `open` rows hold a fault's plan: with it alone another process can undo the fault. A `done`
row closes it. `heal` undoes what an earlier run that died left open.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from chaos.faults import KINDS
from chaos.kind import FaultError
from chaos.processes import Identity, living, own_identity
from harness.core.errors import ResidueError


class LedgerRow(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One line. `row` is "open", "done" or "failed" (an undo was tried in vain; the fault stays open)."""

    row: str
    id: str
    kind: str = ""
    handle: str = ""
    plan: dict[str, Any] = {}
    writer: Identity | None = None
    """process that ran the fault"""
    detail: str = ""


class Ledger:
    """Appends rows. Safe to call from several threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._writer = own_identity()

    def open(self, fault_id: str, kind: str, handle: str, plan: msgspec.Struct) -> None:
        """Promise an undo. Returns once it is on disk. Raises OSError: then the fault must not start."""
        self._append(
            LedgerRow(
                row="open",
                id=fault_id,
                kind=kind,
                handle=handle,
                plan=msgspec.to_builtins(plan),
                writer=self._writer,
            )
        )

    def done(self, fault_id: str, detail: str) -> None:
        """The fault is undone."""
        self._append(LedgerRow(row="done", id=fault_id, detail=detail))

    def failed(self, fault_id: str, detail: str) -> None:
        """An undo failed."""
        self._append(LedgerRow(row="failed", id=fault_id, detail=detail))

    def _append(self, row: LedgerRow) -> None:
        with self._lock:
            new = not self.path.exists()
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                size = os.fstat(descriptor).st_size
                torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
                _write_whole(descriptor, (b"\n" if torn else b"") + msgspec.json.encode(row) + b"\n")
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if new:
                _fsync_folder(self.path.parent)


def open_faults(path: Path) -> list[LedgerRow]:
    """Faults that were promised an undo and not closed, oldest first. Torn and foreign lines are skipped."""
    left: dict[str, LedgerRow] = {}
    lines = path.read_bytes().splitlines() if path.exists() else []
    for line in lines:
        try:
            row = msgspec.json.decode(line, type=LedgerRow)
        except msgspec.DecodeError:
            continue
        if row.row == "open":
            left[row.id] = row
        elif row.row == "done":
            left.pop(row.id, None)
    return list(left.values())


def heal(path: Path) -> list[str]:
    """Undo what the ledger of a dead run left open, newest first, going on past failures.

    Returns one sentence a fault. Faults of a process that still lives are left to it (unless it is this one).
    Idempotent; two healers at once take turns. Raises ResidueError, at the end, listing what could not be undone.
    """
    if not open_faults(path):
        return []
    with _alone(path):
        ledger = Ledger(path)
        healed: list[str] = []
        left: list[str] = []
        for row in reversed(open_faults(path)):
            if row.writer is not None and row.writer != own_identity() and living(row.writer) is not None:
                healed.append(f"{row.id} ({row.kind} on {row.handle}): left to process {row.writer.pid}, which runs it")
                continue
            try:
                detail = undo_row(row)
            except (FaultError, OSError) as error:
                ledger.failed(row.id, str(error))
                left.append(f"{row.id} ({row.kind} on {row.handle}): {error}")
                continue
            ledger.done(row.id, detail)
            healed.append(f"{row.id} ({row.kind} on {row.handle}): {detail}")
    if left:
        raise ResidueError("faults that could not be undone:\n" + "\n".join(left))
    return healed


def undo_row(row: LedgerRow) -> str:
    """Undo one open row. Raises FaultError, OSError."""
    kind = KINDS.get(row.kind)
    if kind is None:
        raise FaultError(f"this version knows no fault kind {row.kind!r}")
    try:
        plan = msgspec.convert(row.plan, kind.plan_type)
    except msgspec.ValidationError as error:
        raise FaultError(f"the plan in the ledger is not one of {row.kind}: {error}") from error
    return kind.undo(plan)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock beside the ledger, released by the kernel should this process die."""
    with path.with_suffix(".lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write_whole(descriptor: int, data: bytes) -> None:
    if os.write(descriptor, data) != len(data):
        raise OSError("the ledger's disk is full: a row could not be written whole")


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
