"""A run directory and rows for the recording tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.core.op import Op, OpKind, OpOutcome
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
