"""What is owed to a user: the same as by looking at every record, and found quickly however many are followed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from reference_server.timeline import merge as merge_module
from reference_server.timeline.entry import Status
from reference_server.timeline.index import LONGEST, Index, StatusMark, Users
from reference_server.timeline.merge import ColdMerge
from reference_server.timeline.owner import LaneOwner
from reference_server.timeline.posted import CHUNK, Posted
from reference_server.timeline.slots import SLOT_DTYPE

READER = 3


def index_of(population: int, authors: Users) -> Index:
    """One record a post, by these authors in turn."""
    index = Index(1, range(population), population, 800)
    slots = np.zeros(len(authors), SLOT_DTYPE)
    slots["seq"] = np.arange(1, len(authors) + 1, dtype=np.uint64) | np.uint64(1 << 48)
    slots["id"] = np.arange(1, 2 * len(authors) + 1, dtype=np.uint64).view("V16")
    slots["author"] = authors
    slots["ts_us"] = np.arange(1, len(authors) + 1)
    index.put_slots(slots)
    for place, author in enumerate(authors.tolist()):
        index.note_author(author, place + 1)
    return index


def merge_of(index: Index, depth: int, history: int = 0, watermark: int = 0) -> ColdMerge:
    async def nobody(_: int) -> Sequence[int]:
        return []

    owner: Any = SimpleNamespace(index=index, history=history, merged={READER: watermark})
    return ColdMerge(cast(LaneOwner, owner), nobody, depth)


@pytest.mark.parametrize("few", [0, 1000], ids=["all that was posted", "author by author"])
@pytest.mark.parametrize("seed", range(8))
def test_the_same_as_by_looking_at_every_record(seed: int, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(seed)
    monkeypatch.setattr(merge_module, "FEW_AUTHORS", few)
    monkeypatch.setattr(merge_module, "MANY_RECORDS", int(random.integers(1, 400)))
    monkeypatch.setattr(merge_module, "PIECE", int(random.integers(1, 50)))
    posts, depth = 600, int(random.integers(1, 300))
    authors = random.integers(0, 60, posts).astype(np.uint32)
    index = index_of(60, authors)
    held = np.sort(random.choice(np.arange(1, posts + 1), 100, replace=False))
    for number in held.tolist():
        index.append(number, (READER,))
    deleted = set(random.choice(posts, 50, replace=False).tolist())
    for place in deleted:
        index.set_status((index.slot(place + 1))[8:24], StatusMark(Status.DELETED))
    followees = random.choice(60, 20, replace=False).astype(np.uint32)
    history, watermark = (int(n) for n in random.integers(0, 200, 2))
    owed, newest = merge_of(index, depth, history, watermark)._owed(READER, followees, everything=False)
    wanted = {*followees.tolist(), READER}
    expected = [
        place + 1
        for place in range(max(history, watermark), posts)
        if int(authors[place]) in wanted and place not in deleted and place + 1 not in held
    ]
    shown = sorted([*held.tolist(), *expected])[-depth:]
    assert (owed, newest) == ([number for number in expected if number in shown], posts)


@pytest.mark.parametrize("seed", range(8))
def test_whoever_comes_back_to_many_posts_has_the_newest_hot_or_cold(seed: int) -> None:
    """What is handed over arrives last, and the list is cut by arrival."""
    random = np.random.default_rng(seed)
    posts, depth = 3000, 800
    index = index_of(60, random.integers(0, 60, posts).astype(np.uint32))
    followed, hot = np.arange(40, dtype=np.uint32), set(range(int(random.integers(5, 30))))
    records = [number for number in range(1, posts + 1) if int(index.take(np.array([number]))["author"][0]) < 40]
    for number in records:
        if int(index.take(np.array([number]))["author"][0]) in hot:
            index.append(number, (READER,))
            if len(index.lists[READER]) > 4 * LONGEST:
                index.cut(READER)
    owed, _ = merge_of(index, depth)._owed(READER, followed, everything=False)
    for number in owed:
        new = index.put_slot(index.slot(number))
        index.append(new, (READER,))
    if len(index.lists[READER]) > 4 * LONGEST:
        index.cut(READER)
    newest = {index.slot(number)[8:24] for number in records[-depth:]}
    assert newest <= set(index.ids_of(READER))


@pytest.mark.slow
@pytest.mark.parametrize(("followees", "limit_s"), [(7_500, 0.010), (100_000, 0.100)])
@pytest.mark.parametrize("active", [200_000, 1_000], ids=["many authors post", "none of the followees posts"])
def test_a_merge_is_quick_however_many_are_followed(followees: int, limit_s: float, active: int) -> None:
    population, posts = 200_000, 500_000
    random = np.random.default_rng(1)
    index = index_of(population, random.integers(0, active, posts).astype(np.uint32))
    followed = random.choice(np.arange(0 if active == population else active, population), followees, replace=False)
    merge, times_s = merge_of(index, 800), []
    for _ in range(5):
        began = time.thread_time()
        merge._owed(READER + population // 2, followed.astype(np.uint32), everything=False)
        times_s.append(time.thread_time() - began)
    assert min(times_s) < limit_s


def test_what_was_posted_is_looked_through_from_the_newest_and_let_go_from_the_oldest() -> None:
    posted = Posted()
    for number in range(1, 2 * CHUNK):
        posted.add(number % 7, number)
    posted.drop(11)
    assert len(posted) == 2 * CHUNK - 11
    chunks = [records.tolist() for _, records in posted.backwards(20)]
    assert [len(chunk) for chunk in chunks] == [CHUNK, CHUNK - 21]
    assert chunks[1] + chunks[0] == list(range(21, 2 * CHUNK))
    posted.add(1, 2 * CHUNK)  # a chunk handed out does not keep it from growing
    assert [authors.tolist() for authors, _ in posted.backwards(2 * CHUNK - 1)] == [[1]]
    assert list(posted.backwards(2 * CHUNK)) == []
