"""6. Read your writes: a user's own acknowledged post is in each later read of his that covers it.

Formally: for each post w (ok, not withdrawn) of user u and each undegraded page of u in the same region, asked for at
or after ack(w), whose key range covers w: w is on that page.

Scope: one region; the newest 800 arrivals; faults do not excuse it, only a page marked degraded does.
Cost: covered posts once.
Inconclusive: nobody read a page that covers a post of his own.
"""

from __future__ import annotations

from harness.judge.case import EVIDENCE_LIMIT
from harness.judge.evidence import Moment, story
from harness.judge.trial import Checker, Finding, Trial

_EVIDENCE = f"""
SELECT k.id, c."user", c.region, min(c.ack_ns), min(c.sent_ns), count(*)
FROM covered c JOIN post_id k ON k.pid = c.pid
WHERE c.own AND NOT c.remote AND NOT c.present GROUP BY ALL ORDER BY min(c.sent_ns) LIMIT {EVIDENCE_LIMIT}
"""


def check(trial: Trial) -> Finding:
    """Look for own posts that a later page covers but does not show."""
    [(seen, missing)] = trial.rows(
        "SELECT count(*), count(*) FILTER (NOT present) FROM covered WHERE own AND NOT remote"
    )
    return Finding(
        observations=seen,
        violations=missing,
        evidence=[
            story(
                trial.case,
                Moment(ack, f"post {post} acknowledged to user {user} in {region}"),
                Moment(sent, "absent from his own read" + (f" (and {times - 1} later ones)" if times > 1 else "")),
            )
            for post, user, region, ack, sent, times in (trial.rows(_EVIDENCE) if missing else [])
        ],
    )


CHECKER = Checker(check)
