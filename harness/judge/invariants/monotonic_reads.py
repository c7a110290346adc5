"""7. Monotonic reads: what a session saw stays.

Formally: for each item of a read r1 of session s (a feed page or feed/new) and each undegraded feed page r2 of s in the
same region, asked for after r1 was answered, whose key range covers the item: it is on r2.

Scope: one session in one region; deleted posts, authors whose edge to the reader changed during the run, and posts
beyond the newest 800 arrivals are left out. Faults do not excuse a loss, only a page marked degraded does.
Inconclusive: no session read the same stretch twice.
"""

from __future__ import annotations

from itertools import groupby

from harness.judge.evidence import vanished_sentences
from harness.judge.sweep import Reading, Sweep, Vanished
from harness.judge.trial import Checker, Finding, Trial

# Pages of sessions with more than one read; feed/new has an empty range: it teaches, and is not judged.
_READS = """
SELECT session, region, "user", op, sent_ns, done_ns, lo, hi, judged FROM (
  SELECT session, region, "user", op, sent_ns, done_ns, lo, hi, true AS judged FROM page WHERE NOT degraded
  UNION ALL
  SELECT session, region, "user", id, sent_ns, done_ns, 0, 0, false FROM op
  WHERE kind = 'feed_new' AND outcome = 'ok' AND degraded = ''
) QUALIFY count(*) OVER (PARTITION BY session, region) > 1
ORDER BY session, region, sent_ns
"""


def check(trial: Trial) -> Finding:
    """Sweep each session's reads for items that vanished."""
    observations, sessions = 0, 0
    vanished: list[Vanished] = []
    for (_, _, user), rows in groupby(trial.rows(_READS), key=lambda row: row[:3]):
        sweep = Sweep(ignored=trial.ignored(user))
        readings = [
            Reading(op, sent, done, lo, hi, trial.shown.of(op), judged)
            for _, _, _, op, sent, done, lo, hi, judged in rows
        ]
        vanished += sweep.run(readings)
        observations += sweep.observations
        sessions += 1
    return Finding(
        observations=observations,
        violations=len(vanished),
        evidence=vanished_sentences(trial, vanished, "read"),
        note=f"{sessions:,} sessions that read again",
    )


CHECKER = Checker(check)
