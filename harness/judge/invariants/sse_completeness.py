"""15. SSE completeness: a listener gets one event, or an explicit resync, for every post of those he follows.

Formally: a chain is a line of connections of one session, each resuming the one before with Last-Event-ID. A post w is
due on a chain when its author is followed over an edge unchanged since 5 s before ack(w), and the first connection was
open before w was first sent. Deadline: the earliest d = max(ack(w), opening of a connection) + D at which that
connection is still open; in a fault window (injection to undo + T) not before the window ends. By d the session has an
event for w, or a resync after w was sent. No session gets a second event for a post without a resync in between.

D = the visibility promise (celebrity: the celebrity promise; posts of other regions: plus the cross-region promise)
+ 3 s: late is judged by post_to_event, this checker looks for lost.
Scope: listeners connected and following; own posts, withdrawn posts, and chains that ended before the deadline are
left out. Listeners that read late, as the scenario wants it, are judged for what they lost: their promises run from
when they read like all others again.
Cost: connections x posts due to their listeners, events grouped by session and post.
Inconclusive: nothing was due.
"""

from __future__ import annotations

from harness.core.clock import NS_PER_S
from harness.judge.case import EVIDENCE_LIMIT, Case
from harness.judge.evidence import Moment, story
from harness.judge.trial import Checker, Finding, Trial

GRACE_NS = 3 * NS_PER_S

# `ready`: when the promise starts to run on this connection.
_DUE = """
CREATE OR REPLACE TEMP TABLE due AS
WITH pair AS (
  SELECT s.session, s."user", s.region, s.chain, s.open_ns, s.end_ns, d.pid, d.sent_ns, d.ack_ns, d.region AS home,
         greatest(s.open_ns, d.ack_ns, CASE WHEN l.session IS NULL THEN 0 ELSE $awake END) AS ready,
         $grace::BIGINT + CASE WHEN d.celebrity THEN $celebrity ELSE $local END
           + CASE WHEN d.region <> s.region THEN $remote ELSE 0 END AS allowed
  FROM stream s JOIN due_item d ON d."user" = s."user" AND d.sent_ns >= s.chain_ns
  LEFT JOIN late_reader l ON l.session = s.session
  WHERE NOT d.own AND d.ack_ns < s.end_ns
), timed AS (SELECT *, deadline(ready, allowed) AS deadline_ns FROM pair)
SELECT session, any_value("user") AS "user", any_value(region) AS region, chain, pid, any_value(sent_ns) AS sent_ns,
       any_value(ack_ns) AS ack_ns, any_value(home) AS home, NOT bool_or(open_ns <= ack_ns) AS in_gap,
       min(deadline_ns) FILTER (deadline_ns <= end_ns) AS deadline_ns
FROM timed GROUP BY session, chain, pid HAVING bool_or(deadline_ns <= end_ns)
"""
_MISSED = """
CREATE OR REPLACE TEMP TABLE missed AS
WITH first AS (SELECT session, pid, min(event_ns) AS event_ns FROM event GROUP BY session, pid),
late AS (
  SELECT d.*, f.event_ns FROM due d LEFT JOIN first f ON f.session = d.session AND f.pid = d.pid
  WHERE f.event_ns IS NULL OR f.event_ns > d.deadline_ns
)
SELECT l.* FROM late l WHERE NOT EXISTS (
  SELECT 1 FROM op r WHERE r.kind = 'resync' AND r.session = l.session
    AND r.done_ns >= l.sent_ns AND r.done_ns <= l.deadline_ns)
"""
_TWICE = """
WITH again AS (
  SELECT e.*, lag(e.event_ns) OVER (PARTITION BY e.session, e.pid ORDER BY e.event_ns, e.op) AS before_ns FROM event e
  SEMI JOIN (SELECT session, pid FROM event GROUP BY ALL HAVING count(*) > 1) t
    ON t.session = e.session AND t.pid = e.pid
)
SELECT k.id, a."user", a.region, a.before_ns, a.event_ns FROM again a JOIN post_id k ON k.pid = a.pid
WHERE a.before_ns IS NOT NULL AND NOT EXISTS (
  SELECT 1 FROM op r WHERE r.kind = 'resync' AND r.session = a.session
    AND r.done_ns >= a.before_ns AND r.done_ns <= a.event_ns)
ORDER BY a.event_ns
"""


def check(trial: Trial) -> Finding:
    """Look for posts that were due on a stream and did not come, and for events that came twice."""
    case = trial.case
    trial.con.execute(_DUE, _allowances(case))
    trial.con.execute(_MISSED)
    [(due, gaps)] = trial.rows("SELECT count(*), count(*) FILTER (in_gap) FROM due")
    missed = trial.number("SELECT count(*) FROM missed")
    twice = trial.rows(_TWICE)
    resyncs = trial.number("SELECT count(*) FROM op WHERE kind = 'resync'")
    return Finding(
        observations=due,
        violations=missed + len(twice),
        evidence=_sentences(trial, twice),
        note=f"{gaps:,} of them acknowledged between two connections; {resyncs:,} resyncs{_late_readers(trial)}",
    )


def _late_readers(trial: Trial) -> str:
    late = trial.number("SELECT count(*) FROM late_reader")
    return f"; {late:,} listeners read late on purpose: judged for losses, not for times" if late else ""


def _allowances(case: Case) -> dict[str, int]:
    return {
        "grace": GRACE_NS + case.clock_error_ns,
        "local": case.visibility_ns,
        "celebrity": case.celebrity_ns,
        "remote": case.cross_region_ns,
        "awake": case.late_readers_until_ns,
    }


def _sentences(trial: Trial, twice: list[tuple[str, int, str, int, int]]) -> list[str]:
    rows = trial.rows(
        f"""SELECT k.id, m.ack_ns, m.home, m."user", m.region, m.deadline_ns, m.event_ns FROM missed m
            JOIN post_id k ON k.pid = m.pid ORDER BY m.ack_ns LIMIT {EVIDENCE_LIMIT}"""
    )
    sentences = [
        story(
            trial.case,
            Moment(ack, f"post {post} acknowledged in {home}"),
            Moment(deadline, f"listener {user} in {region} still without an event or resync"),
            *([Moment(event, "the event came")] if event else []),
        )
        for post, ack, home, user, region, deadline, event in rows
    ]
    return sentences + [
        story(
            trial.case,
            Moment(first, f"listener {user} in {region} got an event for post {post}"),
            Moment(second, "and again, with no resync in between,"),
        )
        for post, user, region, first, second in twice[:EVIDENCE_LIMIT]
    ]


CHECKER = Checker(check, needs=("stream",))
