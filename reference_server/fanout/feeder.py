"""Reads the stream of ordinary posts and feeds them, with their followers, to all lanes of this worker.

Plain reads from stored positions, no consumer group: each lane keeps its own position in its log, in the same batch as
the records. Reading starts at the slowest lane; lanes that are ahead pass over what they have. Posts are written one
after the other, many small ones together; the pages of a post in their order, so a crash between two of them resumes
at the right one. Celebrities have a stream and a feeder of their own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from redis.exceptions import RedisError

from reference_server.events import STREAM_POSTS, DeleteEvent, Event, PostEvent, StatusEvent
from reference_server.fanout.lane_feed import LaneFeed, Position, Post, format_position
from reference_server.fanout.pages import FollowerPage, FollowerPages
from reference_server.fanout.source import Source, SourceEntry
from reference_server.fanout.stage_times import StageTimes
from reference_server.fanout.tiers import cost_of
from reference_server.fanout.walk import Step, version_of, walk
from reference_server.flags import Flags
from reference_server.timeline.entry import Status
from reference_server.timeline.measures import LAG
from reference_server.timeline.owner import LaneOwner, PostPage, Removal
from reference_server.timeline.wal import Progress

_log = logging.getLogger(__name__)
READ_COUNT = 64
BLOCK_MS = 200
GROUP_COST = 4000
"""followers written together, about"""
RETRY_S = 0.05


def removal_of(event: Event | None) -> Removal | None:
    """What a change of a post's status does to timelines; None: it is no such event."""
    if isinstance(event, DeleteEvent):
        return Removal(event.id, Status.DELETED)
    if isinstance(event, StatusEvent):
        return Removal(event.id, Status(event.status), event.hlc)
    return None


class Turns(Protocol):
    """Which posts are under way elsewhere: none must overtake an earlier one of its author."""

    def has_come(self, author: int, ts_us: int) -> bool:
        """Whether no post of the author that is older than that is known to be under way.

        By the author's own clock: places in two streams tell no order within a millisecond.
        """

    async def wait(self, author: int, ts_us: int, lanes: Mapping[int, LaneOwner]) -> bool:
        """Return when that is so, or after a while; False: `lanes` are no longer those of the worker."""


@dataclass
class _Group:
    """What is about to be written to all lanes together."""

    items: list[tuple[Position, Step, Post] | tuple[Position, Removal]] = field(default_factory=list)
    cost: int = 0
    done: Position = (0, 0)
    """the last entry that is complete"""
    progress: Progress | None = None
    """of the entry behind it"""


class Feeder:
    """Feeds the stream "posts"."""

    def __init__(
        self,
        source: Source,
        pages: FollowerPages,
        lanes: Mapping[int, LaneOwner],
        flags: Callable[[], Flags],
        times: StageTimes,
        turns: Turns,
        held_s: float = 0.0,
    ) -> None:
        """`lanes` may change while running. `held_s`: age from which a post is taken up (a planted defect)."""
        self._held_s = held_s
        self.lag_s = 0.0
        """age of the oldest post that was not written when it was last looked at"""
        self._source, self._pages, self._lanes = source, pages, lanes
        self._flags, self._times, self._turns = flags, times, turns
        self._feeds: dict[int, LaneFeed] = {}

    async def run(self) -> None:
        """Feed for ever. A lost queue is waited for."""
        try:
            while True:
                self._adopt_lanes()
                if not self._feeds:
                    await asyncio.sleep(RETRY_S)
                    continue
                try:
                    start = min(feed.position for feed in self._feeds.values())
                    entries = await self._source.read(start, READ_COUNT, BLOCK_MS)
                    if entries:
                        await self._pages.look()
                except (RedisError, OSError) as error:
                    _log.warning("stream %s waits for redis-queue: %s", self._source.stream, error)
                    await self._source.reset()
                    await asyncio.sleep(RETRY_S)
                    continue
                self.lag_s = 0.0
                if entries:
                    await self._hold(entries)
                    await self._feed(entries)
        finally:
            await self._source.reset()

    async def _hold(self, entries: list[SourceEntry]) -> None:
        """The planted defect "slow-fan-out": wait until the newest of these is old enough."""
        if self._held_s:
            await asyncio.sleep(max(0.0, entries[-1].position[0] / 1000 + self._held_s - time.time()))

    @property
    def _known_lanes(self) -> dict[int, LaneOwner]:
        return {lane: feed.owner for lane, feed in self._feeds.items()}

    def _adopt_lanes(self) -> None:
        for lane in [lane for lane, feed in self._feeds.items() if self._lanes.get(lane) is not feed.owner]:
            del self._feeds[lane]
        for lane, owner in self._lanes.items():
            if lane not in self._feeds:
                self._feeds[lane] = LaneFeed(lane, owner, STREAM_POSTS)

    async def _feed(self, entries: list[SourceEntry]) -> None:
        authors = []
        for _, event in entries:
            if isinstance(event, PostEvent):
                authors.append(event.author)
                self._times.read(event)
        first_pages = iter(await self._pages.request_many([(author, 0) for author in authors]))
        group = _Group()
        for position, event in entries:
            if isinstance(event, PostEvent):
                first = next(first_pages)
                has_turn = self._turns.has_come(event.author, event.ts_us)
                if not first.done() or not has_turn:
                    group = await self._flush(group)  # what is known goes out; this one may take as long as the graph
                if not has_turn and not await self._turns.wait(event.author, event.ts_us, self._known_lanes):
                    return  # everything behind the slowest lane is read again, for a lane that came too
                group = await self._add_post(group, Post(STREAM_POSTS, position, event), first)
            elif (removal := removal_of(event)) is not None:
                group.items.append((position, removal))
            group.done, group.progress = position, None
            if group.cost >= GROUP_COST:
                group = await self._flush(group)
        await self._flush(group)

    async def _add_post(self, group: _Group, post: Post, first: asyncio.Future[FollowerPage]) -> _Group:
        version = version_of(feed.progress(post.position) for feed in self._feeds.values())
        async for step in walk(self._pages, post.event.author, first, version=version):
            group.items.append((post.position, step, post))
            group.cost += cost_of(step.page, self._flags(), celebrity=post.event.celeb)
            if step.last:
                break
            if group.cost >= GROUP_COST:
                group.progress = Progress(format_position(post.position), step.part + 1, post.event.id, step.version)
                group = await self._flush(group)
        return group

    async def _flush(self, group: _Group) -> _Group:
        """Write a group to every lane; returns a new one."""
        if not group.items and group.done == (0, 0):
            return _Group()
        for lane, feed in list(self._feeds.items()):
            if self._lanes.get(lane) is feed.owner:
                await feed.owner.wait_room()
                self._write(feed, group)
        self._measure(group)
        return _Group()

    def _write(self, feed: LaneFeed, group: _Group) -> None:
        flags = self._flags()
        items: list[PostPage | Removal] = []
        for item in group.items:
            if len(item) == 2:
                position, removal = item
                if feed.wants(position):
                    items.append(removal)
            elif feed.wants(item[0], item[1].part):
                _, step, post = item
                items.append(post.page(step.page, step.part, feed.lane, flags, last=step.last))
        feed.write_upto(items, group.done, group.progress)

    def _measure(self, group: _Group) -> None:
        now_ms = time.time() * 1000
        complete = []
        for item in group.items:
            if len(item) == 3:
                self.lag_s = max(0.0, now_ms - item[0][0]) / 1000
                LAG.observe(self.lag_s)
                if item[1].last:
                    complete.append(item[2].event)
        self._times.written(complete, [feed.owner for feed in self._feeds.values()])
