"""What each read had to show: the oracle behind most invariants.

    due_item  "user", pid, author, sent/ack_ns, region, own, celebrity, shallow: posts that belong into a user's feed,
              because an edge that never changed since 5 s before the acknowledgement says so
    covered   op, pid, "user", ..., present, age_ns: each undegraded page with each such post in its key range that was
              acknowledged age_ns before the page was asked for

`shallow` posts are surely among the newest `feed_depth` arrivals of the feed; deeper ones are not judged.
"""

from __future__ import annotations

import duckdb

from harness.judge.case import FEED_DEPTH, STABLE_EDGE_NS, Case

_DEPTH_MARGIN = 0.95
"""share of the depth that is judged: arrivals are counted from both clients' ends, so the border is fuzzy"""


def build(con: duckdb.DuckDBPyConnection, case: Case) -> None:
    """Create the tables of this module."""
    depth = int(FEED_DEPTH * _DEPTH_MARGIN)
    con.execute(_DUE, {"stable": STABLE_EDGE_NS, "depth": depth, "slack": case.convergence_ns + case.celebrity_ns})
    con.execute(_COVERED)


# A post is deep when `feed_depth` others may have arrived after it. Arrival is known to within the slack only.
_DUE = """
CREATE TABLE due_item AS
WITH own AS (
  SELECT e.follower AS "user", p.pid, p.author, p.sent_ns, p.ack_ns, p.region, e.follower = p.author AS own, p.celebrity
  FROM edge e JOIN post p ON p.author = e.author
  WHERE NOT p.deleted AND e.since_ns <= p.ack_ns - $stable
), busy AS (
  SELECT "user" FROM own GROUP BY "user" HAVING count(*) > $depth
), deep AS (
  SELECT "user", pid FROM own SEMI JOIN busy USING ("user")
  QUALIFY count(*) OVER (PARTITION BY "user" ORDER BY sent_ns
                         RANGE BETWEEN $slack::BIGINT PRECEDING AND UNBOUNDED FOLLOWING) > $depth
)
SELECT o.*, d.pid IS NULL AS shallow FROM own o LEFT JOIN deep d ON d."user" = o."user" AND d.pid = o.pid
"""

_COVERED = """
CREATE TABLE covered AS
WITH pair AS (
  SELECT g.op, d.pid, d."user", d.author, d.own, d.celebrity, d.region <> g.region AS remote, g.region, g.final,
         g.sent_ns, d.ack_ns, g.sent_ns - d.ack_ns AS age_ns, g.page
  FROM page g JOIN due_item d ON d."user" = g."user" AND d.pid >= g.lo AND d.pid < g.hi AND d.ack_ns <= g.sent_ns
  WHERE NOT g.degraded AND d.shallow
)
SELECT p.*, i.pid IS NOT NULL AS present
FROM pair p LEFT JOIN (SELECT DISTINCT op, pid FROM item) i ON i.op = p.op AND i.pid = p.pid
"""
