"""The timelines of the time before the run: bulk-loaded into a lane whose log is empty, then put into memcached.

Every history post becomes one record that reached all its author's followers, hot and cold, and the author: as if
everybody had read just before the run. The followers come from the population's arrays, not from the graph service.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from reference_server.partition_arrays import lanes_of
from reference_server.seeding import HistoryPosts, Population, history_posts
from reference_server.timeline.cached import CachedTimeline, newest_part
from reference_server.timeline.entry import EPOCH_SHIFT, SLOT_BYTES, make_seq
from reference_server.timeline.index import Users
from reference_server.timeline.owner import LaneOwner
from reference_server.timeline.slots import SLOT_DTYPE
from reference_server.timeline.wal import Kind, Wal

_log = logging.getLogger(__name__)
CACHE_WAIT_S = 10.0
_BATCH = 2000


class HistoryLoader:
    """Loads lanes of one region; the arrays they share are made once."""

    def __init__(self, population: Population, lanes: int) -> None:
        self._population, self._lanes = population, lanes
        self._posts: HistoryPosts | None = None
        self._followers: tuple[npt.NDArray[np.int64], Users] | None = None

    def is_needed(self, wal: Wal) -> bool:
        """Whether a lane's log lacks the history."""
        return self._population.all_joined and self._population.history > 0 and not wal.number("history-loaded")

    def load(self, owner: LaneOwner) -> None:
        """Write the lane's part of the history to its log and index. Blocks: call it in a thread, before serving."""
        if self._posts is None:
            self._posts = history_posts(self._population)
            self._followers = _followers_of(self._population)
        posts = self._posts
        pages = self._lane_pages(owner.lane)
        counts = np.array([len(page) for page in pages], np.int64)
        kept = np.flatnonzero(counts[posts.authors] > 0)
        authors = posts.authors[kept]
        slots = _slots(posts, kept, owner.index.epoch, owner.index.next)
        self._write_log(owner, slots, authors, pages)
        first = owner.index.next
        owner.index.put_slots(slots)
        for place, author in enumerate(authors.tolist()):
            owner.index.note_author(author, first + place)
        reached = np.concatenate([pages[author] for author in authors.tolist()]) if len(authors) else pages[0][:0]
        numbers = np.repeat(np.arange(first, first + len(authors), dtype=np.uint32), counts[authors])
        owner.index.fill(reached, numbers)
        owner.index.sweep(1 << 30)
        owner.applied = owner.history = owner.index.next - 1
        self._finish(owner)

    def release(self) -> None:
        """Drop the shared arrays."""
        self._posts = self._followers = None

    def _lane_pages(self, lane: int) -> list[Users]:
        """author -> followers in the lane and, if it is in the lane, the author; ascending."""
        assert self._followers is not None
        offsets, followers = self._followers
        mine = lanes_of(followers, self._lanes) == lane
        starts = np.r_[0, np.cumsum(mine)][offsets]
        users = followers[mine]
        return [users[start:end] for start, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)]

    def _write_log(
        self, owner: LaneOwner, slots: npt.NDArray[np.void], authors: npt.NDArray[np.uint32], pages: list[Users]
    ) -> None:
        data, first = slots.tobytes(), owner.index.next
        encoded = {author: pages[author].tobytes() for author in set(authors.tolist())}
        for start in range(0, len(slots), _BATCH):
            batch = owner.wal.batch()
            for place, author in enumerate(authors[start : start + _BATCH].tolist(), start):
                entry = data[place * SLOT_BYTES + 8 : (place + 1) * SLOT_BYTES]
                batch.record(first + place, entry, Kind.POST, encoded[author])
            owner.wal.write(batch)

    def _finish(self, owner: LaneOwner) -> None:
        batch = owner.wal.batch()
        batch.number("history-loaded", 1)
        batch.number("history", owner.history)
        batch.number("applied", owner.applied)
        owner.wal.write(batch)
        _log.info("lane %d: %d history records", owner.lane, owner.history)


async def prewarm(owner: LaneOwner, count: int) -> None:
    """Put the newest `count` entries of all the lane's users into memcached; no others can come meanwhile."""
    assert owner.cache is not None
    await owner.cache.wait_up(CACHE_WAIT_S)
    await owner.cache.fill(_timelines(owner, count))


def _timelines(owner: LaneOwner, count: int) -> Iterator[tuple[int, CachedTimeline]]:
    index = owner.index
    upto = make_seq(index.epoch, index.next - 1)
    for user in index.users:
        whole = CachedTimeline(index.floor(user), upto, index.slots_of(user), index.horizon_us)
        yield user, newest_part(whole, count)


def _followers_of(population: Population) -> tuple[npt.NDArray[np.int64], Users]:
    """The graph turned round: user u is followed by followers[offsets[u]:offsets[u + 1]], u itself among them.

    Those who had not joined are not among the followers.
    """
    everybody = np.arange(population.users, dtype=np.uint32)
    follower = np.r_[np.repeat(everybody, np.diff(population.offsets)), everybody]
    followee = np.r_[population.followees.astype(np.uint32), everybody]
    there = population.joined[follower]
    follower, followee = follower[there], followee[there]
    order = np.lexsort((follower, followee))
    follower, followee = follower[order], followee[order]
    repeats = np.r_[False, (follower[1:] == follower[:-1]) & (followee[1:] == followee[:-1])]
    follower, followee = follower[~repeats], followee[~repeats]
    offsets = np.r_[0, np.cumsum(np.bincount(followee, minlength=population.users))].astype(np.int64)
    return offsets, follower


def _slots(posts: HistoryPosts, kept: npt.NDArray[np.intp], epoch: int, first: int) -> npt.NDArray[np.void]:
    slots = np.zeros(len(kept), SLOT_DTYPE)
    slots["seq"] = np.arange(first, first + len(kept), dtype=np.uint64) | np.uint64(epoch << EPOCH_SHIFT)
    slots["id"] = posts.ids[kept]
    slots["ts_us"] = posts.ts_us[kept]
    slots["author"] = posts.authors[kept]
    return slots
