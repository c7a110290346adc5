"""Whole follower lists, for lanes that are made again: all pages of an author, hot and cold together.

Lists are kept for the posts and lanes to come, up to KEPT_FOLLOWERS in all.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Collection

import numpy as np

from reference_server.fanout.pages import FollowerPage, FollowerPages
from reference_server.fanout.walk import walk
from reference_server.queue import Backpressure, QueueUnavailable
from reference_server.timeline.index import Users

_log = logging.getLogger(__name__)
KEPT_FOLLOWERS = 4_000_000
AT_ONCE = 200
_RETRY_S = 0.2


class WholeLists:
    """Asks for pages as fan-out does: from redis-cache, else from the graph, for as long as it takes."""

    def __init__(self, pages: FollowerPages, lanes: int) -> None:
        self._pages, self._lanes = pages, lanes
        self._kept: OrderedDict[int, list[Users]] = OrderedDict()
        self._followers = 0

    async def of_lane(self, lane: int, authors: Collection[int]) -> dict[int, Users]:
        """author -> followers in the lane, nobody twice."""
        found: dict[int, Users] = {}
        lacking = []
        for author in authors:
            if author in self._kept:
                self._kept.move_to_end(author)
                found[author] = self._kept[author][lane]
            else:
                lacking.append(author)
        if lacking:
            await self._look()
        for start in range(0, len(lacking), AT_ONCE):
            some = lacking[start : start + AT_ONCE]
            firsts = await self._pages.request_many([(author, 0) for author in some])
            lists = await asyncio.gather(*map(self._read, some, firsts))
            for author, users in zip(some, lists, strict=True):
                found[author] = users[lane]
                self._keep(author, users)
        return found

    def clear(self) -> None:
        """Forget everything: nothing is being made again."""
        self._kept.clear()
        self._followers = 0

    async def _look(self) -> None:
        while True:
            try:
                return await self._pages.look()
            except (QueueUnavailable, Backpressure) as error:
                _log.info("follower lists wait for redis-queue: %s", error)
                await asyncio.sleep(_RETRY_S)

    async def _read(self, author: int, first: asyncio.Future[FollowerPage]) -> list[Users]:
        pages = [step.page async for step in walk(self._pages, author, first)]
        return [_of_lane(pages, lane) for lane in range(self._lanes)]

    def _keep(self, author: int, users: list[Users]) -> None:
        self._kept[author] = users
        self._followers += sum(map(len, users))
        while self._followers > KEPT_FOLLOWERS and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._followers -= sum(map(len, dropped))


def _of_lane(pages: list[FollowerPage], lane: int) -> Users:
    parts = [part for page in pages for part in (page.hot_of(lane), page.cold_of(lane))]
    users: Users = np.concatenate(parts).astype(np.uint32)
    return np.unique(users) if len(pages) > 1 else users
