"""Who follows whom, and since when it counts, as DuckDB tables.

    base     follower, author: the population's follow edges (complete; empty without a population)
    star     author: celebrities, who take the throttled path
    change   follower, author, done_ns, refollowed: pairs whose edge changed during the run
    edge     follower, author, since_ns: edges that stay unchanged from since_ns to the end of the run; followers who
             read or listen, authors who post; everybody follows himself

In a run that starts with nobody joined an edge counts from when both sides were seen joined and imported.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import msgspec
import numpy as np

from harness.judge.case import FOREVER_NS, Case


def build(con: duckdb.DuckDBPyConnection, case: Case) -> None:
    """Create the tables of this module."""
    _load_base(con, case.run.population)
    con.execute(_STAR, {"celebrities": case.celebrities, "threshold": _threshold(case.run.population)})
    con.execute("UPDATE post SET celebrity = true WHERE author IN (SELECT author FROM star)")
    con.execute(_CHANGE)
    con.execute(_JOINED)
    con.execute(_EDGE, {"always": -FOREVER_NS, "joined_all": case.scenario.population.joined == "all"})


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
        con.execute("CREATE TABLE base (follower BIGINT, author BIGINT)")
        return
    starts = np.load(offsets)
    followers = np.repeat(np.arange(len(starts) - 1, dtype=np.int64), np.diff(starts))
    columns: dict[str, Any] = {"follower": followers, "author": np.load(followees).astype(np.int64)}
    con.register("base_columns", columns)
    con.execute("CREATE TABLE base AS SELECT follower, author FROM base_columns")
    con.unregister("base_columns")


def _threshold(folder: Path) -> int:
    """Follower count from which an author is a celebrity; FOREVER_NS when the population does not say."""
    path = folder / "population.json"
    said = msgspec.json.decode(path.read_bytes()) if path.exists() else {}
    return int(said.get("celebrity_threshold") or FOREVER_NS)


_STAR = """
CREATE TABLE star AS
SELECT range AS author FROM range($celebrities)
UNION SELECT author FROM base GROUP BY author HAVING count(*) >= $threshold
"""

_CHANGE = """
CREATE TABLE change AS
WITH mutual AS (
  SELECT "user" AS follower, author, kind, sent_ns, done_ns, outcome FROM op
  WHERE kind IN ('follow', 'unfollow', 'block') AND outcome <> 'fail'
  UNION ALL
  SELECT author, "user", kind, sent_ns, done_ns, outcome FROM op WHERE kind = 'block' AND outcome <> 'fail'
)
SELECT follower, author, max(done_ns) AS done_ns,
       bool_and(outcome = 'ok' AND kind <> 'block') AND arg_max(kind, sent_ns) = 'follow' AS refollowed,
       bool_or(kind = 'follow') AS followed
FROM mutual GROUP BY follower, author
"""

_JOINED = """
CREATE TABLE joined AS
SELECT "user", greatest(min(done_ns) FILTER (kind = 'signup'), min(done_ns) FILTER (kind = 'import')) AS at_ns
FROM op WHERE kind IN ('signup', 'import') AND outcome = 'ok'
GROUP BY "user" HAVING count(*) FILTER (kind = 'signup') > 0 AND count(*) FILTER (kind = 'import') > 0
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
  SELECT k.follower, k.author,
         CASE WHEN $joined_all THEN $always
              WHEN f.at_ns IS NOT NULL AND a.at_ns IS NOT NULL THEN greatest(f.at_ns, a.at_ns) END AS since_ns
  FROM kept k LEFT JOIN joined f ON f."user" = k.follower LEFT JOIN joined a ON a."user" = k.author
)
SELECT follower, author, since_ns FROM dated WHERE since_ns IS NOT NULL
UNION ALL SELECT c.follower, c.author, c.done_ns FROM change c
  SEMI JOIN audience a ON a."user" = c.follower WHERE c.refollowed AND c.follower <> c.author
UNION ALL SELECT w.author, w.author, $always FROM writer w SEMI JOIN audience a ON a."user" = w.author
"""
