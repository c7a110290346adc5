from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from reference_server.durable import ArchiveBatch, DurableUnavailable, PostKey, PostRow, SqliteReader, SqliteWriter
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
    batch = ArchiveBatch([row(A), row(B)], [(B, 3)])
    writer.archive(batch)
    writer.archive(batch)
    writer.close()
    assert await posts(tmp_path, A, B) == {A: row(A), B: row(B, status=3)}


async def test_a_status_holds_whether_it_comes_before_or_after_its_post(tmp_path: Path) -> None:
    writer = SqliteWriter(tmp_path / FILE_NAME)
    writer.archive(ArchiveBatch([row(A)]))
    writer.archive(ArchiveBatch(statuses=[(A, 3), (B, 3)]))
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


async def test_a_closed_reader_is_unavailable(tmp_path: Path) -> None:
    reader = SqliteReader(tmp_path / FILE_NAME)
    await reader.close()
    with pytest.raises(DurableUnavailable):
        await reader.posts([A])
