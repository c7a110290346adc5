"""Reads one queue stream and feeds its posts, with their followers, to all lanes of this worker.

Plain reads from stored positions, no consumer group: each lane keeps its own position in its log, in the same batch as
the records. Reading starts at the slowest lane; lanes that are ahead pass over what they have. A post's pages are
written one after the other, so a crash between two of them resumes at the right one. The stream of celebrities is fed
in slices of one page with pauses, so that it takes at most half of the worker's time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from reference_server.events import FIELD, DeleteEvent, Event, PostEvent, decode
from reference_server.fanout.pages import FollowerPage, FollowerPages
from reference_server.timeline.entry import Status, pack_entry
from reference_server.timeline.measures import LAG, LANE_POSITION
from reference_server.timeline.owner import LaneOwner, PostPage, Removal
from reference_server.timeline.wal import Progress

_log = logging.getLogger(__name__)
Position = tuple[int, int]
READ_COUNT = 64
BLOCK_MS = 200
GROUP_FOLLOWERS = 4000
_TIMEOUT_S = 2.0
_RETRY_S = 0.05
_SLICE_PAUSE_S = 0.002
WALK = 100_000
"""part numbers of a post: page + WALK * repeated walk"""
MAX_WALKS = 5


def parse_position(text: str) -> Position:
    """A stream entry's id as comparable numbers."""
    ms, _, number = text.partition("-")
    return int(ms), int(number or 0)


@dataclass
class LaneFeed:
    """A lane as one stream's feeder sees it: what it has in its log."""

    owner: LaneOwner
    position: Position
    page: int = 0
    """next part of the entry behind `position`; 0: it was not begun"""
    begun: Position | None = None

    def wants(self, position: Position, page: int) -> bool:
        """Whether that page of that entry is still to be written."""
        if position <= self.position:
            return False
        return position != self.begun or page >= self.page


class _Post:
    """A post on its way."""

    def __init__(self, entry_id: str, event: PostEvent, source: bytes) -> None:
        self.entry_id, self.event, self.source = entry_id, event, source
        self.position = parse_position(entry_id)
        self.entry = pack_entry(event.id, event.ts_us, event.author)


@dataclass
class _Group:
    """What is about to be written to all lanes together."""

    pages: list[tuple[_Post, int, FollowerPage, bool]] = field(default_factory=list)
    """(post, part, page, whether the post is complete with it)"""
    removals: list[tuple[Position, Removal]] = field(default_factory=list)
    order: list[int] = field(default_factory=list)
    """places in `pages` (>= 0) and `removals` (~place), as they came"""
    followers: int = 0
    done: str = ""
    """the last entry that is complete"""
    progress: Progress | None = None


class Feeder:
    """Feeds one stream."""

    def __init__(
        self,
        stream: str,
        redis_port: int,
        pages: FollowerPages,
        lanes: Mapping[int, LaneOwner],
        *,
        sliced: bool = False,
        one_tier: bool = False,
    ) -> None:
        """`lanes` may change while running; `sliced`: throttled; `one_tier`: cold followers are as hot ones."""
        self._stream, self._pages, self._lanes = stream, pages, lanes
        self._sliced, self._one_tier = sliced, one_tier
        self._feeds: dict[int, LaneFeed] = {}
        self._redis: Any = Redis(
            host="127.0.0.1",
            port=redis_port,
            protocol=2,
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=1.0,
            retry=Retry(NoBackoff(), 0),
            single_connection_client=True,
        )

    async def run(self) -> None:
        """Feed for ever. A lost queue is waited for."""
        try:
            while True:
                self._adopt_lanes()
                if not self._feeds:
                    await asyncio.sleep(_RETRY_S)
                    continue
                try:
                    entries = await self._read()
                except (RedisError, OSError) as error:
                    _log.warning("stream %s waits for redis-queue: %s", self._stream, error)
                    await self._redis.aclose()
                    await asyncio.sleep(_RETRY_S)
                    continue
                if entries:
                    await self._feed(entries)
        finally:
            await self._redis.aclose()

    def _adopt_lanes(self) -> None:
        for lane, owner in self._lanes.items():
            if lane not in self._feeds or self._feeds[lane].owner is not owner:
                position, progress = owner.wal.position(self._stream)
                feed = LaneFeed(owner, parse_position(position))
                if progress is not None:
                    # A repeated walk that was cut off begins from the first page: the list may have changed again.
                    part = progress.page if progress.page < WALK else 0
                    feed.begun, feed.page = parse_position(progress.position), part
                self._feeds[lane] = feed

    async def _read(self) -> list[tuple[bytes, dict[bytes, bytes]]]:
        start = min(feed.position for feed in self._feeds.values())
        after = f"{start[0]}-{start[1]}"
        reply = await self._redis.xread({self._stream: after}, count=READ_COUNT, block=BLOCK_MS)
        return reply[0][1] if reply else []

    async def _feed(self, entries: list[tuple[bytes, dict[bytes, bytes]]]) -> None:
        events = [(entry_id.decode(), _decoded(fields)) for entry_id, fields in entries]
        authors = [event.author for _, event in events if isinstance(event, PostEvent)]
        first_pages = iter(await self._pages.request_many([(author, 0) for author in authors]))
        group = _Group()
        for entry_id, event in events:
            if isinstance(event, PostEvent):
                first_page = next(first_pages)
                if not first_page.done():
                    group = await self._flush(group)  # what is known goes out; this one may take as long as the graph
                group = await self._add_post(group, entry_id, event, await first_page)
            elif isinstance(event, DeleteEvent):
                group.order.append(~len(group.removals))
                group.removals.append((parse_position(entry_id), Removal(event.id, Status.DELETED)))
            group.done, group.progress = entry_id, None
            if group.followers >= GROUP_FOLLOWERS:
                group = await self._flush(group)
        await self._flush(group)

    async def _add_post(self, group: _Group, entry_id: str, event: PostEvent, page: FollowerPage) -> _Group:
        post = _Post(entry_id, event, f"{self._stream}:{entry_id}".encode())
        version, steady, number = page.version, True, 0
        while not page.last:
            group = await self._add_page(group, post, number, page, last=False)
            number += 1
            (requested,) = await self._pages.request_many([(event.author, number)])
            page = await requested
            steady = steady and page.version == version
        if steady:
            return await self._add_page(group, post, number, page, last=True)
        group = await self._add_page(group, post, number, page, last=False)
        return await self._walk_again(group, post, number + 1)

    async def _walk_again(self, group: _Group, post: _Post, pages: int) -> _Group:
        """The follower list changed on the way: somebody may have moved to a page that was read before.

        Lanes know whom the post has reached, so nobody gets it twice.
        """
        for walk in range(1, MAX_WALKS + 1):
            found = await self._pages.walk(post.event.author, pages)
            steady = len({page.version for page in found}) == 1 or walk == MAX_WALKS
            for number, page in enumerate(found):
                group = await self._add_page(group, post, walk * WALK + number, page, last=steady and page.last)
            if steady:
                break
            pages = len(found)
        return group

    async def _add_page(self, group: _Group, post: _Post, part: int, page: FollowerPage, *, last: bool) -> _Group:
        group.order.append(len(group.pages))
        group.pages.append((post, part, page, last))
        group.followers += len(page.hot) + len(page.cold)
        if last or not (self._sliced or group.followers >= GROUP_FOLLOWERS):
            return group
        group.progress = Progress(post.entry_id, part + 1, post.event.id)
        return await self._flush(group)

    async def _flush(self, group: _Group) -> _Group:
        """Write a group to every lane; returns a new one."""
        if not group.order and not group.done:
            return _Group()
        started = time.perf_counter()
        for lane, feed in list(self._feeds.items()):
            if self._lanes.get(lane) is not feed.owner:
                del self._feeds[lane]
                continue
            await feed.owner.wait_room()
            self._write(lane, feed, group)
        now_ms = time.time() * 1000
        for post, *_ in group.pages:
            LAG.observe(max(0.0, (now_ms - post.position[0]) / 1000))
        if self._sliced:
            for feed in self._feeds.values():
                await feed.owner.wait_applied(feed.owner.index.next - 1)
            await asyncio.sleep(max(_SLICE_PAUSE_S, time.perf_counter() - started))
        return _Group()

    def _write(self, lane: int, feed: LaneFeed, group: _Group) -> None:
        items: list[PostPage | Removal] = []
        for place in group.order:
            if place < 0:
                position, removal = group.removals[~place]
                if feed.wants(position, 0):
                    items.append(removal)
                continue
            post, part, page, last = group.pages[place]
            if feed.wants(post.position, part):
                hot, cold = page.hot_of(lane), page.cold_of(lane)
                if self._one_tier:
                    hot, cold = np.concatenate((hot, cold)), cold[:0]
                event = post.event
                items.append(PostPage(post.source, event.id, event.author, post.entry, hot, cold, part, last))
        done = max(feed.position, parse_position(group.done)) if group.done else feed.position
        progress = group.progress
        if progress is not None and not feed.wants(parse_position(progress.position), progress.page):
            return  # the lane is ahead of this group
        if done == feed.position and not items and progress is None:
            return
        feed.owner.write(items, self._stream, f"{done[0]}-{done[1]}", progress)
        feed.position = done
        feed.begun, feed.page = (parse_position(progress.position), progress.page) if progress else (None, 0)
        LANE_POSITION.labels(str(lane), self._stream).set(done[0])


def _decoded(fields: dict[bytes, bytes]) -> Event | None:
    try:
        return decode(fields[FIELD.encode()])
    except (KeyError, msgspec.MsgspecError) as error:
        _log.error("an entry of the queue cannot be read: %s", error)
        return None
