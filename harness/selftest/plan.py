"""Which runs a selftest makes: one without a defect for each trouble, then the defects, alone or in groups. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from harness.core.errors import UsageError, nearest
from harness.selftest.catalogue import PLANTED, QUICK, Planted, Trouble, planted


class Planned(msgspec.Struct, frozen=True):
    """One run."""

    trouble: Trouble
    planted: tuple[Planted, ...] = ()
    """none: a clean run, in which no check may fail"""

    @property
    def name(self) -> str:
        """Names its directory."""
        return "+".join(entry.defect for entry in self.planted) or f"clean-{self.trouble}"

    @property
    def defects(self) -> tuple[str, ...]:
        """What is planted in it."""
        return tuple(entry.defect for entry in self.planted)


def plan_runs(only: Sequence[str] = (), *, quick: bool = False) -> list[Planned]:
    """The runs in their order. `only`: these defects, each alone; `quick`: the sample.

    Raises UsageError naming every unknown defect.
    """
    known = [entry.defect for entry in PLANTED]
    unknown = [f"--only: unknown defect {name!r}{nearest(name, known)}" for name in only if name not in known]
    if unknown:
        raise UsageError(unknown)
    groups = [(name,) for name in dict.fromkeys(only)] or (QUICK if quick else [(name,) for name in known])
    runs = [_together(group) for group in groups]
    troubles = dict.fromkeys(run.trouble for run in runs)
    if quick:  # what is clean under the other troubles, the whole matrix shows
        troubles = dict.fromkeys([Trouble.CACHE])
    return [*(Planned(trouble) for trouble in troubles), *runs]


def _together(group: Sequence[str]) -> Planned:
    entries = tuple(planted(name) for name in group)
    return Planned(entries[0].trouble, entries)
