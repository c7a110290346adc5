"""What each read had to show: the oracle behind most invariants.

    due_item  "user", pid, author, sent/ack_ns, region, own, celebrity, shallow: posts that belong into a user's feed,
              because an edge that never changed since 5 s before the acknowledgement says so
    covered   op, pid, "user", ..., present, age_ns: each undegraded page with each such post in its key range that was
              acknowledged at least age_ns before the page was asked for (less than sent - ack by the clocks' error)

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
    error = {"error": case.clock_error_ns}
    con.execute(_PAIR, error)
    con.execute(_ABSENT, error)
    con.execute(_MARK_ABSENT)
    con.execute(_COVERED.format(error=case.clock_error_ns))


# A post is deep when `feed_depth` others may have arrived after it. Arrival is known to within the slack only;
# withdrawn posts took a place too, and those of authors whose edge changed may have.
_DUE = """
CREATE TABLE due_item AS
WITH arrival AS (
  SELECT e.follower AS "user", p.pid, p.author, p.sent_ns, p.ack_ns, p.region, e.follower = p.author AS own,
         p.celebrity, NOT p.withdrawn AND e.since_ns <= p.ack_ns - $stable AS due
  FROM edge e JOIN post p ON p.author = e.author
  UNION ALL
  SELECT c.follower, p.pid, p.author, p.sent_ns, p.ack_ns, p.region, false, p.celebrity, false
  FROM change c JOIN post p ON p.author = c.author WHERE NOT c.refollowed
), busy AS (
  SELECT "user" FROM arrival GROUP BY "user" HAVING count(*) > $depth
), deep AS (
  SELECT "user", pid FROM arrival SEMI JOIN busy USING ("user")
  QUALIFY count(*) OVER (PARTITION BY "user" ORDER BY sent_ns
                         RANGE BETWEEN $slack::BIGINT PRECEDING AND UNBOUNDED FOLLOWING) > $depth
)
SELECT a.* EXCLUDE (due), d.pid IS NULL AS shallow
FROM arrival a LEFT JOIN deep d ON d."user" = a."user" AND d.pid = a.pid WHERE a.due
"""

# Of all that a user is due, in the order of pids, a page covers one stretch. Its two ends are looked up, for a user has
# many pages and many posts: all pairs of the two are too many. What was acknowledged after a page was asked for mostly
# lies above all that was acknowledged before: `top` cuts it off.
_PAIR = """
CREATE TABLE covered_pair AS
WITH known AS (
  SELECT ack_ns + $error AS known_ns, max(pid) OVER (ORDER BY ack_ns) AS top FROM post
), look AS (
  SELECT g.op, g."user", g.region, g.final, g.sent_ns, g.lo, least(g.hi, k.top + 1) AS hi
  FROM page g ASOF JOIN known k ON g.sent_ns >= k.known_ns WHERE NOT g.degraded
), placed AS (
  SELECT d."user", d.pid, d.ack_ns, d.region AS home, d.own::UTINYINT + 2 * d.celebrity::UTINYINT AS flags,
         row_number() OVER (ORDER BY d."user", d.pid) AS place
  FROM due_item d SEMI JOIN page g ON g."user" = d."user" WHERE d.shallow
), stretch AS (
  SELECT k.op, k.region, k.final, k.sent_ns, unnest(range(f.place, t.place + 1)) AS place
  FROM look k ASOF JOIN placed f ON f."user" = k."user" AND f.pid >= k.lo
  ASOF JOIN placed t ON t."user" = k."user" AND t.pid < k.hi WHERE f.place <= t.place
)
SELECT s.op, d.pid, d."user", (d.flags + 4 * (d.home <> s.region)::UTINYINT)::UTINYINT AS flags, s.region, s.final,
       s.sent_ns, d.ack_ns, true AS present
FROM stretch s JOIN placed d ON d.place = s.place WHERE d.ack_ns + $error <= s.sent_ns
"""

# The longest table by far: what can be told from other columns, or fits into one with others, is not written out.
_COVERED = """
CREATE VIEW covered AS
SELECT * EXCLUDE (flags), flags & 1 <> 0 AS own, flags & 2 <> 0 AS celebrity, flags & 4 <> 0 AS remote,
       sent_ns - ack_ns - {error} AS age_ns
FROM covered_pair
"""

# Looking up every pair among all items is slow. On most pages the due posts are exactly those shown, which a count and
# an xor of hashes tell; only the other pages are compared post by post.
_ABSENT = """
CREATE TEMP TABLE absent AS
WITH due AS (SELECT op, count(*) AS n, bit_xor(hash(pid)) AS digest FROM covered_pair GROUP BY op),
shown AS (
  SELECT i.op, count(*) AS n, bit_xor(hash(i.pid)) AS digest
  FROM item i JOIN page g ON g.op = i.op JOIN due_item d ON d."user" = g."user" AND d.pid = i.pid
  WHERE NOT g.degraded AND d.shallow AND i.pid >= g.lo AND i.pid < g.hi
    AND d.ack_ns + $error <= g.sent_ns GROUP BY i.op
), doubtful AS (
  SELECT d.op FROM due d LEFT JOIN shown s ON s.op = d.op WHERE s.op IS NULL OR s.n <> d.n OR s.digest <> d.digest
)
SELECT c.op, c.pid FROM covered_pair c SEMI JOIN doubtful d ON d.op = c.op
ANTI JOIN (SELECT i.op, i.pid FROM item i SEMI JOIN doubtful d ON d.op = i.op) there
  ON there.op = c.op AND there.pid = c.pid
"""
_MARK_ABSENT = """
UPDATE covered_pair SET present = false FROM absent
WHERE absent.op = covered_pair.op AND absent.pid = covered_pair.pid
"""
