"""When the posts of this region pass the stages queue, fanout, cache and notify (see `reference_server.stages`).

All times count from the post's `ts_us`: its moment at the api, in µs, and what slots and bus messages carry. An entry's
id tells when redis-queue took it, but in ms only, and nobody behind the log knows it. For `queue` a post counts once a
worker, for `fanout` and `cache` with its last page in the lanes that the worker has then, for `notify` once a burst of
messages.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from reference_server.events import PostEvent
from reference_server.flags import Flags
from reference_server.stages import passed, since_us
from reference_server.timeline.owner import LaneOwner

KEPT, KEPT_US = 20_000, 120 * 1_000_000
"""posts remembered: so many, and none so much older than the newest"""
MAX_AWAITED = 256
"""groups of posts whose appends are awaited at once; further ones are not timed"""
APPLIED_LIMIT_S = 30.0


class StageTimes:
    """The clock of one worker."""

    def __init__(self, region: str, flags: Callable[[], Flags]) -> None:
        self._region, self._flags = region, flags
        self._accepted_us: dict[bytes, int] = {}
        self._unwritten: dict[bytes, int] = {}
        """those of them that were not complete yet in any lane"""
        self._awaited: set[asyncio.Task[None]] = set()

    def read(self, event: PostEvent) -> None:
        """The post came out of the queue (perhaps again)."""
        if event.origin != self._region or event.id in self._accepted_us:
            return
        for kept in (self._accepted_us, self._unwritten):
            kept[event.id] = event.ts_us
            oldest = next(iter(kept))
            while len(kept) > KEPT or event.ts_us - kept[oldest] > KEPT_US:
                del kept[oldest]
                oldest = next(iter(kept))
        self._passed("queue", event.id, event.ts_us)

    def accepted_us(self, post_id: bytes) -> int:
        """When a post of this region was accepted; 0: it is of another one, or not remembered."""
        return self._accepted_us.get(post_id, 0)

    def written(self, posts: Iterable[PostEvent], owners: Sequence[LaneOwner]) -> None:
        """These posts are complete in log and index of these lanes."""
        own = [(post.id, post.ts_us) for post in posts if self._unwritten.pop(post.id, None) is not None]
        for post_id, ts_us in own:
            self._passed("fanout", post_id, ts_us)
        if own and len(self._awaited) < MAX_AWAITED:
            numbers = [(owner, owner.index.next - 1) for owner in owners]
            task = asyncio.ensure_future(self._await_applied(own, numbers))
            self._awaited.add(task)
            task.add_done_callback(self._awaited.discard)

    def notified(self, post_ids: Iterable[bytes]) -> None:
        """Messages about these posts have reached redis-cache."""
        for post_id in post_ids:
            self._passed("notify", post_id, self._accepted_us.get(post_id, 0))

    async def close(self) -> None:
        """Time nothing any more."""
        for task in self._awaited:
            task.cancel()
        await asyncio.gather(*self._awaited, return_exceptions=True)

    async def _await_applied(self, posts: list[tuple[bytes, int]], numbers: list[tuple[LaneOwner, int]]) -> None:
        try:
            async with asyncio.timeout(APPLIED_LIMIT_S):
                for owner, number in numbers:
                    await owner.wait_applied(number)
        except TimeoutError:
            return  # memcached is away, or the lane is: not a time of the cache
        for post_id, ts_us in posts:
            self._passed("cache", post_id, ts_us)

    def _passed(self, stage: str, post_id: bytes, ts_us: int) -> None:
        if ts_us:
            passed(stage, post_id, since_us(ts_us), self._flags().trace_one_in)
