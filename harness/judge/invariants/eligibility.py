"""16. Eligibility: what was deleted, hidden, moderated, unfollowed or blocked is gone, and does not come back.

Formally: let c be a delete, hide or moderation of post w, or a cut of reader u from author a (he unfollowed a, or one
of the two blocked the other), with outcome ok. No read shows w (to anybody), or a post of a (to u), that was asked
for after c had settled and answered before anything that may undo c (show, lift, follow, unblock) was sent. c has
settled: in its region at its (undegraded) answer for the one who asked for it, the visibility promise later for all
others; in the other regions the cross-region promise later; a bound that runs into a fault window (injection to undo
+ T) ends with the window. What had settled stays so: no fault excuses what a refilled cache, a replayed log or a
healed region brings back. And no noisy machine excuses what is shown to the very one who took it away, or what a final
read shows T after c, when nothing is on its way any more.

Scope: pages, feed/new, and look-ups by id (those for posts, not for cuts). A read marked degraded is judged only T
after c had settled. Ops without an answer settle nothing; their effect may come at any time.
Cost: items x changed posts and authors (hashed), pages x posts that were taken away from their readers.
Inconclusive: no read covers the place of anything that was taken away. Skipped: the load changes no edge and no post.
"""

from __future__ import annotations

from typing import Any

from harness.judge.case import EVIDENCE_LIMIT, Case
from harness.judge.evidence import Moment, story
from harness.judge.noise import unexplained
from harness.judge.trial import Checker, Finding, Trial

_AT_ONCE = """
(r.region = b.region AND r."user" = b."user" AND b.kind <> 'moderate' AND NOT b.degraded AND NOT r.degraded)
"""
_CERTAIN = f"({_AT_ONCE} OR r.final AND r.sent_ns >= b.since_ns + $patience)"
_SETTLED = f"""
r.sent_ns >= CASE WHEN r.degraded THEN $patience ELSE 0 END + CASE
  WHEN r.region <> b.region THEN deadline(b.since_ns, $cross)
  WHEN {_AT_ONCE} THEN b.since_ns
  ELSE deadline(b.since_ns, $visibility) END
AND r.done_ns <= b.until_ns
"""
_READ = """
SELECT id, "user", region, sent_ns, done_ns, kind, final, degraded <> '' AS degraded FROM op
WHERE outcome = 'ok' AND (kind IN ('feed', 'feed_new') OR (kind = 'fetch' AND $looks_up))
"""
_SHOWN = f"""
CREATE OR REPLACE TEMP TABLE shown_again AS
WITH suspect AS (
  SELECT i.op, i.pid FROM item i SEMI JOIN gone g ON g.pid = i.pid
), foreign_item AS (
  SELECT i.op, i.pid, s.author FROM item i JOIN said s ON s.number = i.number SEMI JOIN cut c ON c.author = s.author
), found AS (
  SELECT r.id AS op, s.pid, b.kind, b."user" AS actor, b.region AS home, b.since_ns, {_CERTAIN} AS certain
  FROM suspect s JOIN gone b ON b.pid = s.pid JOIN ({_READ.replace("$looks_up", "true")}) r ON r.id = s.op
  WHERE {_SETTLED}
  UNION ALL
  SELECT r.id, s.pid, b.kind, b."user", b.region, b.since_ns, {_CERTAIN}
  FROM foreign_item s JOIN ({_READ.replace("$looks_up", "false")}) r ON r.id = s.op
  JOIN cut b ON b.reader = r."user" AND b.author = s.author
  WHERE {_SETTLED}
)
SELECT op, pid, arg_min(kind, since_ns) AS kind, arg_min(actor, since_ns) AS actor, arg_min(home, since_ns) AS home,
       min(since_ns) AS since_ns, bool_or(certain) AS certain
FROM found GROUP BY op, pid
"""
# Pages on which something would stand, had it not been taken away.
_OBSERVED = f"""
WITH taken AS (
  SELECT e.follower AS reader, g.pid, g.kind, g."user", g.region, g.degraded, g.since_ns, g.until_ns
  FROM gone g JOIN edge e ON e.author = g.author
  UNION ALL
  SELECT c.reader, p.pid, c.kind, c."user", c.region, c.degraded, c.since_ns, c.until_ns
  FROM cut c JOIN post p ON p.author = c.author
)
SELECT b.kind, count(*) FROM page r JOIN taken b ON b.reader = r."user" AND b.pid >= r.lo AND b.pid < r.hi
WHERE {_SETTLED} GROUP BY b.kind ORDER BY b.kind
"""
_BOUND = "CASE WHEN o.region <> s.home THEN {cross} ELSE {visibility} END"
_COUNT = "SELECT count(*) FROM shown_again s JOIN op o ON o.id = s.op WHERE"
_EVIDENCE = f"""
SELECT k.id, o."user", o.region, o.kind, o.sent_ns, s.kind, s.actor, s.home, s.since_ns, p.ack_ns, p.author, t.author
FROM shown_again s JOIN op o ON o.id = s.op JOIN post_id k ON k.pid = s.pid
JOIN item i ON i.op = s.op AND i.pid = s.pid JOIN said t ON t.number = i.number LEFT JOIN post p ON p.pid = s.pid
WHERE {{counts}} ORDER BY o.sent_ns, s.pid LIMIT {EVIDENCE_LIMIT}
"""
_DONE = {
    "delete": "deleted by its author",
    "hide": "hidden by its author",
    "moderate": "moderated",
    "unfollow": "user {reader} unfollowed user {author}",
    "block": "user {actor} blocked user {other}",
}


def check(trial: Trial) -> Finding:
    """Look for posts that a read shows although they, or their authors, were taken away from the reader."""
    case = trial.case
    values = {"visibility": case.visibility_ns, "cross": case.cross_region_ns, "patience": case.convergence_ns}
    trial.con.execute(_SHOWN, values)
    observed = trial.rows(_OBSERVED, **values)
    bound = _BOUND.format(**values)
    counts = f"(s.certain OR {unexplained(trial.doubtful, 's.since_ns', 'o.sent_ns', bound)})"
    shown = trial.number(f"{_COUNT} {counts}")
    return Finding(
        observations=max(sum(count for _, count in observed), shown),
        violations=shown,
        evidence=[_sentence(case, *row) for row in (trial.rows(_EVIDENCE.format(counts=counts)) if shown else [])],
        note=", ".join(f"{count:,} times after {kind}" for kind, count in observed),
    )


def _sentence(case: Case, *row: Any) -> str:
    post, reader, region, read, sent, kind, actor, home, since, ack, writer, author = row
    author = author if writer is None else writer
    done = _DONE[kind].format(reader=reader, author=author, actor=actor, other=author if actor == reader else reader)
    moments = [
        Moment(since, f"{done} in {home}"),
        Moment(sent, f"shown to user {reader} in {region} ({read})"),
        Moment(-1 if ack is None else ack, f"post {post} of user {author} acknowledged"),
    ]
    return story(case, *moments)


CHECKER = Checker(check, loads=("edges", "deletes", "hides", "moderations"))
