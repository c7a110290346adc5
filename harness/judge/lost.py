"""What is not proven any more when a load process was lost: it took the rows of what it did last with it.

Then a post that nobody seems to have written may be one of its own, a post that is missing one that it deleted, and an
event that never came may have come to it. A check that failed is inconclusive, unless what it saw is wrong whatever
else was done: order and duplicates on a page, a fault without proof, times and failures of ops whose rows are there.
"""

from __future__ import annotations

from collections.abc import Iterable

from harness.core.op import OP_METRICS
from harness.core.verdict import Check, CheckKind
from harness.judge.case import Case
from harness.judge.expressions import Slo
from harness.judge.noise import excused

_SURE_KINDS = (CheckKind.STOP, CheckKind.WITNESS)
_SURE = {"order", "no_duplicates"}
_OF_ALL = ("count", "rate")
"""aggregations that the ops of a lost process are missing in"""


def lost_processes(case: Case) -> list[str]:
    """Load processes that were lost: the run had to report for them."""
    return [report.process for report in case.load if not report.kind]


def as_far_as_known(case: Case, checks: Iterable[Check], slos: Iterable[Slo]) -> list[Check]:
    """The checks of a run, without failures that the loss of a process may be behind."""
    lost = lost_processes(case)
    if not lost:
        return list(checks)
    sure = _SURE | {
        f"{slo.selector} {threshold.text}"
        for slo in slos
        if slo.metric in OP_METRICS.values()
        for threshold in slo.thresholds
        if threshold.aggregation not in _OF_ALL
    }
    why = f"not proven: {', '.join(lost)} was lost, and the rows of what it did last"
    return [check if check.kind in _SURE_KINDS or check.name in sure else excused(check, why) for check in checks]
