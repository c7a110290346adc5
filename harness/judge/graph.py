"""Who follows whom, and since when it counts, as DuckDB tables.

    base     follower, author, hot: the population's follow edges (complete; empty without a population); hot is NULL
             where the population does not say which edges are
    star     author: celebrities, who take the throttled path
    change   follower, author, done_ns, refollowed, followed: pairs whose edge changed during the run, or may have.
             Only a refollowed one is known again afterwards
    edge     follower, author, since_ns: edges that stay unchanged from since_ns to the end of the run; followers who
             read or listen, authors who post; everybody follows himself

An edge made during a fault counts from the end of the fault's window: until then regions need not agree about it.
Edges of users who join during the run (all of them, in a run that starts with nobody joined) count from when they were
seen joined and imported.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import msgspec
import numpy as np

from harness.core.errors import UsageError
from harness.core.json_file import read_json
from harness.judge.case import FOREVER_NS, Case


def build(con: duckdb.DuckDBPyConnection, case: Case) -> None:
    """Create the tables of this module."""
    _load_base(con, case.run.population)
    con.execute(_STAR, {"celebrities": case.celebrities, "threshold": _threshold(case.run.population)})
    con.execute("UPDATE post SET celebrity = true WHERE author IN (SELECT author FROM star)")
    con.execute(_CHANGE, {"cross": case.cross_region_ns})
    con.execute(_JOINED)
    con.execute(_LATE, {"all_late": case.scenario.population.joined == "none", "late": case.late_users})
    con.execute(_EDGE, {"always": -FOREVER_NS})


def has_population(con: duckdb.DuckDBPyConnection) -> bool:
    """Whether the follow graph is known at all."""
    (count,) = con.execute("SELECT count(*) FROM base").fetchall()[0]
    return bool(count)


def knows_all_follows(con: duckdb.DuckDBPyConnection, case: Case) -> bool:
    """Whether nobody follows anybody but by `base` and `change`.

    A target that was not started for this run may have follows of earlier ones.
    """
    return case.profile.start is not None and has_population(con)


def _load_base(con: duckdb.DuckDBPyConnection, folder: Path) -> None:
    offsets, followees = folder / "offsets.npy", folder / "followees.npy"
    if not offsets.exists() or not followees.exists():
        con.execute("CREATE TABLE base (follower BIGINT, author BIGINT, hot BOOLEAN)")
        return
    starts = _array(offsets)
    followers = np.repeat(np.arange(len(starts) - 1, dtype=np.int64), np.diff(starts))
    columns: dict[str, Any] = {"follower": followers, "author": _array(followees).astype(np.int64)}
    hot = folder / "hot.npy"
    if hot.exists():
        columns["hot"] = _array(hot) != 0
    con.register("base_columns", columns)
    is_hot = "hot" if hot.exists() else "NULL::BOOLEAN"
    con.execute(f"CREATE TABLE base AS SELECT follower, author, {is_hot} AS hot FROM base_columns")
    con.unregister("base_columns")


def _array(path: Path) -> Any:
    """The array in a file. Raises UsageError when it is damaged."""
    try:
        return np.load(path)
    except (ValueError, EOFError) as error:
        raise UsageError(f"{path}: damaged: {str(error).partition('. ')[0]}") from error


def _threshold(folder: Path) -> int:
    """Follower count from which an author is a celebrity; FOREVER_NS when the population does not say."""
    path = folder / "population.json"
    return (read_json(path, _Population).celebrity_threshold or FOREVER_NS) if path.exists() else FOREVER_NS


class _Population(msgspec.Struct):
    """What is read of population.json."""

    celebrity_threshold: int | None = None


_STAR = """
CREATE TABLE star AS
SELECT range AS author FROM range($celebrities)
UNION SELECT author FROM base GROUP BY author HAVING count(*) >= $threshold
"""

# An edge is known again when all that was asked for was answered and the last of it was a follow, sent when everything
# else had had time to get to its region, with no block left open. (The target decides whether a block ends a follow.)
_CHANGE = """
CREATE TABLE change AS
WITH word AS (
  SELECT "user" AS follower, author, "user" AS actor, kind, region, sent_ns, done_ns, outcome FROM op
  WHERE kind IN ('follow', 'unfollow', 'block', 'unblock') AND outcome <> 'fail'
  UNION ALL
  SELECT author, "user", "user", kind, region, sent_ns, done_ns, outcome FROM op
  WHERE kind IN ('block', 'unblock') AND outcome <> 'fail'
), pair AS (
  SELECT follower, author, max(done_ns) AS done_ns, bool_and(outcome = 'ok') AS answered,
         bool_or(kind = 'follow') AS followed, arg_max(kind, sent_ns) AS last, arg_max(region, sent_ns) AS region,
         max(sent_ns) AS sent_ns
  FROM word GROUP BY follower, author
), doubtful AS (
  SELECT follower, author FROM word WHERE kind IN ('block', 'unblock') GROUP BY follower, author, actor
  HAVING arg_max(kind, sent_ns) = 'block' OR max(done_ns) FILTER (kind = 'block') > max(sent_ns)
  UNION
  SELECT w.follower, w.author FROM word w JOIN pair p ON p.follower = w.follower AND p.author = w.author
  WHERE w.sent_ns < p.sent_ns
    AND CASE WHEN w.region = p.region THEN w.done_ns ELSE deadline(w.done_ns, $cross) END > p.sent_ns
)
SELECT p.follower, p.author, p.done_ns, p.followed,
       p.answered AND p.last = 'follow' AND d.follower IS NULL AS refollowed
FROM pair p LEFT JOIN (SELECT DISTINCT follower, author FROM doubtful) d
  ON d.follower = p.follower AND d.author = p.author
"""

_JOINED = """
CREATE TABLE joined AS
SELECT "user", greatest(min(done_ns) FILTER (kind = 'signup'), min(done_ns) FILTER (kind = 'import')) AS at_ns
FROM op WHERE kind IN ('signup', 'import') AND outcome = 'ok'
GROUP BY "user" HAVING count(*) FILTER (kind = 'signup') > 0 AND count(*) FILTER (kind = 'import') > 0
"""

_LATE = """
CREATE TABLE late_user AS
SELECT u."user", j.at_ns FROM (
  SELECT follower AS "user" FROM base WHERE $all_late UNION SELECT author FROM base WHERE $all_late
  UNION SELECT unnest($late::BIGINT[])
) u LEFT JOIN joined j ON j."user" = u."user"
"""

_EDGE = """
CREATE TABLE edge AS
WITH audience AS (
  SELECT DISTINCT "user" FROM op WHERE outcome = 'ok' AND kind IN ('feed', 'stream_open')
), writer AS (SELECT DISTINCT author FROM post),
kept AS (
  SELECT b.follower, b.author FROM base b
  SEMI JOIN audience a ON a."user" = b.follower SEMI JOIN writer w ON w.author = b.author
  ANTI JOIN change c ON c.follower = b.follower AND c.author = b.author
  WHERE b.follower <> b.author
), dated AS (
  SELECT k.follower, k.author, greatest(CASE WHEN f."user" IS NULL THEN $always ELSE f.at_ns END,
                                        CASE WHEN a."user" IS NULL THEN $always ELSE a.at_ns END) AS since_ns
  FROM kept k LEFT JOIN late_user f ON f."user" = k.follower LEFT JOIN late_user a ON a."user" = k.author
  WHERE (f."user" IS NULL OR f.at_ns IS NOT NULL) AND (a."user" IS NULL OR a.at_ns IS NOT NULL)
)
SELECT follower, author, since_ns FROM dated WHERE since_ns IS NOT NULL
UNION ALL SELECT c.follower, c.author, deadline(c.done_ns, 0) FROM change c
  SEMI JOIN audience a ON a."user" = c.follower WHERE c.refollowed AND c.follower <> c.author
UNION ALL SELECT w.author, w.author, $always FROM writer w SEMI JOIN audience a ON a."user" = w.author
"""
