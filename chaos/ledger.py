"""The undo ledger: what must be undone, on disk before the fault begins.

JSON lines, each fsynced. `open` rows hold a fault's plan: with it alone another process can undo the fault. A `done`
row closes it. `heal` undoes what nobody else will: faults of processes that died, and faults whose lease has ended.
Faults on one handle are undone one after the other, the newest first; those on others at the same time.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from chaos.faults import KINDS, exclude_each_other
from chaos.kind import FaultError
from chaos.processes import Identity, living, own_identity
from harness.core.clock import NS_PER_S, now_ns
from harness.core.errors import ResidueError

_log = logging.getLogger(__name__)
RETRY_FOR_S, RETRY_PAUSE_S = 2.0, 0.2
"""of one undo that fails"""
MOST_AT_ONCE = 16
"""undos"""
LOCK_LIMIT_S, LOCK_PAUSE_S = 60.0, 0.02


class LedgerRow(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One line. `row` is "open", "done" or "failed" (an undo was tried in vain; the fault stays open)."""

    row: str
    id: str
    kind: str = ""
    handle: str = ""
    plan: dict[str, Any] = {}
    writer: Identity | None = None
    """process that ran the fault"""
    opened_ns: int = 0
    lease_end_ns: int = 0
    """monotonic; from then on anybody may undo it, whether or not the writer lives; 0: as long as the writer lives"""
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.id} ({self.kind} on {self.handle})"

    @property
    def is_held(self) -> bool:
        """Whether another process that lives has it in hand."""
        if self.writer is None or self.writer == own_identity() or living(self.writer) is None:
            return False
        return not 0 < self.lease_end_ns <= now_ns()


class Ledger:
    """Appends rows. Safe to call from several threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._writer = own_identity()

    def open(self, fault_id: str, kind: str, handle: str, plan: msgspec.Struct, lease_s: float = 0.0) -> None:
        """Promise an undo, after the lease at the latest (0: when this process ends).

        Returns once it is on disk. Raises OSError: then the fault must not start.
        """
        opened_ns = now_ns()
        self._append(
            LedgerRow(
                row="open",
                id=fault_id,
                kind=kind,
                handle=handle,
                plan=msgspec.to_builtins(plan),
                writer=self._writer,
                opened_ns=opened_ns,
                lease_end_ns=opened_ns + round(lease_s * NS_PER_S) if lease_s else 0,
            )
        )

    @contextmanager
    def claim(self, handle: str, kind: str) -> Iterator[None]:
        """Hold all other claims off, while a fault is planned and opened.

        Raises FaultError when one that it cannot be beside is active on the handle, by whomever.
        """
        with _locked(self.path.with_suffix(".claims")):
            for row in open_faults(self.path):
                if row.handle == handle and exclude_each_other(row.kind, kind):
                    raise FaultError(f"{row.id} ({row.kind}) is still active on {row.handle}")
            yield

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
    lines = path.read_bytes().splitlines() if path.is_file() else []
    for line in lines:
        try:
            row = msgspec.json.decode(line, type=LedgerRow)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        if row.row == "open":
            left[row.id] = row
        elif row.row == "done":
            left.pop(row.id, None)
    return list(left.values())


def heal(path: Path) -> list[str]:
    """Undo what the ledger has open and nobody has in hand, going on past failures.

    Returns one sentence a fault, the newest first. Idempotent; two healers at once take turns. Raises ResidueError, at
    the end, listing what could not be undone; FaultError when another healer does not come to an end.
    """
    if not open_faults(path):
        return []
    with _locked(path.with_suffix(".lock")):
        faults = open_faults(path)[::-1]
        told = {
            row.id: f"{row}: left to process {row.writer.pid}, which runs it"
            for row in faults
            if row.is_held and row.writer
        }
        left = undo_faults(Ledger(path), [row for row in faults if row.id not in told], told)
    if left:
        raise ResidueError("faults that could not be undone:\n" + "\n".join(left))
    return [told[row.id] for row in faults]


def undo_faults(ledger: Ledger, newest_first: Sequence[LedgerRow], told: dict[str, str]) -> list[str]:
    """Undo these faults and close them; what was done goes to `told`. Returns a sentence for each that failed."""
    by_handle: dict[str, list[LedgerRow]] = {}
    for row in newest_first:
        by_handle.setdefault(row.handle, []).append(row)
    left: list[str] = []

    def undo_each(rows: list[LedgerRow]) -> None:
        for row in rows:
            try:
                detail = undo_row(row)
            except Exception as error:  # also a bug in one kind must not keep the others from being undone
                left.append(f"{row}: {error or type(error).__name__}")
                _note(ledger.failed, row.id, str(error))
            else:
                told[row.id] = f"{row}: {detail}"
                _note(ledger.done, row.id, detail)

    with ThreadPoolExecutor(MOST_AT_ONCE, thread_name_prefix="undo") as pool:
        for task in [pool.submit(undo_each, rows) for rows in by_handle.values()]:
            task.result()
    return left


def _note(write: Callable[[str, str], None], fault_id: str, detail: str) -> None:
    """The undo counts, not the note: on a full disk the fault stays open, and is undone once more, harmlessly."""
    try:
        write(fault_id, detail)
    except OSError as error:
        _log.error("%s: the ledger cannot be written: %s", fault_id, error)


def undo_row(row: LedgerRow) -> str:
    """Undo one open row, again for a while if that fails. Raises FaultError, OSError."""
    kind = KINDS.get(row.kind)
    if kind is None:
        raise FaultError(f"this version knows no fault kind {row.kind!r}")
    try:
        plan = msgspec.convert(row.plan, kind.plan_type)
    except msgspec.ValidationError as error:
        raise FaultError(f"the plan in the ledger is not one of {row.kind}: {error}") from error
    return persistently(lambda: kind.undo(plan))


def persistently(undo: Callable[[], str]) -> str:
    """Run an undo, again while it fails, for RETRY_FOR_S. Raises what the last attempt raises."""
    deadline = time.monotonic() + RETRY_FOR_S
    while True:
        try:
            return undo()
        except (FaultError, OSError):
            if time.monotonic() >= deadline:
                raise
            time.sleep(RETRY_PAUSE_S)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock file, released by the kernel should this process die. Raises FaultError after LOCK_LIMIT_S."""
    deadline = time.monotonic() + LOCK_LIMIT_S
    with path.open("w", encoding="ascii") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise FaultError(f"{path} is held by another process for {LOCK_LIMIT_S:g} s") from None
                time.sleep(LOCK_PAUSE_S)
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
