"""The graph as it is now: inherited edges under the changes. Arrays an author are kept until something changes.

An edge is listed when both sides joined, the follower's import has covered it (or it was made since), it was
not taken back, and neither side blocks the other.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from reference_server.graph.base import Inverse
from reference_server.graph.changes import Changes
from reference_server.partition import lanes_of
from reference_server.seeding import Population

PAGE = 1000
KEPT_EDGES = 8_000_000
Users = npt.NDArray[np.uint32]
Mask = npt.NDArray[np.bool_]
_NOBODY = np.zeros(0, np.uint32)
_NO_FLAG = np.zeros(0, np.bool_)
LanePage = tuple[list[int], bytes]


class Edges(NamedTuple):
    """The other ends of a user's edges, ascending, and which of them are hot."""

    users: Users
    hot: Mask


class GraphView:
    """Answers questions; `forget` what changed."""

    def __init__(self, population: Population, inverse: Inverse, changes: Changes, lanes: int) -> None:
        self.population = population
        self.inverse = inverse
        self.changes = changes
        self.lanes = lanes
        self._kept: OrderedDict[int, Edges] = OrderedDict()
        self._kept_edges = 0

    def forget(self, authors: Iterable[int]) -> None:
        """Their followers changed."""
        for author in authors:
            dropped = self._kept.pop(author, None)
            if dropped is not None:
                self._kept_edges -= len(dropped.users)

    def followers(self, author: int) -> Edges:
        """Active followers of the author (without itself)."""
        found = self._kept.get(author)
        if found is not None:
            self._kept.move_to_end(author)
            return found
        found = self._compute_followers(author)
        self._kept[author] = found
        self._kept_edges += len(found.users)
        while self._kept_edges > KEPT_EDGES and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._kept_edges -= len(dropped.users)
        return found

    def page(self, author: int, page: int) -> tuple[LanePage, LanePage, bool]:
        """(hot part, cold part, whether it is the last) of the author's page-th thousand followers by number.

        The author itself comes along in the hot part of page 0.
        """
        edges = self.followers(author)
        part = slice(page * PAGE, (page + 1) * PAGE)
        users, hot = edges.users[part], edges.hot[part]
        warm = users[hot]
        if page == 0 and self.changes.joined[author]:
            warm = np.insert(warm, np.searchsorted(warm, author), np.uint32(author))
        return self._by_lane(warm), self._by_lane(users[~hot]), part.stop >= len(edges.users)

    def version(self, author: int) -> int:
        """Names the state of the author's follower list; 0 while it fits one page."""
        users = self.followers(author).users
        return zlib.crc32(users.tobytes()) if len(users) > PAGE else 0

    def _by_lane(self, users: Users) -> LanePage:
        lanes = lanes_of(users, self.lanes)
        order = np.argsort(lanes, kind="stable")
        starts = np.searchsorted(lanes[order], np.arange(self.lanes + 1)).tolist()
        return starts, users[order].astype("<u4").tobytes()

    def followees(self, user: int) -> Edges:
        """Whom the user actively follows (without itself)."""
        changes = self.changes
        if not changes.joined[user]:
            return Edges(_NOBODY, _NO_FLAG)
        base = slice(int(self.population.offsets[user]), int(self.population.offsets[user + 1]))
        users = self.population.followees[base]
        imported = np.arange(len(users)) < int(changes.covered[user])
        edges = _merge(
            Edges(users, self.population.hot[base] != 0),
            imported,
            added=changes.follows.out(user, on=True),
            removed=changes.follows.out(user, on=False),
        )
        return self._listed(user, edges, changes.likes_out.get(user))

    def _compute_followers(self, author: int) -> Edges:
        changes = self.changes
        if not changes.joined[author]:
            return Edges(_NOBODY, _NO_FLAG)
        base = slice(int(self.inverse.offsets[author]), int(self.inverse.offsets[author + 1]))
        users = self.inverse.followers[base]
        edges = _merge(
            Edges(users, self.inverse.hot[base] != 0),
            self.inverse.rank[base] < changes.covered[users],
            added=changes.follows.into(author, on=True),
            removed=changes.follows.into(author, on=False),
        )
        return self._listed(author, edges, changes.likes_in.get(author))

    def _listed(self, user: int, edges: Edges, interacted: set[int] | None) -> Edges:
        """Only those who joined and whom no block separates from the user; likes make hot."""
        keep = self.changes.joined[edges.users] & (edges.users != user)
        blocked = self.blocked(user)
        if blocked:
            keep &= ~np.isin(edges.users, _array(blocked))
        users, hot = edges.users[keep], edges.hot[keep]
        if interacted:
            hot = hot | np.isin(users, _array(interacted))
        return Edges(users, hot)

    def blocked(self, user: int) -> set[int]:
        """Those whom the user blocks, and those who block the user."""
        blocks = self.changes.blocks
        return {*blocks.out(user, on=True), *blocks.into(user, on=True)}

    def unfollowed(self, user: int) -> list[int]:
        """Whom the user unfollowed and has not followed again."""
        return self.changes.follows.out(user, on=False)


def _merge(inherited: Edges, imported: Mask, added: list[int], removed: list[int]) -> Edges:
    """Inherited edges that were imported, without `removed`, with `added` (a follow is an interaction: hot)."""
    users, hot = inherited
    if not added and not removed:
        return Edges(users[imported], hot[imported])
    keep = imported
    if removed:
        keep = keep & ~np.isin(users, _array(removed))
    fresh = _array(added)
    keep = keep & ~np.isin(users, fresh)
    together = np.concatenate([users[keep], fresh])
    flags = np.concatenate([hot[keep], np.ones(len(fresh), np.bool_)])
    order = np.argsort(together, kind="stable")
    return Edges(together[order], flags[order])


def _array(users: Iterable[int]) -> Users:
    return np.fromiter(users, np.uint32)
