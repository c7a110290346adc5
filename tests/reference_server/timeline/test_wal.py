"""The log: whole batches, in order, whatever cuts them off."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from reference_server.timeline.entry import Status
from reference_server.timeline.index import StatusMark
from reference_server.timeline.wal import COMPLETE, Kind, Progress, Wal


def write(wal: Wal, numbers: range) -> None:
    """One batch."""
    batch = wal.batch()
    for number in numbers:
        batch.record(number, bytes([number % 256]) * 37, Kind.POST, number.to_bytes(4, "little"))
    batch.position("posts", f"{numbers[-1]}-0")
    wal.write(batch)


def test_everything_reads_back(tmp_path: Path) -> None:
    wal = Wal(tmp_path / "0")
    write(wal, range(1, 4))
    batch = wal.batch()
    batch.seen(b"p" * 16, b"posts:1-0")
    batch.status(b"q" * 16, StatusMark(Status.HIDDEN_BY_AUTHOR, 77))
    batch.hot(7, 1234)
    batch.merged(8, 99)
    batch.number("applied", 3)
    begun = (Progress("6-0", 2, b"r" * 16, 77), Progress("7-0", COMPLETE, b"s" * 16))
    batch.position("celeb", "5-0", begun)
    wal.write(batch)
    epoch = wal.epoch
    wal.close()
    wal = Wal(tmp_path / "0")
    assert wal.epoch == epoch
    assert [(r.number, r.entry, r.kind, r.page) for r in wal.records(2)] == [
        (n, bytes([n]) * 37, Kind.POST, n.to_bytes(4, "little")) for n in (2, 3)
    ]
    assert wal.last_record() == 3
    assert (wal.seen(b"p" * 16), wal.seen(b"x" * 16)) == (b"posts:1-0", None)
    assert wal.statuses() == {b"q" * 16: StatusMark(Status.HIDDEN_BY_AUTHOR, 77)}
    assert (wal.hot_until(), wal.merged()) == ({7: 1234}, {8: 99})
    assert (wal.number("applied"), wal.number("never")) == (3, 0)
    assert wal.position("posts") == ("3-0", ())
    assert wal.position("celeb") == ("5-0", begun)
    wal.clear_records()
    assert list(wal.records()) == []
    wal.close()


@pytest.mark.parametrize("torn_bytes", [1, 37, 200, 2500])
def test_a_torn_tail_drops_whole_batches_and_their_positions(tmp_path: Path, torn_bytes: int) -> None:
    wal = Wal(tmp_path / "0")
    for start in range(1, 400, 10):
        write(wal, range(start, start + 10))
    newest = max((tmp_path / "0").glob("*.log"), key=lambda path: path.stat().st_mtime)
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in (tmp_path / "0").iterdir():  # as after kill -9: nothing was closed or flushed
        (copy / path.name).write_bytes(path.read_bytes())
    wal.close()
    log = copy / newest.name
    log.write_bytes(log.read_bytes()[:-torn_bytes])
    (copy / "LOCK").unlink(missing_ok=True)
    torn = Wal(copy)
    numbers = [record.number for record in torn.records()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) % 10 == 0
    assert len(numbers) < 400
    assert torn.position("posts") == (f"{numbers[-1]}-0", ())
    torn.close()


class SlowDisk:
    """A database whose `flush_wal` takes until it is let go on, and may fail."""

    def __init__(self, db: Any) -> None:
        self.asked, self.go_on = threading.Event(), threading.Event()
        self.fails = False
        self._db = db

    def flush_wal(self, sync: bool) -> None:
        self.asked.set()
        assert self.go_on.wait(10)
        if self.fails:
            raise OSError("disk")
        self._db.flush_wal(sync)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)


def test_it_counts_as_synced_once_it_is_on_disk(tmp_path: Path) -> None:
    wal = Wal(tmp_path / "0")
    wal._db = disk = SlowDisk(wal._db)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(wal.sync)
        assert disk.asked.wait(10)
        assert not wal.is_synced, "the position must not be told yet"
        write(wal, range(1, 4))
        second = threads.submit(wal.sync)
        disk.fails = True
        disk.go_on.set()
        for done in (first, second):
            assert isinstance(done.exception(10), OSError)
        assert not wal.is_synced
        disk.fails = False
        wal.sync()
        assert wal.is_synced
    wal.close()


def test_a_log_that_knew_one_post_in_progress_only_is_read(tmp_path: Path) -> None:
    wal = Wal(tmp_path / "0")
    batch = wal.batch()
    batch.raw.put(b"pos:celeb", b"5-0")
    batch.raw.put(b"progress:celeb", msgspec.msgpack.encode(["6-0", 2, b"r" * 16]))
    wal.write(batch)
    assert wal.position("celeb") == ("5-0", (Progress("6-0", 2, b"r" * 16),))
    wal.close()


def test_what_is_not_flushed_is_bounded_and_the_block_cache_counts_once(tmp_path: Path) -> None:
    wal = Wal(tmp_path / "0", buffer_mb=1)
    most = 0
    for start in range(1, 20_001, 100):
        batch = wal.batch()
        for number in range(start, start + 100):
            batch.record(number, bytes(37), Kind.POST, bytes(600))
        wal.write(batch)
        most = max(most, wal.memory_bytes())
    assert most < 4 << 20, "12 MB were written"
    assert len(list(wal.records())) == 20_000
    assert wal.memory_bytes() < (16 + 4) << 20, "the families share a block cache of 16 MB"
    wal.close()
