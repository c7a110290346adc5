"""Faults that others inject into a run under way, by `feedstorm faults inject` from a second terminal.

Each is run by the process that injects it, which writes its rows into the run's directory. Here they are followed, for
the view and the judge, and undone at the end of the phases, whoever runs them.
"""

from __future__ import annotations

import asyncio
import time

import msgspec

from chaos.ledger import Ledger, open_faults, undo_faults
from chaos.processes import own_identity
from chaos.schedule import FaultRow, Undone, read_rows
from harness.core.clock import now_ns
from harness.core.errors import ResidueError
from harness.record.run_directory import RunDirectory

POLL_S = 0.25
TOLD_WITHIN_S = 5.0
"""after an undo from here, the process that injected the fault writes its row anew"""


class ByHand:
    """The faults by hand of one run."""

    def __init__(self, run: RunDirectory) -> None:
        self.rows: list[FaultRow] = []
        """as they stood at the last look"""
        self._run = run
        self._closed_ns: dict[str, int] = {}

    @property
    def active(self) -> list[FaultRow]:
        """Faults that are injected and not undone."""
        return [row for row in self.injected if row.undone_ns is None]

    @property
    def injected(self) -> list[FaultRow]:
        """Faults that did begin."""
        return [row for row in self.rows if not row.inject_error]

    async def follow(self) -> None:
        """Look for ever."""
        while True:
            self.look()
            await asyncio.sleep(POLL_S)

    def look(self) -> None:
        """Read the rows. One whose writer was killed stays open in its file: then the ledger tells."""
        still_open = {row.id for row in open_faults(self._run.ledger)}
        rows = read_rows(self._run.faults_by_hand)
        self.rows = [row if row.undone_ns is not None or row.id in still_open else self._closed(row) for row in rows]

    def _closed(self, row: FaultRow) -> FaultRow:
        if row.inject_error:
            return row
        at_ns = self._closed_ns.setdefault(row.id, now_ns())
        undo = Undone(ok=True, detail="undone by another process than the one that injected it")
        return msgspec.structs.replace(row, undone_ns=at_ns, undo_started_ns=row.undo_started_ns or at_ns, undo=undo)

    def undo_all(self) -> None:
        """Undo what the run's ledger has open of others, now. Blocks. Raises ResidueError, listing what is left."""
        still_open = [row for row in open_faults(self._run.ledger) if row.writer != own_identity()]
        left = undo_faults(Ledger(self._run.ledger), still_open[::-1], {})
        self._await_rows({row.id for row in still_open})
        self.look()
        if left:
            raise ResidueError("faults that could not be undone:\n" + "\n".join(left))

    def _await_rows(self, undone: set[str]) -> None:
        deadline = time.monotonic() + TOLD_WITHIN_S
        while time.monotonic() < deadline:
            rows = read_rows(self._run.faults_by_hand)
            if all(row.undone_ns is not None or row.inject_error for row in rows if row.id in undone):
                return
            time.sleep(POLL_S / 5)
