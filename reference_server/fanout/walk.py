"""Through the follower pages of an author, so that nobody is passed by although the list changes on the way.

Pages are read one after the other, each as it is wanted. Were they not all of one version, somebody may have moved to a
page that was read before: then the list is read again, as fast as can be, until it held still (at most MAX_WALKS
times). Lanes know whom the post has reached, so nobody gets it twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import NamedTuple

from reference_server.fanout.lane_feed import WALK
from reference_server.fanout.pages import FollowerPage, FollowerPages
from reference_server.timeline.wal import Progress

MAX_WALKS = 5
MIXED = -1
"""in place of a version: the pages so far are of several, or it is not known of which"""


class Step(NamedTuple):
    """One page to write."""

    part: int
    page: FollowerPage
    last: bool
    """the post is complete with it"""
    version: int
    """the version of all pages so far, or MIXED"""


def version_of(progresses: Iterable[Progress | None]) -> int | None:
    """The version of the pages that lanes have already of a post; None: none has any."""
    versions = {one.version for one in progresses if one is not None and one.page > 0}
    if len(versions) > 1:
        return MIXED
    return versions.pop() if versions else None


async def walk(
    pages: FollowerPages,
    author: int,
    first: asyncio.Future[FollowerPage] | None = None,
    *,
    start: int = 0,
    version: int | None = None,
) -> AsyncIterator[Step]:
    """The author's pages, from page `start` on.

    `first`: that page, if it was asked for already; `version`: that of pages written before (None: there are none).
    """
    number = start
    page = await (asyncio.shield(first) if first is not None else _request(pages, author, number))
    if version is None:
        version = page.version
    while True:
        if page.version != version:
            version = MIXED
        if page.last:
            break
        yield Step(number, page, False, version)
        number += 1
        page = await _request(pages, author, number)
    yield Step(number, page, version != MIXED, version)
    if version == MIXED:
        async for step in _walk_again(pages, author, number + 1):
            yield step


async def _walk_again(pages: FollowerPages, author: int, count: int) -> AsyncIterator[Step]:
    for number in range(1, MAX_WALKS + 1):
        found = await pages.walk(author, count)
        steady = len({page.version for page in found}) == 1 or number == MAX_WALKS
        for place, page in enumerate(found):
            yield Step(number * WALK + place, page, steady and page.last, MIXED)
        if steady:
            return
        count = len(found)


async def _request(pages: FollowerPages, author: int, number: int) -> FollowerPage:
    (requested,) = await pages.request_many([(author, number)])
    return await asyncio.shield(requested)  # others may wait for the same page, whatever becomes of this walk
