"""A log that is shorter than it was: no number is given out twice, and what its tail held comes again."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest
from lane_servers import GraphStub, OpenLane, ids_of, make_settings
from real_servers import Server

from reference_server.timeline.cached import Slots
from reference_server.timeline.display import Key
from reference_server.timeline.entry import EPOCH_SHIFT
from reference_server.timeline.reader import TimelineReader
from reference_server.timeline.slots import SLOT_DTYPE
from reference_server.timeline.wal import Kind, Wal
from reference_server.timeline.written import Written

Open = Callable[..., OpenLane]
USER, COLD, HOT = 7, 1, 2


def write(wal: Wal, first: int, upto: int) -> None:
    for number in range(first, upto):
        batch = wal.batch()
        batch.record(number, bytes(37), Kind.POST, bytes(4))
        wal.write(batch)


def copy_of(folder: Path) -> Path:
    """The log as a SIGKILL at this moment would leave it."""
    return Path(shutil.copytree(folder, folder.with_name("copy"), ignore=shutil.ignore_patterns("LOCK")))


def put_back(copy: Path, folder: Path) -> None:
    shutil.rmtree(folder)
    copy.rename(folder)


def test_the_end_of_the_process_is_no_loss(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    wal = Wal(tmp_path / "0")
    write(wal, 1, 100)
    behind = (tmp_path / "0.written").read_bytes()
    write(wal, 100, 102)
    copy, epoch = copy_of(tmp_path / "0"), wal.epoch
    wal.close()
    put_back(copy, tmp_path / "0")
    (tmp_path / "0.written").write_bytes(behind)  # the process ended between the two
    for _ in range(2):
        wal = Wal(tmp_path / "0")
        assert (wal.epoch, wal.number("next"), wal.number("tail-lost")) == (epoch, 102, 0)
        wal.close()
    assert caplog.text == ""


def test_records_that_are_gone_raise_the_epoch_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    wal = Wal(tmp_path / "0")
    write(wal, 1, 91)
    batch = wal.batch()
    batch.number("gen:1", wal.epoch << 20 | 5)
    wal.write(batch)
    copy, epoch = copy_of(tmp_path / "0"), wal.epoch
    write(wal, 91, 101)
    wal.close()
    put_back(copy, tmp_path / "0")
    for _ in range(2):
        wal = Wal(tmp_path / "0")
        assert (wal.epoch, wal.number("epoch"), wal.number("next"), wal.number("tail-lost")) == (
            epoch + 1,
            epoch + 1,
            91,
            1,
        )
        assert wal.number("gen") == wal.number("gen:1") == (epoch + 1) << 20
        wal.close()
    (line,) = caplog.messages
    assert f"the log 0 lost its tail, going on under epoch {epoch + 1}: it ends at record 90" in line


def test_an_epoch_that_is_gone_with_the_tail_is_not_used_again(tmp_path: Path) -> None:
    wal = Wal(tmp_path / "0")
    write(wal, 1, 11)
    copy, epoch = copy_of(tmp_path / "0"), wal.epoch
    write(wal, 11, 21)
    wal.close()
    put_back(copy, tmp_path / "0")
    copy = copy_of(tmp_path / "0")
    wal = Wal(tmp_path / "0")
    assert wal.epoch == epoch + 1
    wal.close()
    put_back(copy, tmp_path / "0")
    wal = Wal(tmp_path / "0")
    assert wal.epoch == epoch + 2
    wal.close()


def test_after_a_start_of_the_host_the_tail_counts_as_lost(tmp_path: Path) -> None:
    written = Written(tmp_path / "0.written", b"a" * 16)
    assert written.lost_tail(9, 100) == ""
    written.begin(9, 100)
    written.note(200)
    written.close()
    written = Written(tmp_path / "0.written", b"a" * 16)
    assert (written.lost_tail(9, 200), written.lost_tail(9, 250)) == ("", "")
    assert "199 of 9 were written" in written.lost_tail(9, 199)
    written.close()
    written = Written(tmp_path / "0.written", b"b" * 16)
    assert "host" in written.lost_tail(9, 200)
    written.close()


@pytest.fixture
async def reader(tmp_path: Path, memcached: Server, sockets: str) -> AsyncIterator[TimelineReader]:
    async def pull(user: int, after: Key | None) -> Slots | None:
        return np.zeros(0, SLOT_DTYPE)

    settings = make_settings(tmp_path, sockets, memcached=memcached.port)
    opened = TimelineReader(settings, settings.region("test"), pull, owner_timeout_s=2.0)
    await opened.wait_connected(5)
    yield opened
    await opened.close()


async def test_nobody_misses_what_comes_again_under_other_numbers(
    open_lane: Open, graph: GraphStub, tmp_path: Path, sockets: str, reader: TimelineReader
) -> None:
    """USER's session, and a cold author's post handed over with it, were in the tail; a listener knows numbers."""
    graph.follow(COLD, [USER], hot=False)
    lane = await open_lane().join()
    owed, direct = lane.post(COLD, hot=[], cold=[USER]), lane.post(HOT, hot=[USER])
    await lane.applied()
    copy = copy_of(tmp_path / "lane")
    await lane.serve(f"{sockets}/test.lane-0.sock")
    assert ids_of((await reader.read(USER)).slots) == [direct, owed]
    for _ in range(5):
        lane.post(HOT, hot=[USER])
    await lane.applied()
    await reader.settle()
    token, epoch = lane.owner.head, lane.owner.index.epoch
    reader._owners[0].close()  # as the end of the owner's process would
    await lane.close()
    put_back(copy, tmp_path / "lane")

    lane = await open_lane().join()
    assert (lane.owner.index.epoch, lane.ids(USER)) == (epoch + 1, [direct])
    again = [lane.post(COLD, hot=[], cold=[USER]), *(lane.post(HOT, hot=[USER]) for _ in range(9))]
    assert lane.ids(USER) == [direct, *again], "who may have a session counts as active"
    await lane.applied()
    assert record_of(lane.owner.head) > record_of(token)
    assert lane.owner.missed(USER, token) is None
    await lane.serve(f"{sockets}/test.lane-0.sock")
    view = await reader.read(USER)
    assert (view.degraded, set(ids_of(view.slots))) == ("", {owed, direct, *again}), "what is owed is handed over again"


def record_of(seq: int) -> int:
    return seq & (1 << EPOCH_SHIFT) - 1
