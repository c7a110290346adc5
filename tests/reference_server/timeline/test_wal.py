"""The log: whole batches, in order, whatever cuts them off."""

from __future__ import annotations

from pathlib import Path

import pytest

from reference_server.timeline.entry import Status
from reference_server.timeline.wal import Kind, Progress, Wal


def write(wal: Wal, numbers: range) -> None:
    """One batch."""
    batch = wal.batch()
    for number in numbers:
        batch.record(number, bytes([number % 256]) * 37, Kind.POST, number.to_bytes(4, "little"))
    batch.position("posts", f"{numbers[-1]}-0", None)
    wal.write(batch)


def test_everything_reads_back(tmp_path: Path) -> None:
    wal = Wal(tmp_path / "0")
    write(wal, range(1, 4))
    batch = wal.batch()
    batch.seen(b"p" * 16, b"posts:1-0")
    batch.status(b"q" * 16, Status.DELETED)
    batch.hot(7, 1234)
    batch.merged(8, 99)
    batch.number("applied", 3)
    batch.position("celeb", "5-0", Progress("6-0", 2, b"r" * 16))
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
    assert wal.statuses() == {b"q" * 16: Status.DELETED}
    assert (wal.hot_until(), wal.merged()) == ({7: 1234}, {8: 99})
    assert (wal.number("applied"), wal.number("never")) == (3, 0)
    assert wal.position("posts") == ("3-0", None)
    assert wal.position("celeb") == ("5-0", Progress("6-0", 2, b"r" * 16))
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
    assert torn.position("posts") == (f"{numbers[-1]}-0", None)
    torn.close()
