"""Streams and their events as DuckDB tables.

stream    session, "user", region, open_ns, end_ns, resumed, chain, chain_ns: one row a connection that was open.
          A chain is a line of connections of which each resumes the one before (Last-Event-ID); chain_ns is when
          its first connection was open
event     session, "user", region, op, pid, event_ns, prefix, number: resume token split at its last dot
delivery  events whose stream was open from before the post was due until the event came, with the post; none of late
          readers
late_reader   session: listeners that read slowly, or nothing for a while, as the scenario wants it
"""

from __future__ import annotations

import duckdb

from harness.core.listening import LATE_READERS
from harness.judge.case import FOREVER_NS


def build(con: duckdb.DuckDBPyConnection) -> None:
    """Create the tables of this module."""
    con.execute(_STREAM)
    con.execute(_EVENT)
    con.execute(_LATE_READER)
    con.execute(_DELIVERY, {"forever": FOREVER_NS})


# A stream whose end was not recorded counts as open until the last thing its session recorded.
_STREAM = """
CREATE TABLE stream AS
WITH mark AS (
  SELECT session, "user", region, kind, done_ns, sent_ns, resumed, id FROM op
  WHERE (kind = 'stream_open' AND outcome = 'ok') OR kind = 'stream_end'
), last_seen AS (
  SELECT session, max(done_ns) AS seen_ns FROM op WHERE kind IN ('stream_open', 'stream_end', 'event', 'resync')
  GROUP BY session
), paired AS (
  SELECT *, lead(kind) OVER w AS next_kind, lead(done_ns) OVER w AS next_done, lead(sent_ns) OVER w AS next_sent
  FROM mark WINDOW w AS (PARTITION BY session ORDER BY done_ns, id)
), opened AS (
  SELECT p.session, p."user", p.region, p.done_ns AS open_ns, p.resumed,
         CASE p.next_kind WHEN 'stream_end' THEN p.next_done WHEN 'stream_open' THEN p.next_sent
                          ELSE s.seen_ns END AS end_ns
  FROM paired p JOIN last_seen s ON s.session = p.session WHERE p.kind = 'stream_open'
), chained AS (
  SELECT *, sum((NOT resumed)::INTEGER) OVER (PARTITION BY session ORDER BY open_ns) AS chain FROM opened
)
SELECT *, min(open_ns) OVER (PARTITION BY session, chain) AS chain_ns FROM chained
"""

_EVENT = """
CREATE TABLE event AS
SELECT o.session, o."user", o.region, o.id AS op, k.pid, o.done_ns AS event_ns,
       regexp_extract(o.token, '^(.*)\\.[0-9]+$', 1) AS prefix,
       TRY_CAST(regexp_extract(o.token, '\\.([0-9]+)$', 1) AS HUGEINT) AS number
FROM op o JOIN post_id k ON k.id = o.post WHERE o.kind = 'event' AND o.outcome = 'ok'
"""

_LATE_READER = f"""
CREATE TABLE late_reader AS
SELECT DISTINCT session FROM history
WHERE kind = 'stream_open' AND variant IN ({", ".join(f"'{habit}'" for habit in LATE_READERS)})
"""

_DELIVERY = """
CREATE TABLE delivery AS
WITH turn AS (
  SELECT session, open_ns, end_ns,
         coalesce(lead(open_ns) OVER (PARTITION BY session ORDER BY open_ns), $forever) AS next_ns FROM stream
)
SELECT e.session, e."user", e.region, e.op, e.event_ns, p.pid, p.region AS post_region, p.celebrity, p.due_ns, p.ack_ns
FROM event e JOIN post p ON p.pid = e.pid
JOIN turn s ON s.session = e.session AND e.event_ns >= s.open_ns AND e.event_ns < s.next_ns
WHERE e.event_ns <= s.end_ns AND s.open_ns <= p.due_ns AND e.session NOT IN (SELECT session FROM late_reader)
"""
