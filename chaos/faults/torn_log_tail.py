"""torn-log-tail: the target is killed as `kill` does it, and the newest RocksDB log of each database loses its tail.

As after a crash of the host: the last record is cut in the middle, or is followed by bytes that are no record. A
database that another process has open is left alone. What is lost stays lost; undone is the kill.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from chaos.faults.kill import Kill, KillPlan
from chaos.handles import Handle
from chaos.kind import FaultError, Parameter, Witness
from chaos.rocksdb_log import databases, newest_log, record_ends, torn_bytes
from chaos.target_files import Folder, find_folder
from harness.core.values import one_of

GARBAGE = b"\xff" * 64
"""the header of a fragment that is of no type, and longer than its block"""
HOW = ("cut", "garbage")
_KILL = Kill()


class TornPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The process to kill, and the directory of its logs."""

    kill: KillPlan
    folder: Folder
    how: str


class TornLogTail:
    """See the module."""

    name = "torn-log-tail"
    about = "SIGKILL to the handle's process group, and the tails of its RocksDB logs are torn before it comes back."
    backends: tuple[str, ...] = ("process",)
    needs: tuple[str, ...] = ("pid_file", "hold_file", "ready", "log")
    colour = "#8f2d56"
    parameters: Mapping[str, Parameter] = {
        "how": Parameter(one_of(*HOW), '"cut" in the middle of the last record, or "garbage" behind it', default="cut"),
    }
    plan_type = TornPlan

    def plan(self, handle: Handle, params: Mapping[str, Any]) -> TornPlan:
        """Who dies, and where its logs are."""
        kill = _KILL.plan(handle, {})
        plan = TornPlan(kill=kill, folder=find_folder(kill.process, handle.log), how=params["how"])
        if not any(newest_log(database) for database in databases(plan.folder.there())):
            raise FaultError(f"{handle.name}: no RocksDB log with anything in it at {handle.log}")
        return plan

    def inject(self, plan: TornPlan) -> None:
        """Kill, then tear each log that nobody has open."""
        _KILL.inject(plan.kill)
        torn = 0
        for database in databases(plan.folder.there()):
            with _alone(database) as is_ours:
                log = newest_log(database) if is_ours else None
                if log is not None:
                    _tear(log, plan.how)
                    torn += 1
        if not torn:
            raise FaultError(f"{plan.folder.path}: no log could be torn: other processes have all of them open")

    def witness(self, plan: TornPlan, within_s: float) -> Witness:
        """The process is gone, and logs end in no whole record."""
        down = _KILL.witness(plan.kill, within_s)
        try:
            torn = list(_torn(plan.folder.there()))
        except (FaultError, OSError) as error:
            return Witness(False, f"{down.evidence}; {error}")
        return Witness(down.ok and bool(torn), f"{down.evidence}; torn: {', '.join(torn) or 'no log'}")

    def undo(self, plan: TornPlan) -> str:
        """Have the process come back."""
        return f"{_KILL.undo(plan.kill)}; what was torn stays so"


def _tear(log: Path, how: str) -> None:
    if how == "garbage":
        with log.open("ab") as file:
            file.write(GARBAGE)
        return
    data = log.read_bytes()
    ends = record_ends(data)
    if len(ends) > 1:
        os.truncate(log, (ends[-2] + ends[-1]) // 2)


def _torn(folder: Path) -> Iterator[str]:
    for database in databases(folder):
        log = newest_log(database)
        if log is not None and (count := torn_bytes(log.read_bytes())):
            yield f"{database.name}/{log.name} ends with {count} bytes of no whole record"


@contextmanager
def _alone(database: Path) -> Iterator[bool]:
    """Hold RocksDB's own lock meanwhile; False: somebody has the database open."""
    with (database / "LOCK").open("ab") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
