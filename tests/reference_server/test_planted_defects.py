"""Planted defects do what their sentence says, and nothing when they are off. That a judge bites, selftests show."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest

from reference_server.api.cursors import make_cursor, read_cursor
from reference_server.api.defects import CursorDefects, PageDefects, WriteDefects
from reference_server.api.feed_page import Page
from reference_server.api.pending_changes import Excluded
from reference_server.api.problems import Problem
from reference_server.events import DeleteEvent, Event, PostEvent, StatusEvent
from reference_server.replication.defects import ReplicaDefects
from reference_server.settings import Settings
from reference_server.timeline.defects import LaneDefects
from reference_server.timeline.display import TimelineView
from reference_server.timeline.entry import SLOT_BYTES, Status, pack_entry
from reference_server.timeline.slots import SLOT_DTYPE

SECRET = b"s" * 32
READER = 7
OLD_US = 1_700_000_000_000_000


def planted(*defects: str) -> Settings:
    return Settings(directory="", sockets="", secret="", regions=(), defects=defects)


def page_of(*times_us: int, author: int = 1) -> Page:
    """A page of posts of these times, as it was made right; more follows."""
    keys = [(ts_us, bytes([n] * 16)) for n, ts_us in enumerate(times_us)]
    bodies = [b'{"id":"%d","author":"%d"}' % (n, author) for n in range(len(keys))]
    return Page(keys, bodies, more=(1, b"m"), cursor=keys[-1])


def slots_of(*times_us: int, status: Status = Status.VISIBLE) -> bytes:
    """A timeline of posts that arrived in this order."""
    entries = [pack_entry(bytes([n] * 16), ts_us, 1, status=status) for n, ts_us in enumerate(times_us)]
    return b"".join((n + 1).to_bytes(8, "big") + entry for n, entry in enumerate(entries))


def posts(count: int) -> list[Event]:
    return [PostEvent(bytes([n] * 16), n, OLD_US + n, "a text of some length", "us-east") for n in range(count)]


def test_what_strikes_now_and_then_strikes_at_each_nth_call_and_never_when_off():
    strikes = planted("slow-pages").every(3, "slow-pages")
    assert [strikes() for _ in range(7)] == [False, False, True, False, False, True, False]
    never = planted().every(3, "slow-pages")
    assert not any(never() for _ in range(7))


def test_pages_of_a_sound_stack_stay_as_they_are():
    defects, page = PageDefects(planted()), page_of(30, 20, 10)
    for _ in range(50):
        defects.spoil(page, READER)
    assert page == page_of(30, 20, 10)
    excluded = Excluded(frozenset({1, 2}), blocked=frozenset({2}))
    assert defects.admitted(excluded) is excluded
    assert defects.shifted(READER, TimelineView(slots_of(1, 2, 3)), (2, b"")) == (2, b"")
    assert defects.finds(b"\xff" * 16)


def test_cursors_that_overlap_and_cursors_that_count_from_the_top():
    page = page_of(30, 20, 10)
    PageDefects(planted("page-overlap")).spoil(page, READER)
    assert page.cursor == page.keys[1]
    defects = PageDefects(planted("cursor-offset"))
    before, later = TimelineView(slots_of(1, 2, 3, 4)), TimelineView(slots_of(1, 2, 3, 4, 5))
    assert defects.shifted(READER, before, None) is None
    assert defects.shifted(READER, before, (4, bytes([3] * 16))) == (4, bytes([3] * 16))
    assert defects.shifted(READER, later, (4, bytes([3] * 16))) == (3, bytes([2] * 16))


def test_pages_that_lag_lack_what_is_new():
    now_us = time.time_ns() // 1000
    flips = PageDefects(planted("flipping-reads"))
    pages = [page_of(now_us, OLD_US) for _ in range(4)]
    for page in pages:
        flips.spoil(page, READER)
    assert [len(page.keys) for page in pages] == [2, 2, 2, 1]
    own, others = page_of(now_us, OLD_US, author=READER), page_of(now_us, OLD_US)
    lacks = PageDefects(planted("own-post-missing"))
    lacks.spoil(own, READER)
    lacks.spoil(others, READER)
    assert ([ts_us for ts_us, _ in own.keys], len(own.bodies), len(others.keys)) == ([OLD_US], 1, 2)


def test_marks_that_are_wrong_either_way():
    page = page_of(2, 1)
    PageDefects(planted("always-stale")).spoil(page, READER)
    assert page.mark == "stale"
    PageDefects(planted("stale-unmarked")).spoil(page, READER)
    assert page.mark == ""


def test_exclusions_that_are_not_heeded():
    excluded = Excluded(frozenset({1, 2}), blocked=frozenset({2}))
    assert PageDefects(planted("unfollowed-stays")).admitted(excluded).authors == {2}
    assert PageDefects(planted("block-ignored")).admitted(excluded).authors == {1}


def test_look_ups_that_lag_find_old_posts_only():
    defects = PageDefects(planted("reply-before-parent"))
    ids = [int(at_s * 1000).to_bytes(6, "big") + bytes(10) for at_s in (time.time(), time.time() - 60)]
    assert [defects.finds(post_id) for post_id in ids] == [False, True]


def test_cursors_that_are_believed_and_cursors_that_are_not():
    mine, foreign = make_cursor(SECRET, READER, (5, bytes(16))), make_cursor(SECRET, 8, (5, bytes(16)))
    tampered = mine[:-2] + ("AA" if not mine.endswith("AA") else "BB")
    for text in (foreign, tampered):
        with pytest.raises(Problem):
            CursorDefects(planted(), SECRET, "us-east").read(READER, text)
    assert CursorDefects(planted("foreign-cursor"), SECRET, "us-east").read(READER, foreign) == (5, bytes(16))
    assert CursorDefects(planted("tampered-cursor"), SECRET, "us-east").read(READER, tampered) == (5, bytes(16))
    with pytest.raises(Problem):
        CursorDefects(planted("foreign-cursor"), SECRET, "us-east").read(READER, tampered)
    with pytest.raises(Problem):
        CursorDefects(planted("tampered-cursor"), SECRET, "us-east").read(READER, foreign)
    regional = CursorDefects(planted("regional-cursor"), SECRET, "us-east")
    with pytest.raises(Problem):
        read_cursor(SECRET, READER, make_cursor(regional.secret, READER, (5, bytes(16))))


async def test_a_write_that_was_acknowledged_early_is_done_later(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("reference_server.api.defects._WRITE_LATE_S", 0.01)
    defects, written = WriteDefects(planted("ack-before-durable")), asyncio.Event()

    async def write() -> None:
        written.set()

    assert defects.acks_early
    defects.write_later(write)
    assert not written.is_set()
    async with asyncio.timeout(5):
        await written.wait()


@pytest.mark.parametrize(
    ("defect", "changed"),
    [
        ("post-not-replicated", lambda before: [*before[:9], *before[10:]]),
        ("replica-retimed", lambda before: [(e.ts_us + 5000 * (n == 9), e.text) for n, e in enumerate(before)]),
        ("replica-cut", lambda before: [(e.ts_us, e.text[: 10 if n == 9 else None]) for n, e in enumerate(before)]),
        ("delete-not-replicated", lambda before: before),
    ],
)
def test_replication_spoils_each_tenth_post(defect, changed):
    expected, found = changed(posts(12)), ReplicaDefects(planted(defect)).spoil(posts(12))
    plain = [e if isinstance(e, tuple) else (e.ts_us, e.text) for e in expected]
    assert [(e.ts_us, e.text) for e in found if isinstance(e, PostEvent)] == plain


def test_replication_loses_what_takes_posts_away():
    delete = DeleteEvent(bytes(16), 1, "us-east")
    hide, moderate = (StatusEvent(bytes(16), 1, status, 1, "us-east") for status in (1, 2))
    events: list[Event] = [delete, hide, moderate]
    assert ReplicaDefects(planted()).spoil(events) is events
    assert ReplicaDefects(planted("delete-not-replicated")).spoil(events) == [hide, moderate]
    assert ReplicaDefects(planted("moderation-not-replicated")).spoil(events) == [delete, hide]


def test_a_lane_loses_followers_and_what_it_refills():
    users, sound = np.arange(10, dtype=np.uint32), LaneDefects()
    assert sound.reached(users) is users
    passes = LaneDefects.of(planted("hot-loses-entry"))
    assert [len(passes.reached(users)) for _ in range(6)] == [10, 10, 10, 10, 8, 10]
    slots = slots_of(1, 2, 3)
    assert sound.refilled(slots) is slots
    assert LaneDefects.of(planted("refill-loses-last")).refilled(slots) == slots[:-SLOT_BYTES]
    deleted = slots_of(1, 2, status=Status.DELETED)
    revived = np.frombuffer(LaneDefects.of(planted("resurrect-at-refill")).refilled(deleted), SLOT_DTYPE)
    assert revived["status"].tolist() == [Status.VISIBLE] * 2


async def test_a_lane_announces_before_it_writes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("reference_server.timeline.defects._EARLY_S", 0.01)
    defects, told, sent = LaneDefects.of(planted("event-before-visible")), [], asyncio.Event()
    for _ in range(4):
        defects.send(lambda: told.append("sent"), lambda: told.append("announced"))
    assert told == ["sent"] * 4
    defects.send(sent.set, lambda: told.append("announced"))
    assert (told[-1], sent.is_set()) == ("announced", False)
    async with asyncio.timeout(5):
        await sent.wait()
