"""Which run under way takes faults by hand: it says so in its directory, for as long as its process lives."""

from __future__ import annotations

from pathlib import Path

import msgspec

from chaos.processes import Identity, living, own_identity
from chaos.switch import Switch
from harness.record.run_directory import RunDirectory

BY_HAND = "by-hand"
"""folder, beside the runs, of faults injected into no run at all"""


class Mark(msgspec.Struct, frozen=True):
    """What a run says of itself while it takes faults by hand."""

    leader: Identity
    is_game_day: bool


def announce(run: RunDirectory, *, is_game_day: bool) -> None:
    """Say that this process leads `run`, and that it takes faults by hand from now on."""
    draft = run.live.with_suffix(".draft")
    draft.write_bytes(msgspec.json.encode(Mark(own_identity(), is_game_day)))
    draft.replace(run.live)


def mark_of(run: RunDirectory) -> Mark | None:
    """What a run under way says; None: it takes no faults (any more)."""
    try:
        mark = msgspec.json.decode(run.live.read_bytes(), type=Mark)
    except (OSError, msgspec.MsgspecError):
        return None
    return mark if living(mark.leader) is not None else None


def live_game_day(runs: Path) -> RunDirectory | None:
    """The game day that is under way there; of several the newest."""
    found = [RunDirectory(path) for path in runs.glob("*") if not path.is_symlink()]
    live = [run for run in found if (mark := mark_of(run)) is not None and mark.is_game_day]
    return max(live, key=lambda run: run.path.name, default=None)


class Permission:
    """Whether a run takes a fault by hand now. Stands for its folder's switch where that is looked at."""

    def __init__(self, run: RunDirectory) -> None:
        self._run, self._switch = run, Switch(run.path.parent)

    @property
    def reason(self) -> str:
        """Why not; "": it does."""
        if reason := self._switch.reason:
            return reason
        return "" if mark_of(self._run) is not None else f"run {self._run.path.name} is not under way"
