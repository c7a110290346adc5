"""7. Monotonic reads: what a session saw stays.

Formally: for each item of a read r1 of session s (a feed page or feed/new) and each undegraded feed page r2 of s in the
same region, asked for after r1 was answered, whose key range covers the item: it is on r2.

Scope: one session in one region; withdrawn posts, authors whose edge to the reader changed during the run, and posts
beyond the newest 800 arrivals are left out. Faults do not excuse a loss, only a page marked degraded does.
Cost: items sorted by session and post, some sessions at a time; only where counts differ one by one.
Inconclusive: no session read the same stretch twice.
"""

from __future__ import annotations

import numpy as np

from harness.judge.trial import Checker, Finding, Trial
from harness.judge.vanished import Looks, find_vanished, vanished_sentences

# Pages of sessions with more than one read; feed/new has an empty range: it teaches, and is not judged.
_READS = """
SELECT dense_rank() OVER (ORDER BY session, region) - 1 AS reader, "user", op, sent_ns, done_ns, lo, hi, judged FROM (
  SELECT session, region, "user", op, sent_ns, done_ns, lo, hi, true AS judged FROM page WHERE NOT degraded
  UNION ALL
  SELECT session, region, "user", id, sent_ns, done_ns, 0, 0, false FROM op
  WHERE kind = 'feed_new' AND outcome = 'ok' AND degraded = ''
) QUALIFY count(*) OVER (PARTITION BY session, region) > 1
ORDER BY reader, sent_ns
"""


def check(trial: Trial) -> Finding:
    """Find, in each session's reads, the items that vanished."""
    rows = trial.columns(_READS)
    looks = Looks(
        user=rows["user"],
        reader=rows["reader"],
        op=rows["op"],
        start_ns=rows["sent_ns"],
        done_ns=rows["done_ns"],
        lo=rows["lo"],
        hi=rows["hi"],
        judged=rows["judged"],
        reads=rows["op"],
        ends=np.arange(1, len(rows["op"]) + 1),
    )
    observations, vanished = find_vanished(trial, looks)
    return Finding(
        observations=observations,
        violations=len(vanished),
        evidence=vanished_sentences(trial, vanished, "read"),
        note=f"{len(np.unique(rows['reader'])):,} sessions that read again",
    )


CHECKER = Checker(check)
