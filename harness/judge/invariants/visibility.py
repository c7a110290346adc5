"""9. Visibility: a follower who reads finds an acknowledged post within the promised time.

Formally: the staleness of (post w, follower f) is the largest age of w at an undegraded page of f, in w's region, that
covers w without showing it; 0 when no page missed it. The p99 of staleness over all pairs with a covering page is
within the visibility promise; for celebrities within the celebrity promise.

Scope: pairs whose whole story, from acknowledgement to the read, lies outside fault windows (injection to undo + T).
Cost: covered posts of ordinary reads, grouped by post and reader.
Inconclusive: no ordinary pair. The staleness curve stands in the note.
"""

from __future__ import annotations

from harness.judge.case import EVIDENCE_LIMIT
from harness.judge.evidence import Moment, story
from harness.judge.noise import explained_ns
from harness.judge.trial import Checker, Finding, Trial

_QUANTILE = 0.99
_PAIRS = """
CREATE OR REPLACE TEMP TABLE staleness AS
SELECT c.pid, c."user", any_value(c.celebrity) AS celebrity, any_value(c.ack_ns) AS ack_ns,
       max(CASE WHEN c.present THEN 0 ELSE greatest(0, c.age_ns - {explained}) END) AS stale_ns,
       max(c.sent_ns) FILTER (NOT c.present) AS sent_ns
FROM covered c
WHERE NOT c.remote AND NOT c.own {undisturbed} GROUP BY c.pid, c."user"
"""
_CURVE = (0.5, 0.9, 0.99, 0.999, 1.0)


def check(trial: Trial) -> Finding:
    """Measure how long posts stayed invisible to followers who looked."""
    case = trial.case
    calm = "".join(f" AND NOT (c.sent_ns >= {w.start_ns} AND c.ack_ns < {w.end_ns})" for w in case.fault_windows)
    explained = explained_ns(trial.doubtful, "c.ack_ns", "c.sent_ns")
    trial.con.execute(_PAIRS.format(undisturbed=calm, explained=explained))
    bounds = {False: case.visibility_ns, True: case.celebrity_ns}
    notes, late, evidence, measured = [], 0, [], None
    seen = 0
    for celebrity, pairs, *curve in trial.rows(_curve_query()):
        bound = bounds[celebrity]
        who = "celebrities" if celebrity else "ordinary authors"
        steps = ", ".join(f"p{100 * q:g} {v / 1e6:.0f} ms" for q, v in zip(_CURVE, curve, strict=True))
        notes.append(f"staleness over {pairs:,} pairs of {who}: {steps} (p99 bound {bound / 1e6:.0f} ms)")
        if not celebrity:
            seen, measured = pairs, curve[_CURVE.index(_QUANTILE)] / 1e6
        if curve[_CURVE.index(_QUANTILE)] > bound:
            late += trial.number(
                "SELECT count(*) FROM staleness WHERE celebrity = $c AND stale_ns > $bound", c=celebrity, bound=bound
            )
            evidence += _sentences(trial, celebrity, bound)
    return Finding(
        observations=seen,
        violations=late,
        evidence=evidence,
        note="; ".join(notes),
        value=measured,
        bound=bounds[False] / 1e6,
        unit="ms",
    )


def _curve_query() -> str:
    steps = ", ".join(f"quantile_disc(stale_ns, {q})" for q in _CURVE)
    return f"SELECT celebrity, count(*), {steps} FROM staleness GROUP BY celebrity ORDER BY celebrity"


def _sentences(trial: Trial, celebrity: bool, bound: int) -> list[str]:
    rows = trial.rows(
        f"""SELECT k.id, s.ack_ns, s."user", s.sent_ns, s.stale_ns / 1e9
            FROM staleness s JOIN post_id k ON k.pid = s.pid
            WHERE s.celebrity = $c AND s.stale_ns > $bound ORDER BY s.ack_ns LIMIT {EVIDENCE_LIMIT}""",
        c=celebrity,
        bound=bound,
    )
    return [
        story(
            trial.case,
            Moment(ack, f"post {post} acknowledged"),
            Moment(sent, f"{stale:.3f} s old, still absent from the read of follower {user}"),
        )
        for post, ack, user, sent, stale in rows
    ]


CHECKER = Checker(check)
