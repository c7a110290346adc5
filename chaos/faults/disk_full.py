"""disk-full: the file system that holds the target's log has no space left. Undo: the space is given back.

A child holds all of it in a file without a name, so the space comes back with the child's end, however that comes, and
nothing has to be deleted. Only for a small file system of the target's own; never the machine's root.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from chaos.addresses import wait_until
from chaos.children import starting
from chaos.handles import Handle
from chaos.kind import FaultError, Parameter, Witness
from chaos.marks import end_marked, marked, new_mark
from chaos.supervised import find_supervised
from chaos.target_files import Folder, find_folder
from harness.core.units import format_size, parse_size_bytes

MOST_BYTES = 1 << 30
READ_BACK_S = 5.0
PROBE_BYTES = 8192


class FullPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The directory, and the mark of the process that will fill its file system."""

    folder: Folder
    most_bytes: int
    mark: str
    lease_s: float


class DiskFull:
    """See the module."""

    name = "disk-full"
    about = "The file system of the target's log is filled to the last block."
    backends: tuple[str, ...] = ("process",)
    needs: tuple[str, ...] = ("pid_file", "log")
    colour = "#6b6b23"
    parameters: Mapping[str, Parameter] = {
        "most": Parameter(parse_size_bytes, "a file system with more than this free is not filled", default=MOST_BYTES),
        "lease": starting.LEASE,
    }
    plan_type = FullPlan

    def plan(self, handle: Handle, params: Mapping[str, Any]) -> FullPlan:
        """Which file system it is, and whether it may be filled."""
        process = find_supervised(handle, "fill")
        plan = FullPlan(
            folder=find_folder(process, handle.log),
            most_bytes=params["most"],
            mark=new_mark(),
            lease_s=params["lease"],
        )
        _check(plan)
        return plan

    def inject(self, plan: FullPlan) -> None:
        """A child takes what there is, and what becomes free."""
        view = plan.folder.there()
        job = {"directory": str(view), "most_bytes": plan.most_bytes}
        starting.start("disk_filler", plan.mark, plan.lease_s, job)

    def witness(self, plan: FullPlan, within_s: float) -> Witness:
        """A file of two blocks cannot be written there."""
        try:
            full = wait_until(lambda: _is_full(plan.folder.there()), within_s)
        except (FaultError, OSError) as error:
            return Witness(False, str(error))
        said = "No space left on device" if full else "written"
        return Witness(full and bool(marked(plan.mark)), f"{PROBE_BYTES} bytes to {plan.folder.path}: {said}")

    def undo(self, plan: FullPlan) -> str:
        """End the child, and see that a file can be written again; a file system that is gone needs nothing."""
        end_marked(plan.mark)
        if plan.folder.find() is None:
            return f"the file system of {plan.folder.path} is gone: nothing to give back"

        def has_space() -> bool:
            view = plan.folder.find()
            return view is None or not _is_full(view)

        if not wait_until(has_space, READ_BACK_S):
            raise FaultError(f"{plan.folder.path} is still full {READ_BACK_S:g} s after the filler ended")
        return f"{plan.folder.path} takes {PROBE_BYTES} bytes again"


def _check(plan: FullPlan) -> None:
    view = plan.folder.there()
    processes = (plan.folder.process.target, plan.folder.process.supervisor)
    roots = [Path("/"), *(Path(f"/proc/{process.pid}/root/") for process in processes if process)]
    if any(root.stat().st_dev == plan.folder.device for root in roots):
        raise FaultError(f"{plan.folder.path} is on the root file system: give the log a small one of its own")
    state = os.statvfs(view)
    free_bytes = state.f_bavail * state.f_frsize
    if free_bytes > plan.most_bytes:
        free, most = format_size(free_bytes), format_size(plan.most_bytes)
        raise FaultError(f"{plan.folder.path} has {free} free, more than may be filled (most = {most})")
    if _is_full(view):
        raise FaultError(f"{plan.folder.path} is full already")


def _is_full(directory: Path) -> bool:
    """Whether a file of some blocks cannot be written. Raises OSError for another reason."""
    descriptor = os.open(directory, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, PROBE_BYTES)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return True
    finally:
        os.close(descriptor)
    return False
