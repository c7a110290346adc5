"""The samples that SLOs are judged on, as one DuckDB table: exact times, no histograms (docs/adr/0005).

    sample   metric, op, value_ns, ok, region, scope, author, phase, due_ns

    post_to_event     event received - post due; stream open from before the due time until the event
    post_to_rendered  post_to_event + time of the fetch that followed the event and showed the post (from the fetch's
                      own due time: the jitter a listener waits on purpose is not the target's)
    cross_region      event received in another region - post acknowledged
    post_accept, feed_read, ...: those of OP_METRICS    done - due of the op; `ok` = outcome ok

A sample belongs to the phase its post or op was due in, or to that of a fault that struck while it was under way for
less than half a second; region is where it was received or read, scope is "local" when that is the post's own region.
Final reads are no samples.
"""

from __future__ import annotations

import duckdb

from harness.core.clock import NS_PER_S
from harness.core.op import OP_METRICS

FETCH_WITHIN_NS = 2 * NS_PER_S
"""a fetch belongs to an event when it is sent at most this long after it"""


def build(con: duckdb.DuckDBPyConnection) -> None:
    """Create the table. Needs harness.judge.tables, .graph and .streams."""
    con.execute(_SCHEMA)
    con.execute(_DELIVERIES)
    con.execute(_RENDERED, {"within": FETCH_WITHIN_NS})
    for kind, metric in OP_METRICS.items():
        con.execute(_OPS, {"kind": kind, "metric": metric})


_SCHEMA = """
CREATE TABLE sample (metric VARCHAR, op BIGINT, value_ns BIGINT, ok BOOLEAN, region VARCHAR, scope VARCHAR,
                     author VARCHAR, phase VARCHAR, due_ns BIGINT)
"""
_DELIVERIES = """
INSERT INTO sample
WITH named AS (
  SELECT *, CASE WHEN region = post_region THEN 'local' ELSE 'remote' END AS scope,
         CASE WHEN celebrity THEN 'celebrity' ELSE 'ordinary' END AS author,
         phase_between(due_ns, event_ns) AS phase
  FROM delivery
)
SELECT 'post_to_event', op, event_ns - due_ns, true, region, scope, author, phase, due_ns FROM named
UNION ALL
SELECT 'cross_region', op, event_ns - ack_ns, true, region, scope, author, phase, due_ns FROM named
WHERE scope = 'remote'
"""
_RENDERED = """
INSERT INTO sample
WITH fetched AS (
  SELECT id, "user", region, due_ns, sent_ns, done_ns FROM op
  WHERE kind IN ('feed', 'feed_new') AND outcome = 'ok' AND NOT final
), followed AS (
  SELECT d.*, f.id AS fetch_op, f.done_ns - f.due_ns AS fetch_ns
  FROM (SELECT d.* FROM delivery d SEMI JOIN fetched f ON f."user" = d."user") d
  ASOF JOIN fetched f ON f."user" = d."user" AND f.region = d.region AND f.sent_ns >= d.event_ns
  WHERE f.sent_ns - d.event_ns <= $within
)
SELECT 'post_to_rendered', op, event_ns - due_ns + fetch_ns, true, region,
       CASE WHEN region = post_region THEN 'local' ELSE 'remote' END,
       CASE WHEN celebrity THEN 'celebrity' ELSE 'ordinary' END, phase_between(due_ns, event_ns), due_ns
FROM followed SEMI JOIN item i ON i.op = followed.fetch_op AND i.pid = followed.pid
"""
_OPS = """
INSERT INTO sample
SELECT $metric, id, done_ns - due_ns, outcome = 'ok', region, '',
       CASE WHEN kind <> 'post' THEN ''
            WHEN celebrity OR "user" IN (SELECT author FROM star) THEN 'celebrity' ELSE 'ordinary' END,
       phase_between(due_ns, done_ns), due_ns
FROM op WHERE kind = $kind AND NOT final
"""
