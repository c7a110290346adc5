"""8. Causal order: whoever can read a reply can look up the post it answers.

Formally: let r be an acknowledged reply to post p. Each undegraded look-up of p by a session in a region, sent after a
read (a page or feed/new) of the same session in the same region that showed r was answered, finds p.

Scope: look-ups that were answered (with the posts found, or that there is none); posts that somebody withdrew by
then, and authors whose edge to the reader changed in the run (a block may hide them), are left out. Faults do not
excuse it: a region that does not have p yet must not show r.
Cost: items x replies (hashed), look-ups x showings of a reply in one session.
Inconclusive: no session that saw a reply looked its parent up. Skipped: the load has no replies.
"""

from __future__ import annotations

from harness.judge.case import EVIDENCE_LIMIT
from harness.judge.evidence import Moment, story
from harness.judge.tables import WITHDRAWALS
from harness.judge.trial import Checker, Finding, Trial

# Only a POST says what it replies to, and only an acknowledged one has an id.
_ANSWERED = """
CREATE OR REPLACE TEMP TABLE reply AS
SELECT DISTINCT k.pid, p.pid AS parent
FROM history h JOIN post_id k ON k.id = h.post JOIN post_id p ON p.id = h.reply_to
WHERE h.reply_to <> ''
"""
_LOOKED_UP = f"""
CREATE OR REPLACE TEMP TABLE looked_up AS
WITH look AS MATERIALIZED (
  SELECT o.id AS op, k.pid, o.post, o.session, o."user", o.region, o.sent_ns, o.done_ns
  FROM op o JOIN post_id k ON k.id = o.post
  WHERE o.kind = 'fetch' AND (o.outcome = 'ok' OR o.status IN (404, 410)) AND o.degraded = ''
), shown AS MATERIALIZED (
  SELECT r.parent, r.pid AS reply, o.session, o.region, o.done_ns
  FROM item i JOIN reply r ON r.pid = i.pid
  JOIN (SELECT o.* FROM op o SEMI JOIN look l ON l.session = o.session WHERE o.kind IN ('feed', 'feed_new')) o
    ON o.id = i.op
  SEMI JOIN look l ON l.pid = r.parent
), writer AS (
  SELECT pid, any_value(author) AS author FROM (
    SELECT pid, author FROM post UNION ALL
    SELECT s.pid, s.author FROM said s SEMI JOIN look l ON l.pid = s.pid WHERE s.author >= 0) GROUP BY pid
)
SELECT l.op, l.pid, l."user", l.region, l.sent_ns, arg_min(s.reply, s.done_ns) AS reply, min(s.done_ns) AS shown_ns
FROM look l JOIN shown s ON s.parent = l.pid AND s.session = l.session AND s.region = l.region
  AND s.done_ns <= l.sent_ns
LEFT JOIN writer w ON w.pid = l.pid
ANTI JOIN change c ON c.follower = l."user" AND c.author = w.author
WHERE NOT EXISTS (SELECT 1 FROM op d WHERE d.post = l.post AND d.sent_ns < l.done_ns
                  AND d.kind IN {WITHDRAWALS} AND d.outcome <> 'fail')
GROUP BY l.op, l.pid, l."user", l.region, l.sent_ns
"""
_NOT_FOUND = """
CREATE OR REPLACE TEMP TABLE not_found AS
SELECT l.* FROM looked_up l ANTI JOIN item i ON i.op = l.op AND i.pid = l.pid
"""
_EVIDENCE = f"""
SELECT k.id, a.id, n."user", n.region, n.shown_ns, n.sent_ns, p.ack_ns, p.region, r.ack_ns, r.region
FROM not_found n JOIN post_id k ON k.pid = n.pid JOIN post_id a ON a.pid = n.reply
JOIN post r ON r.pid = n.reply LEFT JOIN post p ON p.pid = n.pid ORDER BY n.sent_ns, n.op LIMIT {EVIDENCE_LIMIT}
"""


def check(trial: Trial) -> Finding:
    """Look for readers of a reply who looked its parent up and found nothing."""
    trial.con.execute(_ANSWERED)
    trial.con.execute(_LOOKED_UP)
    trial.con.execute(_NOT_FOUND)
    [(looks, replies)] = trial.rows("SELECT count(*), count(DISTINCT reply) FROM looked_up")
    evidence = []
    for post, reply, user, region, shown, sent, ack, home, answered, away in trial.rows(_EVIDENCE):
        evidence.append(
            story(
                trial.case,
                Moment(-1, f"post {post} written")
                if ack is None
                else Moment(ack, f"post {post} acknowledged in {home}"),
                Moment(answered, f"{reply}, a reply to it, acknowledged in {away}"),
                Moment(shown, f"{reply} shown to user {user} in {region}"),
                Moment(sent, f"{post} not found by user {user} in {region}"),
            )
        )
    return Finding(
        observations=looks,
        violations=trial.number("SELECT count(*) FROM not_found"),
        evidence=evidence,
        note=f"parents of {replies:,} replies were looked up",
    )


CHECKER = Checker(check, needs=("batch",), loads=("replies",))
