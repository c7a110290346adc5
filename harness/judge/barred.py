"""What must not be seen, by whom, from when to when, as DuckDB tables.

    gone   pid, author, kind, "user", region, degraded, since_ns, until_ns: a post that its author deleted or hid, or
           that an operator moderated, for certain; from the answer until somebody may have shown it again
    cut    reader, author, kind, "user", region, degraded, since_ns, until_ns: a reader who unfollowed an author, or one
           of the two blocked the other, for certain; until the follow or the unblock that may have undone that

`"user"`, `region`, `degraded`: who asked for it, where, and whether the answer said Feed-Degraded. Only an op with
outcome ok makes a row; one that may have taken effect can end a row, and may do so at any time after it was sent. Of
ops in two regions the later one wins only when the first had time to get there, so one that may still have been on
its way can end a row as well.
"""

from __future__ import annotations

import duckdb

from harness.judge.case import FOREVER_NS, Case


def build(con: duckdb.DuckDBPyConnection, case: Case) -> None:
    """Create the tables of this module. Needs harness.judge.tables."""
    con.execute(_WORD, {"forever": FOREVER_NS // 2, "error": case.clock_error_ns})
    values = {"forever": FOREVER_NS, "cross": case.cross_region_ns, "error": case.clock_error_ns}
    con.execute(_GONE, values)
    con.execute(_CUT, values)


# What was said about a post or an edge, and by when it had its effect.
_WORD = """
CREATE TEMP TABLE word AS
SELECT id, kind, "user", region, post, author, sent_ns, outcome = 'ok' AS sure, degraded <> '' AS degraded,
       CASE WHEN outcome = 'ok' THEN done_ns + $error ELSE $forever END AS done_ns
FROM op WHERE outcome <> 'fail' AND kind IN ('delete', 'hide', 'show', 'moderate', 'lift',
                                             'follow', 'unfollow', 'block', 'unblock')
"""
_LATER = "CASE WHEN b.region = w.region THEN b.done_ns ELSE deadline(b.done_ns, $cross) END > w.sent_ns"
_GONE = f"""
CREATE TABLE gone AS
SELECT k.pid, w."user" AS author, w.kind, w."user", w.region, w.degraded, w.done_ns AS since_ns,
       coalesce(min(b.sent_ns) - $error, $forever) AS until_ns
FROM word w JOIN post_id k ON k.id = w.post
LEFT JOIN word b ON b.post = w.post AND {_LATER}
  AND b.kind = CASE w.kind WHEN 'hide' THEN 'show' WHEN 'moderate' THEN 'lift' END
WHERE w.sure AND w.kind IN ('delete', 'hide', 'moderate')
GROUP BY w.id, k.pid, w."user", w.kind, w.region, w.degraded, w.done_ns HAVING until_ns > since_ns
"""
_CUT = f"""
CREATE TABLE cut AS
WITH parted AS (
  SELECT w.kind, w."user", w.author AS other, w.region, w.degraded, w.done_ns AS since_ns,
         coalesce(min(b.sent_ns) - $error, $forever) AS until_ns
  FROM word w
  LEFT JOIN word b ON b."user" = w."user" AND b.author = w.author AND {_LATER}
    AND b.kind = CASE w.kind WHEN 'unfollow' THEN 'follow' ELSE 'unblock' END
  WHERE w.sure AND w.kind IN ('unfollow', 'block')
  GROUP BY w.id, w.kind, w."user", w.author, w.region, w.degraded, w.done_ns HAVING until_ns > since_ns
)
SELECT "user" AS reader, other AS author, kind, "user", region, degraded, since_ns, until_ns FROM parted
UNION ALL
SELECT other, "user", kind, "user", region, degraded, since_ns, until_ns FROM parted WHERE kind = 'block'
"""
