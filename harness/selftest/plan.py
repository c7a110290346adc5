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


_CLEAN = {run.name: run for run in map(Planned, Trouble)}


def plan_runs(only: Sequence[str] = (), *, quick: bool = False) -> list[Planned]:
    """The runs in their order. `only`: these and no others, "a+b" two defects in one run, "clean-edge" a clean run in
    that trouble; `quick`: the sample.

    Raises UsageError naming everything that is wrong with `only`.
    """
    if only:
        groups = [tuple(dict.fromkeys(group.split("+"))) for group in only]
        if problems := [problem for group in groups if not _is_clean(group) for problem in _problems(group)]:
            raise UsageError(problems)
        return [_CLEAN[group[0]] if _is_clean(group) else _together(group) for group in groups]
    if quick:  # what is clean under the other troubles, the whole matrix shows
        return [Planned(Trouble.CACHE), *(_together(group) for group in QUICK)]
    return [*_CLEAN.values(), *(_together([entry.defect]) for entry in PLANTED)]


def _is_clean(group: Sequence[str]) -> bool:
    return len(group) == 1 and group[0] in _CLEAN


def _together(group: Sequence[str]) -> Planned:
    entries = tuple(planted(name) for name in group)
    return Planned(entries[0].trouble, entries)


def _problems(group: Sequence[str]) -> list[str]:
    known = [entry.defect for entry in PLANTED]
    choice = [*known, *_CLEAN] if len(group) == 1 else known
    unknown = [f"--only: unknown defect {name!r}{nearest(name, choice)}" for name in group if name not in known]
    if unknown:
        return unknown
    entries = [planted(name) for name in group]
    problems = []
    if len({entry.trouble for entry in entries}) > 1:
        problems.append(f"--only {'+'.join(group)}: they need different troubles")
    if len({entry.caught_by for entry in entries}) < len(entries):
        problems.append(f"--only {'+'.join(group)}: two of them are for the same checker")
    return problems
