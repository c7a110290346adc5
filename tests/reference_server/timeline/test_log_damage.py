"""A log that is torn, overwritten or gone: the lane goes on, with what is whole or with a new log, and says so."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reference_server.timeline.entry import Status, pack_entry
from reference_server.timeline.index import Index, StatusMark
from reference_server.timeline.log_files import KEPT, LogDamaged, suspect, suspicion
from reference_server.timeline.owner import LaneOwner
from reference_server.timeline.takeover import take_up
from reference_server.timeline.wal import Kind, Wal
from reference_server.timeline.written import Written

USERS = list(range(4))
MARKED = 1000
"""users and posts with a mark"""
PAGE = np.array(USERS, "<u4").tobytes()


def fill(wal: Wal, first: int, upto: int) -> None:
    """Batches of four records, as fan-out writes them."""
    for start in range(first, upto, 4):
        batch = wal.batch()
        for number in range(start, start + 4):
            post_id = number.to_bytes(16, "big")
            batch.record(number, pack_entry(post_id, number, 1), Kind.POST, PAGE)
            batch.seen(post_id, b"posts:%d-0" % number)
        batch.position("posts", f"{start + 3}-0")
        wal.write(batch)


def mark(wal: Wal) -> None:
    """Some of everything that is not a record."""
    batch = wal.batch()
    for number in range(1, MARKED + 1):
        batch.hot(number, 1 << 40)
        batch.merged(number, number)
        batch.status(number.to_bytes(16, "big"), StatusMark(Status.HIDDEN_BY_AUTHOR, number))
    batch.clock([(1.0, 9)])
    wal.write(batch)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a killed owner left: 4,000 records in tables, 400 in RocksDB's log only."""
    folder = tmp_path_factory.mktemp("killed")
    wal = Wal(folder / "0")
    fill(wal, 1, 4001)
    mark(wal)
    wal.compact(0)
    fill(wal, 4001, 4401)
    (folder / "copy").mkdir()
    for path in (folder / "0").iterdir():  # nothing was closed or flushed
        if path.name != "LOCK":
            shutil.copy(path, folder / "copy")
    wal.close()
    return folder / "copy"


@pytest.fixture
def log(killed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(killed, tmp_path / "7"))


def open_log(directory: Path) -> LaneOwner:
    def make_owner(wal: Wal) -> LaneOwner:
        return LaneOwner(7, wal, Index(wal.epoch, USERS, MARKED + 1, 800), lambda _, __: None)

    return take_up(directory, make_owner)


def newest(directory: Path, pattern: str) -> Path:
    return max(directory.glob(pattern))


def flip(path: Path, share: float, count: int = 64) -> None:
    data = bytearray(path.read_bytes())
    start = int(len(data) * share)
    data[start : start + count] = bytes(byte ^ 0xFF for byte in data[start : start + count])
    path.write_bytes(data)


def cut(path: Path, size_bytes: int) -> None:
    os.truncate(path, size_bytes)


def become_a_file(log: Path) -> None:
    shutil.rmtree(log)
    log.write_bytes(b"garbage")


TORN: dict[str, Callable[[Path], None]] = {
    "the last record torn": lambda log: cut(newest(log, "*.log"), newest(log, "*.log").stat().st_size - 20),
    "the log of RocksDB cut in the middle": lambda log: cut(
        newest(log, "*.log"), newest(log, "*.log").stat().st_size // 2
    ),
    "RocksDB's log gone": lambda log: [path.unlink() for path in log.glob("*.log")] and None,
    "bytes of RocksDB's log flipped": lambda log: flip(newest(log, "*.log"), 0.6),
}
DAMAGED: dict[str, Callable[[Path], None]] = {
    "bytes of all tables flipped": lambda log: [flip(path, 0.3) for path in log.glob("*.sst")] and None,
    "a table cut": lambda log: cut(newest(log, "*.sst"), 100),
    "a table gone": lambda log: newest(log, "*.sst").unlink(),
    "CURRENT gone": lambda log: (log / "CURRENT").unlink(),
    "CURRENT garbage": lambda log: (log / "CURRENT").write_bytes(b"\x00garbage") and None,
    "MANIFEST garbage": lambda log: newest(log, "MANIFEST*").write_bytes(b"garbage" * 9) and None,
    "garbage everywhere": lambda log: [path.write_bytes(b"garbage" * 9) for path in log.iterdir()] and None,
    "a file instead of a directory": lambda log: become_a_file(log),
}
HARMLESS: dict[str, Callable[[Path], None]] = {
    "OPTIONS garbage": lambda log: [path.write_bytes(b"garbage" * 9) for path in log.glob("OPTIONS*")] and None,
    "rocksdict's settings garbage": lambda log: (log / "rocksdict-config.json").write_bytes(b"{") and None,
}
"""what is made anew from what the lane itself asks for"""


def test_a_log_left_by_a_kill_is_whole(log: Path) -> None:
    owner = open_log(log)
    assert owner.index.next == 4401
    owner.wal.close()


@pytest.mark.parametrize("tear", TORN.values(), ids=TORN)
def test_a_torn_tail_costs_whole_batches_and_the_queue_delivers_them_again(
    log: Path, tear: Callable[[Path], None]
) -> None:
    tear(log)
    owner = open_log(log)
    last = owner.index.next - 1
    assert 4000 <= last < 4400
    assert last % 4 == 0
    assert owner.wal.position("posts") == (f"{last}-0", ())
    assert owner.wal.seen((last + 1).to_bytes(16, "big")) is None
    assert owner.index.ids_of(3)[-1] == (last).to_bytes(16, "big")
    fill(owner.wal, last + 1, last + 9)
    owner.wal.close()
    assert not list(log.parent.glob("*.damaged-*"))
    again = open_log(log)
    assert again.index.next == last + 9
    again.wal.close()


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_log_is_set_aside_and_a_new_one_begun(
    log: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    written = Written(log.with_name("7.written"))
    written.begin(before := 20_000, 1)
    written.close()
    damage(log)
    owner = open_log(log)
    assert owner.index.next == 1, "the damage was not noticed"
    assert owner.wal.epoch > before
    assert owner.wal.number("restoring") == 1
    assert owner.wal.position("posts") == ("0-0", ())
    owner.wal.close()
    assert len(list(log.parent.glob("7.damaged-*"))) == 1
    (line,) = [record for record in caplog.records if "damaged" in record.message]
    assert "the log 7 is damaged, moved to 7.damaged-" in line.message


@pytest.mark.parametrize("damage", HARMLESS.values(), ids=HARMLESS)
def test_a_log_whose_damage_does_not_matter_is_read_in_full(log: Path, damage: Callable[[Path], None]) -> None:
    before = {path.name: path.read_bytes() for path in log.iterdir()}
    damage(log)
    assert {path.name: path.read_bytes() for path in log.iterdir()} != before, "nothing was damaged"
    owner = open_log(log)
    assert owner.index.next == 4401
    owner.wal.close()
    assert not list(log.parent.glob("7.damaged-*"))


def content(owner: LaneOwner) -> list[Any] | None:
    """All that an owner goes by; None: it turned out damaged."""
    wal = owner.wal
    try:
        seen = [wal.seen(number.to_bytes(16, "big")) for number in range(1, 4401, 9)]
        marks = [wal.statuses(), wal.hot_until(), wal.merged(), wal.clock(), wal.position("posts")]
    except LogDamaged:
        return None
    return [owner.index.next, owner.applied, seen, [owner.index.ids_of(user) for user in USERS], *marks]


@pytest.fixture(scope="module")
def whole(killed: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Any] | None:
    """What an owner finds in the log when nothing is damaged."""
    owner = open_log(Path(shutil.copytree(killed, tmp_path_factory.mktemp("whole") / "7")))
    found = content(owner)
    owner.wal.close()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("part", range(8))
def test_bytes_flipped_anywhere_in_a_table_are_noticed_or_change_nothing(
    killed: Path, whole: list[Any] | None, part: int, tmp_path: Path
) -> None:
    """The owner finds what was written, or goes by a new log; at once, or at the next start when it shows in use."""
    for table in sorted(path.name for path in killed.glob("*.sst")):
        log = Path(shutil.copytree(killed, tmp_path / table / "7"))
        flip(log / table, part / 8, 16)
        owner = open_log(log)
        if owner.index.next > 1 and (found := content(owner)) is not None:
            assert found == whole, table
        elif owner.index.next > 1:
            owner.wal.close()
            owner = open_log(log)
            assert owner.index.next == 1, table
        owner.wal.close()


def test_only_the_newest_damaged_logs_are_kept(log: Path) -> None:
    for _ in range(KEPT + 2):
        shutil.rmtree(log, ignore_errors=True)
        log.mkdir()
        (log / "CURRENT").write_bytes(b"garbage")
        open_log(log).wal.close()
    assert len(list(log.parent.glob("7.damaged-*"))) == KEPT


def test_a_log_that_turns_out_damaged_while_in_use_is_not_opened_again(log: Path) -> None:
    owner = open_log(log)
    error = owner.wal._told(Exception("Corruption: block checksum mismatch"))
    assert isinstance(error, LogDamaged)
    owner.wal.close()
    assert "checksum" in suspicion(log)
    again = open_log(log)
    assert again.index.next == 1
    assert suspicion(log) == ""
    again.wal.close()


def test_a_suspicion_whose_log_is_gone_hinders_nobody(log: Path) -> None:
    suspect(log, "checksum")
    shutil.rmtree(log)
    for records in (0, 8):
        owner = open_log(log)
        assert (owner.index.next, suspicion(log)) == (1 + records, "")
        fill(owner.wal, 1, 9)
        owner.wal.close()


def test_a_log_in_use_is_no_damage(log: Path) -> None:
    owner = open_log(log)
    with pytest.raises(Exception, match="lock"):
        open_log(log)
    owner.wal.close()
    assert log.is_dir()


def test_a_log_that_keeps_no_records_begins_anew_each_time(tmp_path: Path) -> None:
    wal = Wal(tmp_path / "7", keeps_records=False)
    fill(wal, 1, 9)
    batch = wal.batch()
    batch.merged(3, 8)
    batch.hot(3, 1 << 40)
    batch.clock([(1.0, 9)])
    wal.write(batch)
    assert list(wal.records()) == []
    epoch = wal.epoch
    wal.close()
    wal = Wal(tmp_path / "7", keeps_records=False)
    assert wal.epoch > epoch
    assert (wal.position("posts")[0], wal.number("restoring")) == ("8-0", 0)
    assert wal.seen((8).to_bytes(16, "big")) is not None
    assert wal.number("horizon") > 0
    assert (wal.merged(), wal.clock(), wal.hot_until()) == ({}, [], {3: 1 << 40})
    epoch = wal.epoch
    wal.close()
    wal = Wal(tmp_path / "7")
    assert wal.epoch > epoch
    assert wal.number("restoring") == 1
    assert wal.seen((8).to_bytes(16, "big")) is None
    wal.close()
