from __future__ import annotations

import asyncio
import sqlite3
import time
from pathlib import Path

import pytest

from reference_server.durable import (
    ArchiveBatch,
    DurableUnavailable,
    PostKey,
    PostRow,
    SqliteReader,
    SqliteWriter,
    StatusRow,
    StoredStatus,
)
from reference_server.durable.archive_pages import REFILL, REFILLED
from reference_server.durable.sqlite_writer import FILE_NAME

A, B, C = (bytes([n]) * 16 for n in (1, 2, 3))


def row(post_id: bytes, author: int = 1, ts_us: int = 10, status: int = 0) -> PostRow:
    return PostRow(post_id, author, ts_us, "text", b"", status)


async def posts(folder: Path, *ids: bytes) -> dict[bytes, PostRow]:
    reader = SqliteReader(folder / FILE_NAME)
    try:
        return await reader.posts(ids)
    finally:
        await reader.close()


async def test_rows_and_positions_are_stored_together(tmp_path: Path) -> None:
    writer = SqliteWriter(tmp_path / FILE_NAME)
    writer.archive(ArchiveBatch([row(A)], positions={"posts": "5-1"}))
    with pytest.raises(sqlite3.Error):  # the second row is refused, so nothing of the batch stays
        writer.archive(ArchiveBatch([row(B), row(C, author=None)], positions={"posts": "6-1"}))  # type: ignore[arg-type]
    assert writer.positions() == {"posts": "5-1"}
    writer.close()
    assert await posts(tmp_path, A, B, C) == {A: row(A)}


async def test_repeating_a_batch_changes_nothing(tmp_path: Path) -> None:
    writer = SqliteWriter(tmp_path / FILE_NAME)
    batch = ArchiveBatch([row(A), row(B)], [StatusRow(B, 3)])
    writer.archive(batch)
    writer.archive(batch)
    writer.close()
    assert await posts(tmp_path, A, B) == {A: row(A), B: row(B, status=3)}


async def test_a_status_holds_whether_it_comes_before_or_after_its_post(tmp_path: Path) -> None:
    writer = SqliteWriter(tmp_path / FILE_NAME)
    writer.archive(ArchiveBatch([row(A)]))
    writer.archive(ArchiveBatch(statuses=[StatusRow(A, 3), StatusRow(B, 3)]))
    assert writer.hidden(10) == [(B, -1), (A, 1)]
    writer.archive(ArchiveBatch([row(A), row(B, author=9)]))
    assert writer.hidden(1) == [(B, 9)]
    writer.close()
    assert await posts(tmp_path, A, B) == {A: row(A, status=3), B: row(B, author=9, status=3)}


def test_prefill_happens_once(tmp_path: Path) -> None:
    writer = SqliteWriter(tmp_path / FILE_NAME)
    assert writer.prefill(iter([row(A), row(B)])) == 2
    assert writer.prefill(iter([row(C)])) == 0
    writer.close()
    reopened = SqliteWriter(tmp_path / FILE_NAME)
    assert reopened.prefill(iter([row(C)])) == 0
    reopened.close()


async def test_newest_is_in_display_order_without_hidden_posts(tmp_path: Path) -> None:
    writer = SqliteWriter(tmp_path / FILE_NAME)
    writer.archive(ArchiveBatch([row(A, 1, 10), row(B, 2, 10), row(C, 3, 30), row(bytes(16), 1, 40, status=3)]))
    writer.close()
    reader = SqliteReader(tmp_path / FILE_NAME)
    assert await reader.newest([1, 2], 10) == [PostKey(10, B, 2), PostKey(10, A, 1)]
    assert await reader.newest(range(2000), 2) == [PostKey(30, C, 3), PostKey(10, B, 2)]
    assert await reader.newest([], 2) == []
    assert await reader.posts([]) == {}
    await reader.close()


async def test_the_reader_waits_for_no_file_and_finds_it_later(tmp_path: Path) -> None:
    reader = SqliteReader(tmp_path / FILE_NAME)
    with pytest.raises(DurableUnavailable):
        await reader.posts([A])
    writer = SqliteWriter(tmp_path / FILE_NAME)
    writer.archive(ArchiveBatch([row(A)]))
    assert await reader.posts([A]) == {A: row(A)}
    await reader.close()
    writer.close()


async def test_a_reader_is_not_held_up_by_a_writer(tmp_path: Path) -> None:
    writer = SqliteWriter(tmp_path / FILE_NAME)
    writer.archive(ArchiveBatch([row(A)]))
    blocker = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    reader = SqliteReader(tmp_path / FILE_NAME)
    async with asyncio.timeout(2):
        assert await reader.posts([A]) == {A: row(A)}
    await reader.close()
    blocker.close()
    writer.close()


async def test_a_reader_knows_that_an_archive_is_being_filled_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reference_server.durable.sqlite_reader.LOOK_EVERY_S", 0.0)
    writer, reader = SqliteWriter(tmp_path / FILE_NAME), SqliteReader(tmp_path / FILE_NAME)
    assert (await reader.posts([A]), reader.is_lacking) == ({}, False)
    await reader.close()
    writer.archive(ArchiveBatch(positions={REFILL: ""}))
    reader = SqliteReader(tmp_path / FILE_NAME)
    assert (await reader.posts([A]), reader.is_lacking) == ({}, True)
    writer.archive(ArchiveBatch([row(A)], positions={REFILL: REFILLED}))
    assert (await reader.posts([A]), reader.is_lacking) == ({A: row(A)}, False)
    await reader.close()
    writer.close()


async def test_a_closed_reader_is_unavailable(tmp_path: Path) -> None:
    reader = SqliteReader(tmp_path / FILE_NAME)
    await reader.close()
    with pytest.raises(DurableUnavailable):
        await reader.posts([A])


async def test_the_latest_status_wins_and_a_delete_wins_over_all(tmp_path: Path) -> None:
    writer = SqliteWriter(tmp_path / FILE_NAME)
    writer.archive(ArchiveBatch([row(A), row(B)], [StatusRow(A, 1, 5), StatusRow(A, 2, 9), StatusRow(A, 0, 7)]))
    assert writer.statuses([A, B, C]) == {A: StoredStatus(1, 10, 2, 9, True), B: StoredStatus(1, 10, 0, 0, False)}
    writer.archive(ArchiveBatch(statuses=[StatusRow(A, 0, 10), StatusRow(B, 3), StatusRow(B, 0, 99)]))
    assert writer.statuses([A, B]) == {A: StoredStatus(1, 10, 0, 10, False), B: StoredStatus(1, 10, 3, 0, False)}
    writer.close()


async def test_a_status_that_comes_before_its_post_is_no_post(tmp_path: Path) -> None:
    writer = SqliteWriter(tmp_path / FILE_NAME)
    writer.archive(ArchiveBatch(statuses=[StatusRow(A, 0, 5)]))
    assert await posts(tmp_path, A) == {}
    writer.archive(ArchiveBatch([row(A)._replace(labels=2)]))
    assert await posts(tmp_path, A) == {A: row(A)._replace(labels=2)}
    writer.close()


async def test_a_file_of_an_earlier_version_gets_the_columns_it_lacks(tmp_path: Path) -> None:
    old = sqlite3.connect(tmp_path / FILE_NAME)
    old.execute(
        "CREATE TABLE posts(id BLOB PRIMARY KEY, author INTEGER NOT NULL, ts_us INTEGER NOT NULL, text TEXT NOT NULL,"
        " reply_to BLOB NOT NULL, status INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID"
    )
    old.execute("INSERT INTO posts VALUES (?, 1, 10, 'text', x'', 0)", (A,))
    old.commit()
    old.close()
    for _ in range(2):
        SqliteWriter(tmp_path / FILE_NAME).close()
    assert await posts(tmp_path, A) == {A: row(A)}


async def test_newest_goes_on_behind_any_place_however_old(tmp_path: Path) -> None:
    """Half of the posts stand together, the others days apart; some share a time."""
    now_us, day_us = time.time_ns() // 1000, 86_400_000_000
    times = [now_us - number // 2 for number in range(20)] + [now_us - number * 3 * day_us for number in range(1, 21)]
    rows = [PostRow(bytes([n]) * 16, n % 3, ts_us, "", b"", 0, n % 4) for n, ts_us in enumerate(times)]
    writer = SqliteWriter(tmp_path / FILE_NAME)
    writer.archive(ArchiveBatch(rows, [StatusRow(rows[5].id, 1)]))
    writer.close()
    shown = [row for row in rows if row.author != 2 and row is not rows[5]]
    wanted = sorted((PostKey(row.ts_us, row.id, row.author, row.labels) for row in shown), reverse=True)
    reader = SqliteReader(tmp_path / FILE_NAME)
    assert await reader.newest([0, 1], 100) == wanted
    for count in (1, 3, 7):
        walked: list[PostKey] = []
        place: tuple[int, bytes] | None = None
        while some := await reader.newest([0, 1], count, place):
            walked += some
            place = some[-1][:2]
        assert walked == wanted
    await reader.close()
