"""5. Author order: an author's posts stand, and become visible, in the order in which they were acknowledged.

Formally, for posts w1, w2 of one author in one region, w1 acknowledged before w2 was first sent:
 (a) the key (timestamp, id) of w2 is greater than that of w1;
 (b) an undegraded page in that region that covers w1 and is owed it, of a walk that showed w2 by then, shows w1.

Scope: (a) all acknowledged posts; (b) readers with a stable edge, posts that nobody withdrew, the newest 800
arrivals. One region: other regions get the posts by `cross_region`. Faults do not excuse it, only a page marked
degraded does.
Cost: posts x log posts; covered posts that a page lacks x the author's later posts in that page's stretch.
Inconclusive: no author wrote twice in one region.
"""

from __future__ import annotations

from harness.judge.case import EVIDENCE_LIMIT
from harness.judge.evidence import Moment, story
from harness.judge.trial import Checker, Finding, Trial

# The greatest key among all of the author's posts that were acknowledged before one was sent.
_PAIRS = """
CREATE OR REPLACE TEMP TABLE in_turn AS
WITH acknowledged AS (
  SELECT author, region, ack_ns + $error AS known_ns,
         max(pid) OVER (PARTITION BY author, region ORDER BY ack_ns RANGE UNBOUNDED PRECEDING) AS top
  FROM post
)
SELECT w.pid, w.author, w.region, w.sent_ns, a.top FROM post w
ASOF JOIN acknowledged a ON a.author = w.author AND a.region = w.region AND w.sent_ns >= a.known_ns
"""
_FALLEN = f"""
SELECT k.id, f.id, t.author, t.region, t.sent_ns, e.ack_ns
FROM in_turn t JOIN post_id k ON k.pid = t.pid JOIN post_id f ON f.pid = t.top JOIN post e ON e.pid = t.top
WHERE t.top > t.pid ORDER BY t.sent_ns LIMIT {EVIDENCE_LIMIT}
"""
_LOST = """
CREATE OR REPLACE TEMP TABLE lost AS
SELECT c.op, c.pid, c."user", c.region, c.sent_ns, c.ack_ns, p.author, g.walk, g.page
FROM covered c JOIN post p ON p.pid = c.pid JOIN page g ON g.op = c.op WHERE NOT c.present AND NOT c.remote
"""
_OVERTAKEN = """
CREATE OR REPLACE TEMP TABLE overtaken AS
WITH later AS (
  SELECT l.*, w.pid AS successor, g.op AS showing FROM lost l
  JOIN page g ON g.walk = l.walk AND g.page <= l.page
  JOIN post w ON w.author = l.author AND w.region = l.region AND w.sent_ns >= l.ack_ns + $error
    AND w.pid BETWEEN g.low AND g.high
)
SELECT l.op, l.pid, l."user", l.region, l.author, l.sent_ns, l.ack_ns, min(l.successor) AS successor
FROM item i JOIN later l ON l.showing = i.op AND l.successor = i.pid GROUP BY ALL
"""
_OVERTAKEN_EVIDENCE = f"""
SELECT k.id, a.id, o."user", o.region, o.author, o.sent_ns, o.ack_ns, w.ack_ns
FROM overtaken o JOIN post_id k ON k.pid = o.pid
JOIN post_id a ON a.pid = o.successor JOIN post w ON w.pid = o.successor
ORDER BY o.sent_ns, o.pid LIMIT {EVIDENCE_LIMIT}
"""
_OBSERVED = """
SELECT count(*) FROM covered c SEMI JOIN (
  SELECT pid FROM post QUALIFY lead(pid) OVER (PARTITION BY author, region ORDER BY ack_ns) IS NOT NULL
) earlier ON earlier.pid = c.pid WHERE NOT c.remote
"""


def check(trial: Trial) -> Finding:
    """Look for posts that stand below an earlier one of their author, and for posts that a later one overtook."""
    error = {"error": trial.case.clock_error_ns}
    trial.con.execute(_PAIRS, error)
    trial.con.execute(_LOST)
    trial.con.execute(_OVERTAKEN, error)
    [(pairs, fallen)] = trial.rows("SELECT count(*), count(*) FILTER (top > pid) FROM in_turn")
    covered = trial.number(_OBSERVED)
    return Finding(
        observations=pairs + covered if pairs else 0,
        violations=fallen + trial.number("SELECT count(*) FROM overtaken"),
        evidence=_fallen(trial) + _overtaken(trial),
        note=f"{pairs:,} posts after an earlier one of their author; "
        f"{covered:,} times a page covered one that has a later one",
    )


def _fallen(trial: Trial) -> list[str]:
    return [
        story(
            trial.case,
            Moment(ack, f"post {first} acknowledged to user {author} in {region}"),
            Moment(sent, f"post {post} of the same author, with a key below, sent"),
        )
        for post, first, author, region, sent, ack in trial.rows(_FALLEN)
    ]


def _overtaken(trial: Trial) -> list[str]:
    return [
        story(
            trial.case,
            Moment(ack, f"post {post} acknowledged to user {author} in {region}"),
            Moment(later, f"post {successor} acknowledged to the same author"),
            Moment(sent, f"user {user} reads {successor}, but not {post}, in {region}"),
        )
        for post, successor, user, region, author, sent, ack, later in trial.rows(_OVERTAKEN_EVIDENCE)
    ]


CHECKER = Checker(check)
