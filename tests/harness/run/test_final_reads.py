"""What the history says before the final reads: whoever wrote it, and whatever clock it has."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.clock import NS_PER_S
from harness.core.op import Op, OpKind, OpOutcome
from harness.record.clocks import Clock, write_clocks
from harness.record.frames import SUFFIX
from harness.record.history import HistoryWriter
from harness.record.run_directory import RunDirectory
from harness.run.final_reads import read_written


def op(number: int, kind: OpKind, user: int, done_s: float, outcome: OpOutcome = OpOutcome.OK) -> Op:
    at = round(done_s * NS_PER_S)
    return Op(id=number, kind=kind, session="s", user=user, region="r", due_ns=at, sent_ns=at, done_ns=at,
              outcome=outcome, ts_us=at // 1000)  # fmt: skip


def written_by(run: RunDirectory, process: str, *ops: Op) -> None:
    with HistoryWriter(run.history / f"{process}{SUFFIX}") as history:
        for one in ops:
            history.append(one)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """Two processes; the clock of the second is an hour ahead."""
    run = RunDirectory(tmp_path / "run").create()
    written_by(run, "locust-0", op(1, OpKind.POST, 3, 10.0), op(2, OpKind.POST, 4, 11.0, OpOutcome.INFO))
    written_by(run, "locust-1", op(3, OpKind.POST, 5, 3612.5), op(4, OpKind.SIGNUP, 9, 3600.5))
    return run


def test_posts_and_sign_ups_of_all_processes_count(run: RunDirectory) -> None:
    written = read_written(run)
    assert (set(written.posts), written.joined, written.first_ts_us) == ({3, 5}, {9}, 10_000_000)


def test_an_authors_first_and_last_post_and_the_end_of_an_import_are_told(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run").create()
    written_by(run, "locust-0", op(1, OpKind.POST, 3, 12.0), op(2, OpKind.IMPORT, 9, 7.0), op(3, OpKind.POST, 3, 11.0))
    written_by(run, "locust-1", op(4, OpKind.POST, 3, 10.0), op(5, OpKind.IMPORT, 8, 7.0, OpOutcome.FAIL))
    written = read_written(run)
    assert (written.first_ns, written.last_ns) == ({3: 10 * NS_PER_S}, {3: 12 * NS_PER_S})
    assert written.settled == {9: 7 * NS_PER_S}


def test_times_are_those_of_our_clock(run: RunDirectory) -> None:
    ahead = Clock(process="locust-1", machine="far", offset_ns=-3600 * NS_PER_S, error_ns=1)
    write_clocks(run.clocks, [Clock(process="locust-0", machine="ours"), ahead])
    assert read_written(run).last_ack_ns == round(12.5 * NS_PER_S)
