"""A run directory and rows for the recording tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.core.op import Op, OpKind, OpOutcome
from harness.record.frames import checksum
from harness.record.run_directory import RunDirectory


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """An empty run directory."""
    return RunDirectory(tmp_path / "run").create()


@pytest.fixture
def make_op() -> Callable[..., Op]:
    """Build a row; fields not given have plain values."""

    def make(number: int, **fields: Any) -> Op:
        plain: dict[str, Any] = {
            "id": number,
            "kind": OpKind.FEED,
            "session": "s1",
            "user": 7,
            "region": "us-east",
            "due_ns": 10,
            "sent_ns": 20,
            "done_ns": 30,
            "outcome": OpOutcome.OK,
        }
        return Op(**{**plain, **fields})

    return make


@pytest.fixture
def every_field() -> dict[str, Any]:
    """Something in each field of an op that has a default."""
    return {
        "kind": OpKind.POST,
        "outcome": OpOutcome.INFO,
        "status": 504,
        "post": "p-1",
        "author": 3,
        "ts_us": 1_700_000_000_000_000,
        "text_hash": 2**63 - 1,
        "reply_to": "p-0",
        "idempotency_key": "k",
        "walk": 4,
        "page": 2,
        "limit": 50,
        "cursor": "c1",
        "next_cursor": "c2",
        "since": "s",
        "token": "us-east.1.2",
        "variant": "tampered",
        "degraded": "stale",
        "final": True,
        "celebrity": True,
        "error": "timeout: ünï\n'quoted'",
        "ids": ["a", "b"],
        "item_ts_us": [2, 1],
        "item_authors": [5, 6],
        "item_hashes": [7, 8],
    }


@pytest.fixture
def reframe() -> Callable[[Path, Callable[[bytes], bytes]], None]:
    """Change the lines of a segment of one frame, and give it the checksum of what it holds then."""

    def change(path: Path, edit: Callable[[bytes], bytes]) -> None:
        line, body = path.read_bytes().split(b"\n", 1)
        body = edit(body)
        told = msgspec.json.decode(line)
        told |= {"bytes": len(body)}
        told["crc"] = checksum(told["frame"], told["rows"], told["seen"], told["seen_bytes"], body)
        path.write_bytes(msgspec.json.encode(told) + b"\n" + body)

    return change
