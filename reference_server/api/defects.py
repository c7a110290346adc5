"""Planted defects of what the api answers: wrong on purpose, off by default (settings.DEFECTS). They prove that a
judge bites.

Pages are spoilt after they were made right, so that nothing here stands in the way of a sound stack.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import chain, compress

import msgspec

from reference_server.api.bodies import WirePost
from reference_server.api.cursors import read_cursor
from reference_server.api.feed_page import Page
from reference_server.api.pending_changes import Excluded
from reference_server.api.post_ids import new_post_id, to_text
from reference_server.settings import Settings
from reference_server.timeline.display import Key, TimelineView, newest_first

_SLOW_S, _WRITE_LATE_S = 1.5, 1.5
_OWN_BEHIND_US, _COPY_BEHIND_US, _LOOK_UP_BEHIND_US = 3_000_000, 5_000_000, 10_000_000


class PageDefects:
    """Spoils pages as told; counts pages that have at least two items."""

    def __init__(self, settings: Settings) -> None:
        self._has = frozenset(settings.defects)
        self.are_planted = bool(self._has)
        self._duplicates = settings.every(20, "duplicate-entry")
        self._phantoms = settings.every(20, "phantom-post")
        self._swaps = settings.every(10, "unordered-page")
        self._flips = settings.every(4, "flipping-reads")
        self._slow = settings.every(10, "slow-pages")
        self._tops: dict[int, Key] = {}
        """user -> newest place when his last walk began"""

    async def delay(self) -> None:
        """Make some reads slow."""
        if self._slow():
            await asyncio.sleep(_SLOW_S)

    def shifted(self, user: int, view: TimelineView, after: Key | None) -> Key | None:
        """Where the page begins: behind `after`, and as many items further down as arrived since the walk began."""
        if "cursor-offset" not in self._has:
            return after
        places = [(ts_us, post_id) for post_id, ts_us, _, _ in chain.from_iterable(newest_first(view.raw, None))]
        if after is None:
            self._tops[user] = places[0] if places else (0, b"")
            return None
        newer = sum(place > self._tops.get(user, (0, b"")) for place in places)
        below = [place for place in places if place < after][:newer]
        return below[-1] if below else after

    def spoil(self, page: Page, user: int) -> None:
        """Change the page in place."""
        if "always-stale" in self._has:
            page.degraded = True
        if "stale-unmarked" in self._has:
            page.degraded = page.reduced = False
        if len(page.keys) < 2:
            return
        self._leave_out(page, user)
        self._put_in(page)
        if self._swaps():
            page.keys[:2], page.bodies[:2] = page.keys[1::-1], page.bodies[1::-1]
        if page.more is not None and len(page.keys) > 1:
            if "cursor-skip" in self._has:
                page.cursor = page.more
            elif "page-overlap" in self._has:
                page.cursor = page.keys[-2]

    def _leave_out(self, page: Page, user: int) -> None:
        now_us = time.time_ns() // 1000
        if self._flips():
            _keep(page, [ts_us < now_us - _COPY_BEHIND_US for ts_us, _ in page.keys])
        if "own-post-missing" in self._has:
            author = b'"author":"%d"' % user
            pairs = zip(page.keys, page.bodies, strict=True)
            _keep(page, [key[0] < now_us - _OWN_BEHIND_US or author not in body for key, body in pairs])

    def _put_in(self, page: Page) -> None:
        keys, bodies = page.keys, page.bodies
        middle = len(keys) // 2
        if self._duplicates():
            keys.insert(middle, keys[middle])
            bodies.insert(middle, bodies[middle])
        if self._phantoms():
            key, body = _phantom(keys[middle], bodies[middle])
            keys.insert(middle, key)
            bodies.insert(middle, body)

    def admitted(self, excluded: Excluded) -> Excluded:
        """Whom the reader must not see, as far as it is heeded."""
        if "unfollowed-stays" in self._has:
            return replace(excluded, authors=excluded.blocked)
        if "block-ignored" in self._has:
            return replace(excluded, authors=excluded.authors - excluded.blocked)
        return excluded

    def goes_by_time(self) -> bool:
        """Whether feed/new takes the order of posts for that of their arrival."""
        return "since-by-time" in self._has

    def finds(self, post_id: bytes) -> bool:
        """Whether a look-up finds the post."""
        if "reply-before-parent" not in self._has:
            return True
        return int.from_bytes(post_id[:6], "big") * 1000 < time.time_ns() // 1000 - _LOOK_UP_BEHIND_US


class CursorDefects:
    """Takes cursors for good that are not, or refuses good ones."""

    def __init__(self, settings: Settings, secret: bytes, region: str) -> None:
        self.secret = secret + region.encode() if settings.has_defect("regional-cursor") else secret
        """signs the cursors of this region"""
        self._unsigned = settings.has_defect("tampered-cursor")
        self._foreign = settings.has_defect("foreign-cursor")

    def read(self, user: int, text: str) -> Key:
        """Where the walk goes on. Raises Problem("bad-cursor")."""
        return read_cursor(self.secret, user, text, unsigned=self._unsigned, foreign=self._foreign)


def _keep(page: Page, kept: list[bool]) -> None:
    page.keys[:] = compress(page.keys, kept)
    page.bodies[:] = compress(page.bodies, kept)


def _phantom(key: Key, body: bytes) -> tuple[Key, bytes]:
    """A post that stands right before `key` and claims its author."""
    ts_us, post_id = key[0] + 1, new_post_id(key[0])
    author = msgspec.json.decode(body, type=WirePost).author
    post = WirePost(to_text(post_id), author, ts_us, "nobody wrote this", None)
    return (ts_us, post_id), msgspec.json.encode(post)


class WriteDefects:
    """Spoils what writers are told."""

    def __init__(self, settings: Settings) -> None:
        self.refuses = settings.every(20, "refused-but-done")
        self.acks_early = settings.has_defect("ack-before-durable")
        self._writing: set[asyncio.Task[None]] = set()

    def write_later(self, write: Callable[[], Awaitable[object]]) -> None:
        """Do the write some time after it was acknowledged."""

        async def later() -> None:
            await asyncio.sleep(_WRITE_LATE_S)
            await write()

        task = asyncio.create_task(later())
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
