"""Sample runs with their reports."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sample_run import make_run

from harness.record.run_directory import RunDirectory
from harness.report import write_reports


@pytest.fixture
def reported(tmp_path: Path) -> Callable[..., RunDirectory]:
    """A run directory of the given verdict, with reports."""

    def make(verdict: str = "fail", evil: str = "") -> RunDirectory:
        run = make_run(tmp_path / verdict, verdict, evil)
        write_reports(run)
        return run

    return make
