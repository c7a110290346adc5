"""14. SSE soundness: an event tells of a real post of a followed author, tokens rise, and the post can be read.

Formally, for each new_post event e of listener u:
 (a) its post was acknowledged, or was seen in a read, or u follows somebody with a POST of outcome info; and it was
     sent before e came (by the clocks' error at most after it);
 (b) u is the author, or an edge u -> author was in the population or was made during the run; and no unfollow or block
     between the two had settled when the post was sent and was not undone since;
 (c) within one epoch the last part of the resume token is greater than in all earlier events of the session;
 (d) each undegraded page of u in the same region that covers the post and was asked for at least the visibility promise
     after e shows it;
 (e) so does each undegraded feed/new of the session asked for by then whose `since` is a post with an earlier event
     (a lower token of the same epoch): arrivals are told in the order of their events.

Scope: (b) needs the population's graph and a target started for this run; (c) tokens of the form PREFIX.NUMBER, one
epoch = one PREFIX, opaque tokens are not compared; (d), (e) withdrawn posts and changed edges are left out, in (e)
own posts and answers of 50 items and more as well.
Cost: events and their sessions' reads, joined by session.
Inconclusive: no event, or no listener read after an event.
"""

from __future__ import annotations

from harness.judge import graph
from harness.judge.case import EVIDENCE_LIMIT
from harness.judge.evidence import Moment, story
from harness.judge.trial import Checker, Finding, Trial

FEW_NEW = 50
"""an answer of feed/new with fewer items is surely whole"""

_UNWRITTEN = """
SELECT k.id, e."user", e.region, e.event_ns, 'that nobody wrote' FROM event e JOIN post_id k ON k.pid = e.pid
ANTI JOIN post p ON p.pid = e.pid ANTI JOIN said s ON s.pid = e.pid
WHERE NOT EXISTS (
  SELECT 1 FROM op o WHERE o.kind = 'post' AND o.outcome = 'info' AND (
    o."user" = e."user" OR NOT EXISTS (SELECT 1 FROM base)
    OR (e."user", o."user") IN (SELECT (follower, author) FROM base)
    OR (e."user", o."user") IN (SELECT (follower, author) FROM change)))
ORDER BY e.event_ns
"""
_FORETOLD = """
SELECT k.id, e."user", e.region, e.event_ns, 'that was not written yet' FROM event e JOIN post p ON p.pid = e.pid
JOIN post_id k ON k.pid = e.pid WHERE e.event_ns + $error < p.sent_ns ORDER BY e.event_ns
"""
_NOT_FOLLOWED = """
WITH stranger AS (
  SELECT e."user", p.author, e.pid, e.event_ns, e.region FROM event e JOIN post p ON p.pid = e.pid
  ANTI JOIN base b ON b.follower = e."user" AND b.author = p.author
  ANTI JOIN change c ON c.follower = e."user" AND c.author = p.author AND c.followed
  WHERE p.author <> e."user"
)
SELECT k.id, s."user", any_value(s.region), min(s.event_ns), 'by user ' || s.author || ', whom he never followed'
FROM stranger s JOIN post_id k ON k.pid = s.pid GROUP BY k.id, s."user", s.author ORDER BY min(s.event_ns)
"""
_CUT_OFF = """
SELECT k.id, e."user", e.region, min(e.event_ns), 'by user ' || p.author || ' after a settled ' || min(c.kind)
FROM event e JOIN post p ON p.pid = e.pid JOIN cut c ON c.reader = e."user" AND c.author = p.author
JOIN post_id k ON k.pid = e.pid
WHERE p.sent_ns >= deadline(c.since_ns, CASE WHEN p.region = c.region AND e.region = c.region THEN $visibility
                                             ELSE $cross END) AND e.event_ns <= c.until_ns
GROUP BY k.id, e."user", e.region, p.author
"""
_FALLING = """
WITH told AS (
  SELECT op, number, max(number) OVER (PARTITION BY session, prefix ORDER BY event_ns
                                       RANGE BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
  FROM event WHERE number IS NOT NULL
)
SELECT k.id, e."user", e.region, e.event_ns,
       'with token ' || e.prefix || '.' || f.number || ' after ' || e.prefix || '.' || f.before
FROM (SELECT * FROM told WHERE number <= before) f JOIN event e ON e.op = f.op JOIN post_id k ON k.pid = e.pid
ORDER BY e.event_ns
"""
_READ_BACK = """
CREATE OR REPLACE TEMP TABLE read_back AS
SELECT c.pid, c."user", c.region, e.event_ns, c.sent_ns, c.present
FROM (
  SELECT e.session, e."user", e.region, e.pid, min(e.event_ns) AS event_ns
  FROM event e SEMI JOIN page g ON g."user" = e."user" GROUP BY ALL
) e
JOIN covered c ON c."user" = e."user" AND c.pid = e.pid AND c.region = e.region
WHERE c.sent_ns >= e.event_ns + $bound
"""
_UNREADABLE = """
SELECT k.id, r."user", r.region, min(r.event_ns),
       'that his read ' || round(min(r.sent_ns - r.event_ns) / 1e9, 3) || ' s later lacks'
FROM read_back r JOIN post_id k ON k.pid = r.pid WHERE NOT r.present GROUP BY k.id, r."user", r.region
ORDER BY min(r.event_ns)
"""
# What feed/new had to show: events behind the one of its anchor, that came long enough before it was asked for. These
# are few of all events of a session, so the stretch of them is looked up: in the order of tokens, up to the `top`.
_DUE_NEW = """
CREATE OR REPLACE TEMP TABLE due_new AS
WITH fetched AS (
  SELECT h.id AS op, h.session, h.region, h.sent_ns, k.pid AS anchor FROM history h JOIN post_id k ON k.id = h.since
  WHERE h.kind = 'feed_new' AND h.outcome = 'ok' AND h.degraded = '' AND len(h.items) < $most
), told AS (
  SELECT e.session, e."user", e.pid, e.prefix, min(e.number) AS low, max(e.number) AS high, max(e.event_ns) AS event_ns
  FROM event e SEMI JOIN fetched f ON f.session = e.session JOIN post p ON p.pid = e.pid
  WHERE e.number IS NOT NULL AND p.author <> e."user" GROUP BY e.session, e."user", e.pid, e.prefix
), placed AS (
  SELECT *, row_number() OVER (ORDER BY session, prefix, low) AS place FROM told
), known AS (
  SELECT session, prefix, event_ns, max(place) OVER (PARTITION BY session, prefix ORDER BY event_ns) AS top FROM placed
), stretch AS (
  SELECT f.op, f.region, f.sent_ns, a.high, unnest(range(a.place + 1, k.top + 1)) AS place
  FROM fetched f JOIN placed a ON a.session = f.session AND a.pid = f.anchor
  ASOF JOIN known k ON k.session = a.session AND k.prefix = a.prefix AND f.sent_ns - $bound >= k.event_ns
)
SELECT s.op, s.region, s.sent_ns, e."user", e.pid, e.event_ns FROM stretch s JOIN placed e ON e.place = s.place
SEMI JOIN due_item d ON d."user" = e."user" AND d.pid = e.pid
WHERE e.low > s.high AND e.event_ns + $bound <= s.sent_ns
"""
_NOT_NEW = """
SELECT k.id, d."user", d.region, min(d.event_ns),
       'that his feed/new ' || round(min(d.sent_ns - d.event_ns) / 1e9, 3) || ' s later lacks'
FROM due_new d ANTI JOIN item i ON i.op = d.op AND i.pid = d.pid JOIN post_id k ON k.pid = d.pid
GROUP BY k.id, d."user", d.region
"""


def check(trial: Trial) -> Finding:
    """Look for events without a post, without a follow edge, out of order, or without a readable post."""
    case = trial.case
    bound = case.visibility_ns + case.clock_error_ns
    trial.con.execute(_READ_BACK, {"bound": bound})
    trial.con.execute(_DUE_NEW, {"bound": bound, "most": FEW_NEW})
    found = trial.rows(_UNWRITTEN) + trial.rows(_FALLING) + trial.rows(_UNREADABLE) + trial.rows(_NOT_NEW)
    found += trial.rows(_FORETOLD, error=case.clock_error_ns)
    found += trial.rows(_CUT_OFF, visibility=case.visibility_ns, cross=case.cross_region_ns)
    if graph.knows_all_follows(trial.con, case):
        found += trial.rows(_NOT_FOLLOWED)
    [(events, read, new)] = trial.rows(
        "SELECT (SELECT count(*) FROM event), (SELECT count(*) FROM read_back), (SELECT count(*) FROM due_new)"
    )
    found.sort(key=lambda row: row[3])
    return Finding(
        observations=events,
        violations=len(found),
        evidence=[
            story(case, Moment(when, f"listener {user} in {region} got an event for post {post} {what},"))
            for post, user, region, when, what in found[:EVIDENCE_LIMIT]
        ],
        note=f"{read:,} later reads cover the post of an event, {new:,} of feed/new had to show one",
        unproven="" if read or not events else "no listener read after an event",
    )


CHECKER = Checker(check, needs=("stream",))
