from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from reference_server.durable.sqlite_writer import SqliteWriter
from reference_server.events import DeleteEvent, PostEvent
from reference_server.jobs.archiver import Archiver
from reference_server.jobs.store import Store
from reference_server.jobs.tombstones import Tombstones
from reference_server.queue import Entry, QueueUnavailable, position_key

POST, OTHER = b"p" * 16, b"o" * 16


class Keeper:
    """The posts stream; redis-queue fails as often as told when keys are let go of."""

    def __init__(self) -> None:
        self.stream = [
            Entry("1-0", PostEvent(POST, 1, 5, "hello", "us-east")),
            Entry("2-0", DeleteEvent(OTHER, 2, "us-east")),
        ]
        self.failures = 0
        self.released: list[bytes] = []

    async def entries(self, stream: str, after: str, count: int) -> list[Entry]:
        found = self.stream if stream == "posts" else []
        return [entry for entry in found if position_key(entry.id) > position_key(after)][:count]

    async def last(self, stream: str, up_to: str, count: int) -> list[Entry]:
        return [entry for entry in self.stream if position_key(entry.id) <= position_key(up_to)][::-1][:count]

    async def archived(self, posts: Iterable[bytes], deleted: Iterable[bytes], changed: Iterable[bytes]) -> None:
        if self.failures:
            self.failures -= 1
            raise QueueUnavailable("away", definite=False)
        self.released += [*posts, *deleted, *changed]


@pytest.fixture
def keeper() -> Keeper:
    return Keeper()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = Store(SqliteWriter(tmp_path / "durable.db"))
    yield opened
    await opened.close()


class NoCache:
    async def bury(self, post_id: bytes, author: int) -> bool:
        return False

    async def lift(self, post_id: bytes) -> bool:
        return False


def archiver_of(keeper: Keeper, store: Store) -> Archiver:
    return Archiver(keeper, store, Tombstones(NoCache()))  # type: ignore[arg-type]


async def test_keys_that_redis_did_not_let_go_of_are_let_go_of_in_the_next_step(keeper: Keeper, store: Store) -> None:
    archiver = archiver_of(keeper, store)
    keeper.failures = 1
    with pytest.raises(QueueUnavailable):
        await archiver.step()
    assert archiver.positions["posts"] == "0-0"  # not trimmed either: a new process finds the entries
    assert (await store.positions())["posts"] == "2-0"
    keeper.stream.append(Entry("3-0", PostEvent(b"q" * 16, 1, 6, "later", "us-east")))
    await archiver.step()
    assert keeper.released == [POST, b"q" * 16, OTHER]
    assert archiver.positions["posts"] == "3-0"
    assert dict(await store.hidden(10)) == {OTHER: -1}


async def test_nothing_may_be_trimmed_until_the_last_process_s_keys_are_let_go_of(keeper: Keeper, store: Store) -> None:
    await archiver_of(keeper, store).step()
    keeper.released.clear()
    keeper.failures = 1
    restarted = archiver_of(keeper, store)
    with pytest.raises(QueueUnavailable):
        await restarted.start()
    assert restarted.positions["posts"] == "0-0"
    await restarted.start()
    assert keeper.released == [POST, OTHER]
    assert restarted.positions["posts"] == "2-0"
