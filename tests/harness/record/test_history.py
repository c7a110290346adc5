"""Writing a segment: nothing that was flushed is lost, whatever happens to the process or the disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from harness.core.op import Op, OpKind
from harness.record import history
from harness.record.frames import read_frames, read_segment
from harness.record.history import FLUSH_EVERY_NS, HistoryWriter
from harness.record.run_directory import RunDirectory

MakeOp = Callable[..., Op]


def page(make_op: MakeOp, number: int, *items: tuple[str, int, int, int]) -> Op:
    ids, stamps, authors, hashes = (list(column) for column in zip(*items, strict=True))
    return make_op(number, ids=ids, item_ts_us=stamps, item_authors=authors, item_hashes=hashes)


def test_what_is_read_is_what_was_appended(run: RunDirectory, make_op: MakeOp, every_field: dict[str, Any]) -> None:
    path = run.history / "a.jsonl"
    ops = [make_op(1), make_op(2**61, **every_field), make_op(3, kind=OpKind.EVENT, post="p")]
    with HistoryWriter(path) as writer:
        for op in ops:
            writer.append(op)
        assert ops[1] == make_op(2**61, **every_field)
    assert list(read_segment(path)) == ops
    assert list(read_segment(path, frozenset({"event"}))) == ops[2:]


def test_rows_are_written_at_a_flush(run: RunDirectory, make_op: MakeOp) -> None:
    path = run.history / "a.jsonl"
    writer = HistoryWriter(path)
    writer.append(make_op(1))
    assert path.read_bytes() == b""
    writer.flush()
    assert len(list(read_segment(path))) == 1
    writer.append(make_op(2))
    writer.flush()
    writer.flush()
    writer.close()
    writer.close()
    assert [frame.header.rows for frame in read_frames(path)] == [1, 1]
    assert writer.rows == 2


def test_a_busy_writer_flushes_by_itself(run: RunDirectory, make_op: MakeOp) -> None:
    path = run.history / "a.jsonl"
    with HistoryWriter(path) as writer:
        start_ns = history.now_ns()
        writer.append(make_op(1, done_ns=start_ns))
        assert path.read_bytes() == b""
        writer.append(make_op(2, done_ns=start_ns + 2 * FLUSH_EVERY_NS))
        assert [op.id for op in read_segment(path)] == [1, 2]


def test_an_item_is_written_once_and_a_changed_one_again(run: RunDirectory, make_op: MakeOp) -> None:
    path = run.history / "a.jsonl"
    first, other, changed = ("p1", 10, 1, 100), ("p2", 20, 2, 200), ("p1", 10, 1, 101)
    pages = [
        page(make_op, 1, first, other),
        page(make_op, 2, other, first),
        page(make_op, 3, first, changed, changed),
    ]
    with HistoryWriter(path) as writer:
        for op in pages:
            writer.append(op)
            writer.flush()
    assert [frame.header.seen for frame in read_frames(path)] == [2, 0, 1]
    assert list(read_segment(path)) == pages


@dataclass
class Post:
    """A post as a client keeps it."""

    id: str
    created_at_us: int = 10
    author_number: int = 1
    text_hash: int = 100
    mark: int = 0


def test_what_a_page_showed_is_recorded_like_the_lists_of_an_op(run: RunDirectory, make_op: MakeOp) -> None:
    first, other, changed = Post("p1"), Post("p2", 20, 2, 200), Post("p1", text_hash=101)
    shown = [[first, other], [other, first], [changed, other, changed], [Post("p2", 20, 2, 200)]]
    for name in ("a", "b"):  # the second writer meets posts that bear marks of the first
        with HistoryWriter(run.history / f"{name}.jsonl") as writer:
            for number, posts in enumerate(shown):
                writer.append(make_op(number), posts)
                writer.flush()
        path = run.history / f"{name}.jsonl"
        assert [frame.header.seen for frame in read_frames(path)] == [2, 0, 1, 0]
        assert list(read_segment(path)) == [
            page(make_op, n, *((p.id, p.created_at_us, p.author_number, p.text_hash) for p in posts))
            for n, posts in enumerate(shown)
        ]


def test_two_writers_take_turns_with_the_same_posts(run: RunDirectory, make_op: MakeOp) -> None:
    posts = [Post("p1"), Post("p2")]
    with HistoryWriter(run.history / "a.jsonl") as one, HistoryWriter(run.history / "b.jsonl") as two:
        two.append(make_op(0), posts[1:])
        for number in range(1, 4):
            one.append(make_op(number), posts)
            two.append(make_op(number), posts)
    for name in ("a", "b"):
        path = run.history / f"{name}.jsonl"
        assert [op.ids for op in read_segment(path)][-3:] == [["p1", "p2"]] * 3
        assert sum(frame.header.seen for frame in read_frames(path)) == 2


def test_a_writer_forgets_items_and_numbers_on(
    run: RunDirectory, make_op: MakeOp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "REMEMBERED_ITEMS", 3)
    path = run.history / "a.jsonl"
    pages = [page(make_op, n, *((f"p{k}", k, k, k) for k in range(n, n + 3))) for n in range(1, 6)]
    with HistoryWriter(path) as writer:
        for op in pages:
            writer.append(op)
    assert list(read_segment(path)) == pages


def test_ids_of_processes_differ(run: RunDirectory) -> None:
    names = ["locust-0", "locust-1", "final", "setup", *(f"streams-{i}" for i in range(32))]
    writers = [HistoryWriter(run.history / f"{name}.jsonl") for name in names]
    blocks = {writer.next_id() >> 38 for writer in writers}
    assert len(blocks) == len(names)
    first = writers[0].next_id()
    assert [writers[0].next_id() for _ in range(3)] == [first + 1, first + 2, first + 3]
    for writer in writers:
        writer.close()


def test_two_processes_never_share_a_segment(run: RunDirectory) -> None:
    with HistoryWriter(run.history / "a.jsonl"), pytest.raises(FileExistsError):
        HistoryWriter(run.history / "a.jsonl")


def test_a_full_disk_loses_nothing_that_comes_after(
    run: RunDirectory, make_op: MakeOp, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = run.history / "a.jsonl"
    write = os.write
    left = [40]

    def full(file: int, data: bytes) -> int:
        if not left:
            raise OSError(28, "No space left on device")
        return write(file, data[: left.pop()])

    with HistoryWriter(path) as writer:
        writer.append(make_op(1))
        monkeypatch.setattr(history.os, "write", full)
        with pytest.raises(OSError, match="No space left"):
            writer.flush()
        monkeypatch.undo()
        assert path.read_bytes() == b""
        writer.append(make_op(2))
    assert [op.id for op in read_segment(path)] == [1, 2]


WRITE_FOR_EVER = """
import itertools, sys
from pathlib import Path
from harness.core.clock import now_ns
from harness.core.op import Op, OpKind, OpOutcome
from harness.record.history import HistoryWriter
writer = HistoryWriter(Path(sys.argv[1]))
for number in itertools.count():
    now = now_ns()
    writer.append(Op(id=number, kind=OpKind.FEED, session="s", user=1, region="r", due_ns=now, sent_ns=now, done_ns=now,
                     outcome=OpOutcome.OK, ids=[str(number)], item_ts_us=[1], item_authors=[1], item_hashes=[1]))
    if number % 100 == 0:
        print(number, now, flush=True)
"""


@pytest.mark.slow
def test_a_killed_process_loses_less_than_a_second(run: RunDirectory) -> None:
    path = run.history / "a.jsonl"
    command = [sys.executable, "-c", WRITE_FOR_EVER, str(path)]
    told: list[tuple[int, int]] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            number, at_ns = map(int, line.split())
            told.append((number, at_ns))
            if at_ns - told[0][1] > 1_600_000_000:
                process.send_signal(signal.SIGKILL)
    kept = [op.id for op in read_segment(path)]
    assert kept == list(range(len(kept)))
    last_ns = told[-1][1]
    assert [number for number, at_ns in told if number >= len(kept) and at_ns < last_ns - 1_000_000_000] == []
    assert kept
