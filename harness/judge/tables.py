"""The history as DuckDB tables, built once before anything is judged.

    history  a view: ops.parquet, every column
    op       every row of the history, scalar columns
    post_id  every post id that was written or seen -> pid; a larger pid stands higher on a page (timestamp, then id)
    said     number, pid, ts_us, author, hash: what answers said of a post; a row for each process that saw the post,
             and for each different answer
    item     op, i (place on the page, from 1), pid, number (of `said`): one row an item of a successful read
    post     pid, author, region, session, due/sent/ack_ns, ts_us, hash (0: not known), celebrity, withdrawn (somebody
             deleted, hid or moderated it, or may have): acknowledged posts
    page     successful feed pages with the key range they cover: lo <= pid < hi
    walk     pages of one walk together

and the macros phase_of(time), the name of the phase or '', phase_between(due, done), see `_struck`, and
deadline(ready, allowed), see `_deadline`.

`harness.judge.graph` adds who follows whom, `harness.judge.coverage` what each read had to show,
`harness.judge.streams` the streams and their events, `harness.judge.barred` what must not be seen. Tables live in a
database file in the run directory, and as much of them in memory as there is room (docs/adr/0021); large intermediates
spill beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from harness.core.clock import NS_PER_S
from harness.core.scratch import scratch_folder
from harness.judge.case import FEED_DEPTH, FOREVER_NS, Case
from harness.record.conversion import ITEMS, quote

WITHDRAWALS = "('delete', 'hide', 'show', 'moderate', 'lift')"
"""kinds of op after which a post need not be in a feed, as SQL"""
JUST_BEGUN_NS = NS_PER_S // 2
"""what was under way for less when a fault struck is a matter of that fault"""
THREADS = 2
MEMORY_LIMIT = "1800MB"
"""leaves room for what Python keeps of a long run, within 3 GiB in all"""


@contextmanager
def open_tables(case: Case, ops: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the tables above, read from `ops` (ops.parquet); their file is gone afterwards."""
    with (
        scratch_folder(case.run.path, ".judge-") as folder,
        duckdb.connect(config={"threads": THREADS, "memory_limit": MEMORY_LIMIT, "temp_directory": str(folder)}) as con,
    ):
        con.execute("SET enable_progress_bar = false")
        con.execute("SET preserve_insertion_order = false")
        con.execute(f"ATTACH {quote(str(folder / 'tables.db'))} AS judged (RECOVERY_MODE no_wal_writes)")
        con.execute("USE judged")
        build(con, case, ops)
        yield con


def build(con: duckdb.DuckDBPyConnection, case: Case, ops: Path) -> None:
    """Create the tables of this module."""
    con.execute(f"CREATE VIEW history AS SELECT * FROM read_parquet({quote(str(ops))})")
    con.execute(f"CREATE VIEW seen AS SELECT * FROM read_parquet({quote(str(ops.with_name(ITEMS)))})")
    _phases(con, case)
    _deadline(con, case)
    con.execute(_OP)
    con.execute(_POST_ID)
    con.execute(_SAID)
    con.execute(_ITEM)
    con.execute(_POST)
    con.execute(_PAGE, {"forever": FOREVER_NS, "shallow": FEED_DEPTH // 2})
    con.execute(_WALK)


def _phases(con: duckdb.DuckDBPyConnection, case: Case) -> None:
    """Table phase, and the macro phase_of(time): name of the phase, '' outside all."""
    con.execute("CREATE TABLE phase (name VARCHAR, kind VARCHAR, start_ns BIGINT, end_ns BIGINT)")
    arms = ""
    for p in case.phases:
        con.execute("INSERT INTO phase VALUES (?, ?, ?, ?)", [p.name, p.kind, p.start_ns, p.end_ns])
        name = p.name.replace("'", "''")
        arms += f" WHEN t >= {p.start_ns} AND t < {p.end_ns} THEN '{name}'"
    con.execute(f"CREATE MACRO phase_of(t) AS {f'CASE {arms} ELSE {chr(39) * 2} END' if arms else chr(39) * 2}")
    _struck(con, case)


def _struck(con: duckdb.DuckDBPyConnection, case: Case) -> None:
    """Macro phase_between(due, done): that of `due`, or of a fault that struck in between what had just begun.

    A phase by hand begins as its fault strikes; in others this hardly ever differs from phase_of(due).
    """
    strikes = {fault.injected_ns for fault in case.faults if fault.injected_ns is not None}
    late = {t for t in strikes for p in case.phases if 0 <= t - p.start_ns < JUST_BEGUN_NS}
    arms = "".join(
        f" WHEN due < {t} AND due >= {t - JUST_BEGUN_NS} AND done >= {t} THEN phase_of({t})" for t in sorted(late)
    )
    con.execute(
        f"CREATE MACRO phase_between(due, done) AS {f'CASE {arms} ELSE phase_of(due) END' if arms else 'phase_of(due)'}"
    )


def _deadline(con: duckdb.DuckDBPyConnection, case: Case) -> None:
    """Macro deadline(ready, allowed): by when something must hold that was `ready` and may take as long as `allowed`.

    That is ready + allowed; when it runs into a fault window (injection to undo + T), not before the window's end.
    """
    ends = "".join(
        f", CASE WHEN ready < {w.end_ns} AND ready + allowed > {w.start_ns} THEN {w.end_ns} ELSE 0 END"
        for w in case.fault_windows
    )
    con.execute(f"CREATE MACRO deadline(ready, allowed) AS greatest(ready + allowed{ends})")


_OP = """
CREATE TABLE op AS
SELECT id, kind, session, "user", region, due_ns, sent_ns, done_ns, outcome, status, post, author, ts_us, text_hash,
       idempotency_key, walk, page, "limit", next_cursor = '' AS complete, since <> '' AS resumed,
       CASE WHEN kind IN ('event', 'stream_open', 'resync') THEN token ELSE '' END AS token,
       degraded, final, celebrity, error
FROM history
"""

_POST_ID = """
CREATE TABLE post_id AS
SELECT row_number() OVER (ORDER BY ts_us NULLS FIRST, id)::INTEGER AS pid, id, ts_us
FROM (
  SELECT id, min(ts_us) AS ts_us FROM (
    SELECT post AS id, nullif(ts_us, 0) AS ts_us FROM history WHERE post <> ''
    UNION ALL
    SELECT post, nullif(ts_us, 0) FROM seen
  ) WHERE id IS NOT NULL GROUP BY id
)
"""

_SAID = """
CREATE TABLE said AS
SELECT n.number, k.pid, n.ts_us, n.author, n.text_hash AS hash FROM seen n JOIN post_id k ON k.id = n.post
"""

# Only successful reads carry items.
_ITEM = """
CREATE TABLE item AS
SELECT s.op, s.i, t.pid, s.number
FROM (
  SELECT id AS op, generate_subscripts(items, 1)::INTEGER AS i, unnest(items) AS number FROM history
) s JOIN said t ON t.number = s.number
"""

# A retried POST may have taken effect at its first attempt: what matters below is when the first one was sent. A repeat
# answers with the first one's post, whatever its own text says; which was first is known when that one was answered
# before the next was sent.
_POST = f"""
CREATE TABLE post AS
WITH attempt AS (
  SELECT "user", region, idempotency_key, min(sent_ns) AS first_ns,
         CASE WHEN count(DISTINCT text_hash) = 1 OR (arg_min(outcome, sent_ns) = 'ok' AND
                   arg_min(done_ns, sent_ns) <= coalesce(min(sent_ns, 2)[2], {FOREVER_NS}))
              THEN arg_min(text_hash, sent_ns) ELSE 0 END AS hash
  FROM op WHERE kind = 'post' AND idempotency_key <> '' AND outcome <> 'fail' GROUP BY ALL
), withdrawn AS (
  SELECT DISTINCT post FROM op WHERE kind IN {WITHDRAWALS} AND outcome <> 'fail'
)
SELECT k.pid, k.id, arg_min(o."user", o.done_ns) AS author, arg_min(o.region, o.done_ns) AS region,
       arg_min(o.session, o.done_ns) AS session, min(o.due_ns) AS due_ns,
       min(least(o.sent_ns, coalesce(a.first_ns, o.sent_ns))) AS sent_ns, min(o.done_ns) AS ack_ns,
       min(o.ts_us) AS ts_us, min(coalesce(a.hash, o.text_hash)) AS hash,
       bool_or(o.celebrity) AS celebrity, bool_or(g.post IS NOT NULL) AS withdrawn
FROM op o JOIN post_id k ON k.id = o.post
LEFT JOIN attempt a ON a."user" = o."user" AND a.region = o.region AND a.idempotency_key = o.idempotency_key
LEFT JOIN withdrawn g ON g.post = o.post
WHERE o.kind = 'post' AND o.outcome = 'ok' GROUP BY k.pid, k.id
"""

# Key range of a page: from just below the page before it (or from the top) down to its own last item. A page without a
# next cursor covers everything below too, unless the feed is so deep that older entries may have been cut off.
# Where the page before is unknown, a page covers only what lies between its own items.
_PAGE = """
CREATE TABLE page AS
WITH shown AS (
  SELECT op, count(*) AS n, min(pid) AS low, max(pid) AS high, arg_max(pid, i) AS last FROM item GROUP BY op
), raw AS (
  SELECT o.*, sum((page = 0)::INTEGER) OVER (PARTITION BY session, region, walk ORDER BY sent_ns, id) AS turn
  FROM op o WHERE kind = 'feed' AND outcome = 'ok'
), named AS (
  SELECT *, min(id) OVER (PARTITION BY session, region, walk, turn) AS walk_id
  FROM raw
  QUALIFY row_number() OVER (PARTITION BY session, region, walk, turn, page ORDER BY sent_ns DESC, id DESC) = 1
), linked AS (
  SELECT r.id AS op, r.walk_id AS walk, r.session, r."user", r.region, r.page, r.sent_ns, r.done_ns,
         r.degraded <> '' AS degraded, r.final, r.complete, coalesce(s.n, 0) AS n, s.low, s.high, s.last,
         lag(r.page) OVER w AS page_before, lag(s.low) OVER w AS low_before,
         sum(coalesce(s.n, 0)) OVER (PARTITION BY r.walk_id) AS walk_n
  FROM named r LEFT JOIN shown s ON s.op = r.id
  WINDOW w AS (PARTITION BY r.walk_id ORDER BY r.page)
), top AS (
  SELECT *, CASE WHEN page = 0 THEN $forever
                 WHEN page_before = page - 1 AND low_before IS NOT NULL THEN low_before
                 ELSE coalesce(high + 1, 0) END AS hi
  FROM linked
)
SELECT * EXCLUDE (page_before, low_before, walk_n),
       CASE WHEN complete AND walk_n < $shallow THEN 0 ELSE coalesce(last, hi) END AS lo
FROM top
"""

_WALK = """
CREATE TABLE walk AS
SELECT walk, any_value(session) AS session, any_value("user") AS "user", any_value(region) AS region,
       min(sent_ns) AS start_ns, max(done_ns) AS done_ns, count(*) AS pages,
       min(page) = 0 AND max(page) = count(*) - 1 AS whole, bool_or(degraded) AS degraded, bool_or(final) AS final,
       arg_max(lo, page) AS lo, arg_max(complete, page) AS complete
FROM page GROUP BY walk
"""
