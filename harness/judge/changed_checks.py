"""Checks whose verdict is another one in other runs: what passed and fails now is a regression."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from harness.core.json_file import read_json
from harness.core.verdict import Check, CheckKind, Outcome, Verdict, worst
from harness.record.run_directory import RunDirectory

Key = tuple[str, str, str]


class ChangedCheck(msgspec.Struct, kw_only=True):
    """A check and its verdicts: the worst of all runs of each side."""

    name: str
    kind: CheckKind
    phase: str
    before: Outcome
    after: Outcome
    passed: tuple[str, str]
    """in how many runs it passed: ("5 of 5", "3 of 5")"""
    verdict: Outcome
    reason: str = ""
    """of a run in which it is at its worst, after"""


def verdict_of(run: RunDirectory) -> Verdict:
    """The verdict that a run has. Raises UsageError when it is missing or damaged, OSError."""
    return read_json(run.verdict, Verdict)


def changed_checks(before: Sequence[Verdict], after: Sequence[Verdict]) -> tuple[int, list[ChangedCheck]]:
    """How many checks both sides have, and those whose worst verdict differs, gravest first.

    What only one side has, or skipped, is no change.
    """
    old, new = _by_key(before), _by_key(after)
    both = [_change(key, old[key], new[key]) for key in old if key in new]
    rank = {Outcome.FAIL: 0, Outcome.INCONCLUSIVE: 1, Outcome.PASS: 2}
    changed = [change for change in both if change.before is not change.after]
    return len(both), sorted(changed, key=lambda change: rank[change.verdict])


def only_in_one(before: Sequence[Verdict], after: Sequence[Verdict]) -> list[str]:
    """In sentences: checks that no run of the other side has."""
    old, new = ({check.name for verdict in side for check in _own(verdict)} for side in (before, after))
    found = {"before": sorted(old - new), "after": sorted(new - old)}
    return [f"checks that are only there {side}: {', '.join(names)}" for side, names in found.items() if names]


def _own(verdict: Verdict) -> Iterable[Check]:
    """The checks of the run itself, without those of a comparison."""
    return (check for check in verdict.checks if check.kind is not CheckKind.BASELINE)


def _by_key(verdicts: Iterable[Verdict]) -> dict[Key, list[Check]]:
    found: dict[Key, list[Check]] = {}
    for verdict in verdicts:
        for check in _own(verdict):
            if not check.skipped:
                found.setdefault((check.kind, check.name, check.phase), []).append(check)
    return found


def _change(key: Key, old: Sequence[Check], new: Sequence[Check]) -> ChangedCheck:
    before, after = (worst(check.verdict for check in side) for side in (old, new))
    told = next(check.reason or "; ".join(check.evidence[:1]) for check in new if check.verdict is after)
    passed = [f"{sum(check.verdict is Outcome.PASS for check in side)} of {len(side)}" for side in (old, new)]
    return ChangedCheck(
        name=key[1],
        kind=CheckKind(key[0]),
        phase=key[2],
        before=before,
        after=after,
        passed=(passed[0], passed[1]),
        verdict=_verdict(before, after),
        reason=told,
    )


def _verdict(before: Outcome, after: Outcome) -> Outcome:
    """Passed and fails now: a regression. From pass to inconclusive, or to fail from there: nothing is shown."""
    if before is Outcome.PASS and after is Outcome.FAIL:
        return Outcome.FAIL
    return Outcome.PASS if after is Outcome.PASS or before is Outcome.FAIL else Outcome.INCONCLUSIVE
