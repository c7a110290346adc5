"""How evidence reads: what was done and seen, each with its time, in time order, and the faults it overlaps.

    post p1 acknowledged to user 17 in us-east at 12.031 s; user 93 follows user 17 since 2.100 s; absent from the final
    read of user 93 in us-east at 71.200 s; kill of us-east.memcached 30.0-33.0 s [baseline .. after]

Times count from the end of the warm-up. Pure.
"""

from __future__ import annotations

from typing import NamedTuple

from harness.core.clock import NS_PER_S
from harness.judge.case import FOREVER_NS, Case, Fault


class Moment(NamedTuple):
    """Something that happened at a time, or (`since`) held from then on; a time below 0: before the run."""

    at_ns: int
    what: str
    since: bool = False


def follows(user: int, author: int, since_ns: int) -> Moment:
    """Since when the edge counts."""
    return Moment(since_ns, f"user {user} follows user {author}", since=True)


def story(case: Case, *moments: Moment) -> str:
    """The moments in time order, in a line; then the faults active between the first and the last, and the phases."""
    told = sorted(moments, key=lambda moment: moment.at_ns)
    dated = [moment.at_ns for moment in told if moment.at_ns >= 0]
    first, last = (dated[0], dated[-1]) if dated else (FOREVER_NS, 0)
    parts = [_sentence(case, moment) for moment in told]
    parts += [_active(case, fault) for fault in case.faults if _overlaps(fault, first, last)]
    return "; ".join(parts) + _phases(case, first, last)


def _sentence(case: Case, moment: Moment) -> str:
    if moment.at_ns < 0:
        return f"{moment.what}{' since' if moment.since else ''} before the run"
    return f"{moment.what} {'since' if moment.since else 'at'} {case.at(moment.at_ns)}"


def _overlaps(fault: Fault, first_ns: int, last_ns: int) -> bool:
    if fault.injected_ns is None:
        return False
    return fault.injected_ns <= last_ns and (fault.undone_ns or FOREVER_NS) >= first_ns


def _active(case: Case, fault: Fault) -> str:
    start = ((fault.injected_ns or 0) - case.t0_ns) / NS_PER_S
    end = "the end" if fault.undone_ns is None else f"{(fault.undone_ns - case.t0_ns) / NS_PER_S:.1f} s"
    return f"{fault.kind} of {fault.handle} {start:.1f}-{end}"


def _phases(case: Case, first_ns: int, last_ns: int) -> str:
    """The phase, or the first and the last of the phases, in brackets; empty: outside all."""
    names = [phase.name for phase in case.phases if phase.start_ns <= last_ns and phase.end_ns > first_ns]
    if not names:
        return ""
    return f" [{names[0]}]" if len(names) == 1 else f" [{names[0]} .. {names[-1]}]"
