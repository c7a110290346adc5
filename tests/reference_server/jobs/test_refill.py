"""A damaged archive is moved aside, and what it held comes back from the peer."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from real_servers import free_port

from reference_server.durable import ArchiveBatch, PostRow, SqliteReader, SqliteWriter, StatusRow
from reference_server.durable.archive_pages import REFILL, REFILLED, ArchivePages
from reference_server.durable.replay import DurableDamaged
from reference_server.jobs import refill
from reference_server.jobs.refill import Refill, open_archive
from reference_server.jobs.store import Store
from reference_server.replication.server import OutboxServer

SECRET = b"s" * 32
POSTS = 1200
HIDDEN, MODERATED, DELETED = 1, 2, 3


def post_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def fill(path: Path, first: int = 0) -> None:
    """An archive of 1,200 posts with all kinds of statuses."""
    writer = SqliteWriter(path)
    rows = [PostRow(post_id(n), n % 7, 1000 + n, f"text {n}", b"", labels=n % 4) for n in range(first, POSTS)]
    statuses = [
        StatusRow(post_id(1), HIDDEN, 50),
        StatusRow(post_id(2), HIDDEN, 60),
        StatusRow(post_id(2), MODERATED, 70),
        StatusRow(post_id(3), DELETED),
        StatusRow(post_id(4), HIDDEN, 80),
        StatusRow(post_id(4), 0, 90),
        StatusRow(post_id(5000), HIDDEN, 95),  # its post is on its way
    ]
    writer.archive(ArchiveBatch(rows, statuses, {"posts": "9-0"}))
    writer.close()


def everything(path: Path) -> list[object]:
    pages = ArchivePages(path)
    rows = pages.page(b"", 10 * POSTS)
    pages.close()
    return list(rows)


def damage(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


@asynccontextmanager
async def peer(archive: Path) -> AsyncIterator[int]:
    """The serving side of a peer's replicator, over its archive; yields its port."""
    port = free_port()
    server = await OutboxServer("ap-tokyo", frozenset({"us-east"}), SECRET, 1, archive).serve(port)
    try:
        yield port
    finally:
        server.close()
        await server.wait_closed()


async def refilled(store: Store, port: int, secret: bytes = SECRET) -> None:
    async with asyncio.timeout(20):
        await Refill(store, "us-east", {"ap-tokyo": port}, secret).run()


async def test_a_damaged_archive_comes_back_from_the_peer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ours, theirs = tmp_path / "ours.db", tmp_path / "theirs.db"
    fill(ours)
    fill(theirs)
    whole = everything(theirs)
    assert len(whole) == POSTS + 1
    damage(ours)
    store = Store(open_archive(ours))
    assert "ours.db is damaged" in caplog.text
    assert Path(f"{ours}.damaged").exists()
    assert await store.positions() == {REFILL: ""}
    late = PostRow(post_id(POSTS + 1), 1, 5, "archived meanwhile", b"")
    await store.archive(ArchiveBatch([late], [StatusRow(post_id(4), HIDDEN, 99)], {"posts": "10-0"}))
    async with peer(theirs) as port:
        await refilled(store, port)
        assert await store.positions() == {REFILL: REFILLED, "posts": "10-0"}
        await refilled(store, port)  # nothing is lacking
    await store.close()
    found = {row.id: row for row in everything(ours)}  # type: ignore[attr-defined]
    changed = found.pop(post_id(4))
    assert (changed.status, changed.status_hlc) == (HIDDEN, 99)
    assert found.pop(late.id).text == "archived meanwhile"
    assert found == {row.id: row for row in whole if row.id != post_id(4)}  # type: ignore[attr-defined]
    intact = open_archive(ours)
    assert intact.positions()[REFILL] == REFILLED
    intact.close()


async def test_it_goes_on_where_it_stood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = tmp_path / "theirs.db"
    fill(theirs)
    store = Store(SqliteWriter(tmp_path / "ours.db"))
    await store.archive(ArchiveBatch(positions={REFILL: post_id(POSTS - 11).hex()}))
    async with peer(theirs) as port:
        await refilled(store, port)
    await store.close()
    assert len(everything(tmp_path / "ours.db")) == 10 + 1


async def test_a_peer_that_lacks_posts_itself_or_a_stranger_gives_and_gets_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refill, "RETRY_S", 0.01)
    theirs = tmp_path / "theirs.db"
    fill(theirs)
    store = Store(SqliteWriter(tmp_path / "ours.db"))
    await store.archive(ArchiveBatch(positions={REFILL: ""}))
    async with peer(theirs) as port:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await refilled(store, port, b"another secret")
        writer = SqliteWriter(theirs)
        writer.archive(ArchiveBatch(positions={REFILL: "00"}))
        writer.close()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await refilled(store, port)
    await store.close()
    assert everything(tmp_path / "ours.db") == []


@pytest.mark.parametrize("page", [0, 3])
def test_damage_that_is_met_later_is_no_passing_failure(tmp_path: Path, page: int) -> None:
    path = tmp_path / "ours.db"
    fill(path)
    writer = SqliteWriter(path)
    db = sqlite3.connect(path)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    with path.open("r+b") as file:
        for place in range(page, path.stat().st_size // 4096):
            file.seek(4096 * place)
            file.write(b"\xff" * 4096)
    everywhere = [PostRow(post_id(number) + b"x", 1, number, "x", b"") for number in range(0, POSTS, 10)]
    with pytest.raises(DurableDamaged):
        writer.archive(ArchiveBatch(everywhere))
    writer.close()


USES: dict[str, Callable[[SqliteWriter], object]] = {
    "archive": lambda writer: writer.archive(ArchiveBatch([PostRow(post_id(1) + b"x", 1, 5, "x", b"")])),
    "prefill": lambda writer: writer.prefill([PostRow(post_id(1) + b"x", 1, 5, "x", b"")]),
    "positions": SqliteWriter.positions,
    "statuses": lambda writer: writer.statuses([post_id(number) for number in range(POSTS)]),
    "hidden": lambda writer: writer.hidden(10),
    "shown": lambda writer: writer.shown(10),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_large_archive_is_moved_aside_once_its_damage_was_met(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, use: Callable[..., object]
) -> None:
    monkeypatch.setattr(refill, "CHECK_BELOW_BYTES", 0)
    path = tmp_path / "ours.db"
    fill(path)
    with path.open("r+b") as file:
        for place in range(1, path.stat().st_size // 4096):  # the first page is the schema: what a start looks at
            file.seek(4096 * place)
            file.write(b"\xff" * 4096)
    with pytest.raises(DurableDamaged):
        met(path, use)
    assert "ours.db is damaged" not in caplog.text
    writer = open_archive(path)
    assert "ours.db is damaged" in caplog.text
    assert writer.positions() == {REFILL: ""}
    use(writer)
    writer.close()
    caplog.clear()
    open_archive(path).close()
    assert caplog.text == ""


def met(path: Path, use: Callable[[SqliteWriter], object]) -> None:
    """As a jobs process that ends with the error."""
    writer = open_archive(path)
    try:
        use(writer)
    finally:
        writer.close()


async def test_a_store_that_is_locked_for_a_while_is_refilled_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refill, "RETRY_S", 0.01)
    ours, theirs = tmp_path / "ours.db", tmp_path / "theirs.db"
    fill(theirs)
    writer = SqliteWriter(ours)
    writer._db.execute("PRAGMA busy_timeout=1")
    store = Store(writer)
    await store.archive(ArchiveBatch(positions={REFILL: ""}))
    other = sqlite3.connect(ours, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    async with peer(theirs) as port:
        task = asyncio.ensure_future(refilled(store, port))
        await asyncio.wait([task], timeout=0.3)
        assert not task.done()
        other.execute("ROLLBACK")
        other.close()
        await task
    assert (await store.positions())[REFILL] == REFILLED
    await store.close()
    assert len(everything(ours)) == POSTS + 1


async def test_a_reader_finds_the_new_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reference_server.durable.sqlite_reader.LOOK_EVERY_S", 0.0)
    path = tmp_path / "ours.db"
    fill(path)
    reader = SqliteReader(path)
    assert post_id(1) in await reader.posts([post_id(1)])
    damage(path)
    writer = open_archive(path)
    assert await reader.posts([post_id(1)]) == {}
    writer.archive(ArchiveBatch([PostRow(post_id(1), 1, 5, "again", b"")]))
    assert (await reader.posts([post_id(1)]))[post_id(1)].text == "again"
    writer.close()
    await reader.close()


def test_posts_shown_again_are_known_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "ours.db"
    fill(path)
    writer = SqliteWriter(path)
    assert writer.shown(10) == [post_id(4)]
    writer.archive(ArchiveBatch(statuses=[StatusRow(post_id(1), 0, 100)]))
    assert writer.shown(10) == [post_id(1), post_id(4)]
    assert writer.shown(1) == [post_id(1)]
    writer.close()
