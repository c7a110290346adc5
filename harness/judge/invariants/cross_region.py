"""10. Cross-region staleness: what was acknowledged in one region is soon in the feeds of all others.

Formally: for each post w (ok, not withdrawn) and each undegraded page of a stable follower in another region that
covers w and was asked for after max(ack(w) + C, heal + T): w is on that page. C is the profile's cross-region promise
(for a celebrity's post plus the celebrity promise), T its convergence time.

Scope: reads before the first fault count from ack + C alone; between the first fault and heal + T nothing is judged.
Cost: covered posts once.
Inconclusive: no such page.
"""

from __future__ import annotations

from harness.judge.case import EVIDENCE_LIMIT, FOREVER_NS
from harness.judge.evidence import Moment, story
from harness.judge.noise import unexplained
from harness.judge.trial import Checker, Finding, Trial

_BOUND = "$cross::BIGINT + CASE WHEN c.celebrity THEN $celebrity ELSE 0 END"
_JUDGED = f"c.remote AND c.age_ns >= {_BOUND} AND (c.sent_ns < $struck OR c.sent_ns >= $healed)"


def check(trial: Trial) -> Finding:
    """Look for posts of other regions that a page should show by now."""
    case = trial.case
    windows = case.fault_windows
    values = {
        "cross": case.cross_region_ns,
        "celebrity": case.celebrity_ns,
        "struck": windows[0].start_ns if windows else FOREVER_NS,
        "healed": case.healed_ns,
    }
    judged = f"{_JUDGED} AND {unexplained(trial.doubtful, 'c.ack_ns', 'c.sent_ns', _BOUND)}"
    [(seen, missing)] = trial.rows(
        f"SELECT count(*), count(*) FILTER (NOT present) FROM covered c WHERE {judged}", **values
    )
    rows = trial.rows(
        f"""SELECT k.id, p.region, c.ack_ns, c."user", c.region, c.sent_ns, c.age_ns / 1e9
            FROM covered c JOIN post_id k ON k.pid = c.pid JOIN post p ON p.pid = c.pid
            WHERE NOT c.present AND {judged} ORDER BY c.sent_ns LIMIT {EVIDENCE_LIMIT}""",
        **values,
    )
    return Finding(
        observations=seen,
        violations=missing,
        evidence=[
            story(
                case,
                Moment(ack, f"post {post} acknowledged in {home}"),
                Moment(sent, f"{age:.3f} s old, absent from the read of follower {user} in {region}"),
            )
            for post, home, ack, user, region, sent, age in rows
        ],
        note=f"bound {case.profile.slo.cross_region_s:g} s after the acknowledgement",
    )


CHECKER = Checker(check, needs=("regions",))
