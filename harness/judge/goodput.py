"""How much of what was asked for was answered well: ops of one run that were due in its phases, warm-up left out."""

from __future__ import annotations

from pathlib import Path

import duckdb

from harness.core.clock import NS_PER_S
from harness.core.op import OP_METRICS
from harness.judge.capacity import Goodput
from harness.judge.case import Case

REFUSALS = (429, 503)
_COUNTED = """
SELECT kind = 'event' AS event, outcome = 'ok' AS good, status, count(*) FROM read_parquet(?)
WHERE due_ns >= ? AND due_ns < ? AND NOT final AND (kind = 'event' OR list_contains(?, kind)) GROUP BY ALL
"""
_NOT_ASKED = {"import", "stream_open"}
"""kinds with a metric that no arrival of the schedule stands for"""


def goodput_of(case: Case, ops: Path) -> Goodput:
    """Of a run whose history is `ops` (Parquet). Raises duckdb.Error when it cannot be read."""
    first_ns, seconds = case.t0_ns, (case.end_ns - case.t0_ns) / NS_PER_S
    kinds = [kind for kind in OP_METRICS if kind not in _NOT_ASKED]
    with duckdb.connect() as con:
        rows = con.execute(_COUNTED, [str(ops), first_ns, case.end_ns, kinds]).fetchall()
    asked = [(good, status, count) for event, good, status, count in rows if not event]
    refused: dict[str, int] = {}
    for _, status, count in asked:
        if status in REFUSALS:
            refused[str(status)] = refused.get(str(status), 0) + count
    return Goodput(
        offered_per_s=round(sum(count for _, _, count in asked) / seconds, 2),
        good_per_s=round(sum(count for good, _, count in asked if good) / seconds, 2),
        events_per_s=round(sum(count for event, _, _, count in rows if event) / seconds, 2),
        refused=refused,
    )
