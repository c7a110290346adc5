"""The columns of a stored history. A field of an op (`harness.core.op`) has its line here.

What reads show is stored once a process and named by number: `items` stands for the four lists of an op.
"""

from __future__ import annotations

COLUMNS: dict[str, tuple[str, str]] = {
    "id": ("BIGINT", ""),
    "kind": ("VARCHAR", ""),
    "session": ("VARCHAR", ""),
    "user": ("BIGINT", ""),
    "region": ("VARCHAR", ""),
    "due_ns": ("BIGINT", ""),
    "sent_ns": ("BIGINT", ""),
    "done_ns": ("BIGINT", ""),
    "outcome": ("VARCHAR", ""),
    "status": ("INTEGER", "0"),
    "post": ("VARCHAR", "''"),
    "author": ("BIGINT", "-1"),
    "ts_us": ("BIGINT", "0"),
    "text_hash": ("BIGINT", "0"),
    "reply_to": ("VARCHAR", "''"),
    "idempotency_key": ("VARCHAR", "''"),
    "walk": ("BIGINT", "0"),
    "page": ("INTEGER", "0"),
    "limit": ("INTEGER", "0"),
    "cursor": ("VARCHAR", "''"),
    "next_cursor": ("VARCHAR", "''"),
    "since": ("VARCHAR", "''"),
    "token": ("VARCHAR", "''"),
    "variant": ("VARCHAR", "''"),
    "degraded": ("VARCHAR", "''"),
    "final": ("BOOLEAN", "false"),
    "celebrity": ("BOOLEAN", "false"),
    "error": ("VARCHAR", "''"),
    "items": ("INTEGER[]", "[]"),
}
"""column of ops.parquet -> type, default (none: a row must have it)"""
ITEM_COLUMNS = {"number": "INTEGER", "post": "VARCHAR", "ts_us": "BIGINT", "author": "BIGINT", "text_hash": "BIGINT"}
"""column of items.parquet -> type; numbers count from 1, as `list[n]` does"""
