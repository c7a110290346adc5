"""13. Cursor integrity: a cursor serves its owner, unchanged and in time, on every node; anything else is refused.

Formally:
 (a) a feed page asked for with a tampered, foreign or expired cursor is answered 4xx, and shows no item;
 (b) a cursor that a region gave, sent to another region by its owner, is answered with the items that its own region
     shows behind it: down to the higher of the two ends, the two pages show the same posts, and none above the cursor.

Scope: (a) answers that say something about the cursor: not 401, 408 and 429, not 5xx, no time-outs. (b) undegraded
pairs outside fault windows (a refusal counts at any time); pages within the upper half of the depth; posts that may
still have been on their way when either was asked for, withdrawn posts, changed edges and posts beyond the newest 800
arrivals are left out.
Cost: one comparison of two pages a probe.
Inconclusive: no forged cursor was answered, or none was tried in another region (with several regions). Skipped: the
load has no probes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from harness.judge.case import EVIDENCE_LIMIT, FEED_DEPTH, Case
from harness.judge.evidence import Moment, story
from harness.judge.trial import Checker, Finding, Trial

# A probe with the page of the walk that its cursor leads to.
_PROBES = """
SELECT h.id, h.variant, h."user", h.session, h.region, h.sent_ns, h.outcome = 'ok' AS served, h.status,
       len(h.items) AS n, g.region AS own_region, coalesce(g.op, 0) AS own_op, coalesce(g.sent_ns, 0) AS own_sent_ns,
       coalesce(g.lo, 0) AS lo, coalesce(g.hi, 0) AS hi, coalesce(k.pid, 0) AS last, h.next_cursor = '' AS complete,
       coalesce(h.degraded = '' AND NOT g.degraded AND (h.page + 1) * g."limit" <= $deepest
         AND deadline(least(h.sent_ns, g.sent_ns), 0) = least(h.sent_ns, g.sent_ns)
         AND deadline(greatest(h.sent_ns, g.sent_ns), 0) = greatest(h.sent_ns, g.sent_ns), false) AS comparable
FROM history h
LEFT JOIN (SELECT p.*, o.walk AS turn, o."limit" FROM page p JOIN op o ON o.id = p.op) g
  ON h.variant = 'other_node' AND g.session = h.session AND g.turn = h.walk AND g.page = h.page AND g.region <> h.region
LEFT JOIN said k ON k.number = h.items[-1]
WHERE h.kind = 'probe' ORDER BY h.sent_ns, h.id
"""
_UNSETTLED = """
SELECT k.pid FROM post_id k LEFT JOIN post p ON p.pid = k.pid
WHERE k.pid IN (SELECT unnest($pids::BIGINT[])) AND CASE
  WHEN p.pid IS NOT NULL
  THEN deadline(p.ack_ns, $cross::BIGINT + CASE WHEN p.celebrity THEN $celebrity ELSE 0 END) > $sent
  ELSE coalesce(k.ts_us >= (SELECT min(ts_us) FROM post WHERE ts_us > 0), true) OR EXISTS (
    SELECT 1 FROM said s JOIN op o ON o.kind = 'post' AND o.outcome = 'info' AND o."user" = s.author
      AND o.text_hash = s.hash WHERE s.pid = k.pid) END
"""
_SAYS_NOTHING = (401, 408, 429)


@dataclass(frozen=True)
class Probe:
    """A feed page asked for with a cursor that is not simply the next one of its walk."""

    id: int
    variant: str
    user: int
    session: str
    region: str
    sent_ns: int
    served: bool
    status: int
    n: int
    own_region: str | None
    """where its session asked for the same page; None: nowhere else"""
    own_op: int
    own_sent_ns: int
    lo: int
    hi: int
    last: int
    """the item that ends its answer; 0: it has none"""
    complete: bool
    comparable: bool

    @property
    def is_answered(self) -> bool:
        """Whether the answer says something about the cursor."""
        return self.served or (400 <= self.status < 500 and self.status not in _SAYS_NOTHING)


def differences(own: Sequence[int], other: Sequence[int], lo: int, hi: int) -> tuple[set[int], set[int], set[int]]:
    """(missing, extra, above): keys of `own` that `other` lacks, of `other` that `own` lacks, of `other` from hi on.

    Only keys from lo on are compared.
    """
    mine = {key for key in own if lo <= key < hi}
    theirs = {key for key in other if lo <= key}
    above = {key for key in theirs if key >= hi}
    return mine - theirs, theirs - mine - above, above


def check(trial: Trial) -> Finding:
    """Look at what forged cursors were answered with, and compare pages of two regions behind the same cursor."""
    probes = [Probe(*row) for row in trial.rows(_PROBES, deepest=FEED_DEPTH // 2)]
    judged: Counter[str] = Counter()
    problems: list[str] = []
    for probe in probes:
        if not probe.is_answered:
            continue
        if probe.variant != "other_node":
            judged[probe.variant] += 1
            problems += [_told(trial.case, probe, what) for what in _not_refused(probe)]
        elif not probe.served:
            judged[probe.variant] += 1
            problems.append(_told(trial.case, probe, f"answered {probe.status}"))
        elif probe.comparable:
            judged[probe.variant] += 1
            problems += [_told(trial.case, probe, what) for what in _unequal(trial, probe)]
    return Finding(
        observations=judged.total(),
        violations=len(problems),
        evidence=problems[:EVIDENCE_LIMIT],
        note=", ".join(f"{count:,} {variant}" for variant, count in sorted(judged.items()))
        + f"; {len(probes) - judged.total():,} probes say nothing",
        unproven="; ".join(_gaps(trial.case, judged)) if judged else "",
    )


def _gaps(case: Case, judged: Counter[str]) -> Iterator[str]:
    if judged.total() == judged["other_node"]:
        yield "no answer to a forged cursor was seen"
    if not judged["other_node"] and len(case.profile.regions) > 1 and case.profile.capabilities.regions:
        yield "no cursor was tried in another region"


def _not_refused(probe: Probe) -> Iterator[str]:
    if probe.served or probe.n:
        yield f"answered {probe.status or 'ok'} with {probe.n} items"


def _unequal(trial: Trial, probe: Probe) -> Iterator[str]:
    """What two pages behind the same cursor disagree about, in words."""
    floor = probe.lo if probe.complete else max(probe.lo, probe.last)
    missing, extra, above = differences(trial.shown.of(probe.own_op), trial.shown.of(probe.id), floor, probe.hi)
    differing = missing | extra
    if not differing and not above:
        return
    differing -= trial.ignored(probe.user)
    differing -= _unsettled(trial, differing, min(probe.own_sent_ns, probe.sent_ns))
    names = trial.post_names(differing | above)
    for key in sorted(differing | above, reverse=True):
        if key in above:
            yield f"shows post {names[key]}, which stands above the cursor"
        elif key in missing:
            yield f"lacks post {names[key]}, which the page of {probe.own_region} shows"
        else:
            yield f"shows post {names[key]}, which the page of {probe.own_region} lacks"


def _unsettled(trial: Trial, pids: set[int], sent_ns: int) -> set[int]:
    """Those that need not have been in all regions when the earlier of two pages was asked for."""
    case = trial.case
    values: dict[str, Any] = {"cross": case.cross_region_ns + case.clock_error_ns, "celebrity": case.celebrity_ns}
    return {pid for (pid,) in trial.rows(_UNSETTLED, pids=list(pids), sent=sent_ns, **values)} if pids else set()


def _told(case: Case, probe: Probe, what: str) -> str:
    name = "a cursor of another region" if probe.variant == "other_node" else f"a {probe.variant} cursor"
    moments = [Moment(probe.sent_ns, f"user {probe.user} sends {name} to {probe.region}: {what}")]
    if probe.own_region is not None:
        moments.append(Moment(probe.own_sent_ns, f"{probe.own_region} asked for its own page behind the cursor"))
    return story(case, *moments)


CHECKER = Checker(check, needs=("paging",), loads=("probes",))
