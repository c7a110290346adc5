"""Reads the stream of celebrities' posts and feeds them to all lanes of this worker: throttled, fair, in slices.

Up to AT_ONCE posts are under way, a page of each in turn, so a post with two pages is not held up by one with fifty.
Posts of one author are taken one after the other: whoever sees the second can see the first. Lanes keep how far each
post got behind the first incomplete one, so a crash resumes all of them; WINDOW bounds how many those can be.

After each slice the feeder rests for as long as the slice took, so it never has more than half of the worker's time;
the later ordinary posts are, the longer it rests, down to a tenth, but no longer than LONGEST_REST_S.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping

from prometheus_client import Gauge, Histogram
from redis.exceptions import RedisError

from reference_server.events import STREAM_CELEB, Event, PostEvent
from reference_server.fanout.feeder import removal_of
from reference_server.fanout.lane_feed import LaneFeed, Position, Post, complete, format_position
from reference_server.fanout.pages import FollowerPages
from reference_server.fanout.source import Source
from reference_server.fanout.stage_times import StageTimes
from reference_server.fanout.walk import Step, version_of, walk
from reference_server.flags import Flags
from reference_server.timeline.owner import LaneOwner
from reference_server.timeline.wal import Progress

_log = logging.getLogger(__name__)
AT_ONCE = 8
WINDOW = 64
"""entries looked at: the oldest incomplete one and those behind it"""
BLOCK_MS = 200
LOOK_EVERY_S = 0.02
"""how often the stream is looked at while posts are under way"""
RETRY_S = 0.05
AWAY_S = 0.5
LEAST_REST_S, LONGEST_REST_S = 0.002, 0.25
PATIENT_S = 0.05
"""lag of ordinary posts from which on the feeder rests longer"""
LONGEST_REST = 9.0
"""rest over slice at most"""
TURN_LIMIT_S = 10.0
UNDER_WAY = Gauge("feed_celebrity_posts", "Posts of celebrities read from the queue and not complete in every lane")
LAG_TO_LAST = Histogram(
    "feed_celebrity_lag_seconds",
    "From a celebrity's post's place in the queue until its last follower was in log and index",
    buckets=(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60),
)


def rest_ratio(lag_s: float) -> float:
    """Rest over slice: 1 while ordinary posts are hardly late, rising in proportion to their lag."""
    return min(LONGEST_REST, max(1.0, lag_s / PATIENT_S))


def rest_after(slice_s: float, lag_s: float) -> float:
    """How long to rest after a slice. Bounded: a slice that took long has waited for memcached, not kept it busy."""
    return min(LONGEST_REST_S, max(LEAST_REST_S, rest_ratio(lag_s) * slice_s))


class _Walk:
    """A post under way: its next page is fetched while others are written."""

    def __init__(self, post: Post, steps: AsyncIterator[Step]) -> None:
        self.post = post
        self._steps = steps
        self.next: asyncio.Future[Step]
        self.fetch()

    def fetch(self) -> None:
        """Ask for the next page."""
        self.next = asyncio.ensure_future(anext(self._steps))

    async def stop(self) -> None:
        """Ask no more."""
        self.next.cancel()
        await asyncio.wait([self.next])


class CelebrityFeeder:
    """Feeds the stream "celeb"."""

    def __init__(
        self,
        source: Source,
        pages: FollowerPages,
        lanes: Mapping[int, LaneOwner],
        flags: Callable[[], Flags],
        times: StageTimes,
        ordinary_lag_s: Callable[[], float],
    ) -> None:
        """`lanes` may change while running; `ordinary_lag_s()` is how late ordinary posts are."""
        self._source, self._pages, self._lanes = source, pages, lanes
        self._flags, self._times, self._ordinary_lag_s = flags, times, ordinary_lag_s
        self._feeds: dict[int, LaneFeed] = {}
        self._window: dict[Position, Event | None] = {}
        """entries read that some lane has not completed, in the order of the stream"""
        self._walks: dict[Position, _Walk] = {}
        """in the order of their turns"""
        self._oldest: dict[int, int] = {}
        """author -> timestamp in µs of the oldest post that is not complete"""
        self._moved = asyncio.Event()
        """set for a moment when `_oldest` may have changed"""
        self._read_upto: Position = (0, 0)
        self._look_at_s = 0.0
        self._looked = False
        """whether the stream was looked at since the lanes changed"""

    async def run(self) -> None:
        """Feed for ever. A lost queue is waited for; posts under way go on meanwhile."""
        try:
            while True:
                await self._adopt_lanes()
                if not self._feeds:
                    await asyncio.sleep(RETRY_S)
                    continue
                try:
                    await self._look()
                except (RedisError, OSError) as error:
                    _log.warning("stream %s waits for redis-queue: %s", self._source.stream, error)
                    await self._source.reset()
                    await asyncio.sleep(RETRY_S)
                    self._look_at_s = time.monotonic() + AWAY_S
                self._begin_walks()
                await self._slice()
        finally:
            await self._stop_walks()
            await self._source.reset()

    def has_come(self, author: int, ts_us: int) -> bool:
        """See Turns. An author who ceases to count as a celebrity posts to the other stream."""
        return self._is_level and self._oldest.get(author, ts_us) >= ts_us

    async def wait(self, author: int, ts_us: int, lanes: Mapping[int, LaneOwner]) -> bool:
        """See Turns; at most TURN_LIMIT_S."""
        try:
            async with asyncio.timeout(TURN_LIMIT_S):
                while not self.has_come(author, ts_us):
                    if self._lanes != lanes:
                        return False
                    await self._moved.wait()
        except TimeoutError:
            _log.warning("a post of %d goes before an earlier one, which takes too long", author)
        return True

    @property
    def _is_level(self) -> bool:
        """Whether the stream was looked at for all the lanes there are."""
        return self._looked and self._has_all_lanes

    # --- lanes and entries

    @property
    def _has_all_lanes(self) -> bool:
        feeds, lanes = self._feeds, self._lanes
        return len(feeds) == len(lanes) and all(n in feeds and feeds[n].owner is lanes[n] for n in lanes)

    async def _adopt_lanes(self) -> None:
        """Begin again, from what the lanes have, when a lane came or went."""
        if self._has_all_lanes:
            return
        lanes = dict(self._lanes)
        await self._stop_walks()
        self._window.clear()
        self._feeds = {lane: LaneFeed(lane, owner, STREAM_CELEB) for lane, owner in lanes.items()}
        self._look_at_s, self._looked = 0.0, False
        self._read_upto = min((feed.position for feed in self._feeds.values()), default=(0, 0))

    async def _look(self) -> None:
        """Read on, unless the window is full; wait for entries only when nothing is under way."""
        room, now_s = WINDOW - len(self._window), time.monotonic()
        if not room or (self._walks and now_s < self._look_at_s):
            return
        waits = self._looked and not self._walks
        entries = await self._source.read(self._read_upto, room, BLOCK_MS if waits else None)
        if entries:
            await self._pages.look()
        self._look_at_s = now_s + LOOK_EVERY_S
        for position, event in entries:
            self._read_upto = position
            self._window[position] = event
            if isinstance(event, PostEvent):
                self._times.read(event)
            else:
                self._pass(position, event)
        self._forget_complete()
        self._looked = True

    def _pass(self, position: Position, event: Event | None) -> None:
        """An entry that is no post: removals hold whether or not their posts have come, so they need not wait."""
        removal = removal_of(event)
        for feed in self._feeds.values():
            if feed.wants(position):
                items = [] if removal is None else [removal]
                feed.write_some(items, position, complete(position, b""), self._window)

    def _forget_complete(self) -> None:
        """Drop the front of the window as far as every lane has it."""
        for position in list(self._window):
            if self._lacking(position):
                break
            del self._window[position]
        UNDER_WAY.set(len(self._window))

    def _lacking(self, position: Position) -> list[LaneFeed]:
        return [feed for feed in self._feeds.values() if feed.lacks(position)]

    # --- posts under way

    def _begin_walks(self) -> None:
        """Take up further posts, the oldest first; of one author only the oldest."""
        oldest: dict[int, int] = {}
        for position, event in self._window.items():
            if not isinstance(event, PostEvent) or not (lacking := self._lacking(position)):
                continue
            if event.author not in oldest and position not in self._walks and len(self._walks) < AT_ONCE:
                self._walks[position] = self._walk(Post(STREAM_CELEB, position, event), lacking)
            oldest.setdefault(event.author, event.ts_us)
        self._oldest = oldest
        self._moved.set()
        self._moved.clear()

    def _walk(self, post: Post, lacking: list[LaneFeed]) -> _Walk:
        begun = [feed.progress(post.position) for feed in lacking]
        start = min(0 if one is None else one.page for one in begun)
        return _Walk(post, walk(self._pages, post.event.author, start=start, version=version_of(begun)))

    async def _slice(self) -> None:
        """Write one page of the post whose turn it is, then rest."""
        taken = await self._next_turn()
        if taken is None:
            return
        started, waited_s = time.perf_counter(), 0.0
        step = taken.next.result()
        for feed in self._lacking(taken.post.position):
            asked = time.perf_counter()
            await feed.owner.wait_room()
            waited_s += time.perf_counter() - asked
            self._write(feed, taken.post, step)
        if step.last:
            self._finish(taken.post)
        else:
            self._walks[taken.post.position] = taken
            taken.fetch()
        for feed in self._feeds.values():
            await feed.owner.wait_applied(feed.owner.index.next - 1)
        await self._rest(rest_after(time.perf_counter() - started - waited_s, self._ordinary_lag_s()))

    async def _rest(self, rest_s: float) -> None:
        """Leave the worker to others; a lane that comes or goes ends it."""
        end_s = time.monotonic() + rest_s
        while (left_s := end_s - time.monotonic()) > 0:
            await asyncio.sleep(min(left_s, LOOK_EVERY_S))
            if not self._has_all_lanes:
                return

    async def _next_turn(self) -> _Walk | None:
        """Takes the first walk out whose page is there; waits a little for one. None: there is none."""
        if not self._walks:
            return None
        waiting = {one.next for one in self._walks.values()}
        await asyncio.wait(waiting, timeout=LOOK_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
        ready = next((position for position, one in self._walks.items() if one.next.done()), None)
        return None if ready is None else self._walks.pop(ready)

    def _write(self, feed: LaneFeed, post: Post, step: Step) -> None:
        wanted = feed.wants(post.position, step.part)
        if not wanted and not step.last:
            return
        items = [post.page(step.page, step.part, feed.lane, self._flags(), last=step.last)] if wanted else []
        if step.last:
            progress = complete(post.position, post.event.id)
        else:
            progress = Progress(format_position(post.position), step.part + 1, post.event.id, step.version)
        feed.write_some(items, post.position, progress, self._window)

    def _finish(self, post: Post) -> None:
        LAG_TO_LAST.observe(max(0.0, time.time() - post.position[0] / 1000))
        self._times.written([post.event], [feed.owner for feed in self._feeds.values()])
        self._forget_complete()

    async def _stop_walks(self) -> None:
        for one in self._walks.values():
            await one.stop()
        self._walks.clear()
