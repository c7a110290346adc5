"""The graph as it is now: inherited edges under the changes. Arrays an author are kept, and mended when edges change.

An edge is listed when both sides joined, the follower's import has covered it (or it was made since), it was
not taken back, and neither side blocks the other. It is hot when the population file says so, or when the follower
interacted with the author in the last 30 days (see interactions).

Follows that wait for an author who has not joined cost nothing when he does: his list is made when it is first asked
for, in one pass over those who inherited a follow of him. `prepare` makes a long one in pieces, so that sign-ups and
all else are served between them. Each follower who joins later is one edge to mend.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from reference_server.graph.base import Inverse
from reference_server.graph.changes import Applied, Changes
from reference_server.partition_arrays import lanes_of
from reference_server.seeding import Population

PAGE = 1000
KEPT_EDGES = 8_000_000
PIECE = 50_000
"""follows looked at without a rest"""
MENDED_RATIO = 0.1
"""a list of which more changed is made anew when it is asked for"""
Users = npt.NDArray[np.uint32]
Mask = npt.NDArray[np.bool_]
_NOBODY = np.zeros(0, np.uint32)
_NO_FLAG = np.zeros(0, np.bool_)
LanePage = tuple[list[int], bytes]


class Edges(NamedTuple):
    """An author's followers, ascending, and which of them are hot."""

    users: Users
    hot: Mask


@dataclass
class _Kept:
    """A list of followers, as it was before those changed who are to be looked at again."""

    edges: Edges
    version: int
    touched: set[int] = field(default_factory=set)


@dataclass
class _Making:
    """A list that is being made, and who changed meanwhile."""

    done: asyncio.Event = field(default_factory=asyncio.Event)
    touched: set[int] = field(default_factory=set)


class GraphView:
    """Answers questions; told what `changed`."""

    def __init__(
        self, population: Population, inverse: Inverse, changes: Changes, lanes: int, *, loses_pending: bool = False
    ) -> None:
        """`loses_pending` is the planted defect "pending-follows-lost"."""
        self._loses_pending = loses_pending
        self._lost: dict[int, Users] = {}
        """under that defect: author -> who had waited for him"""
        self.population = population
        self.inverse = inverse
        self.changes = changes
        self.lanes = lanes
        self._kept: OrderedDict[int, _Kept] = OrderedDict()
        self._kept_edges = 0
        self._making: dict[int, _Making] = {}

    def changed(self, applied: Applied) -> None:
        """Lists of followers may differ now."""
        if self._loses_pending:
            self._lost |= {author: self._followers(author).users for author in applied.joined}
        for author in applied.authors & self._making.keys():
            self._making[author].touched |= applied.followers[author]
        for author in applied.authors & self._kept.keys():
            kept = self._kept[author]
            kept.touched |= applied.followers[author]
            if author in applied.joined or len(kept.touched) > PAGE + MENDED_RATIO * len(kept.edges.users):
                self._kept_edges -= len(kept.edges.users)
                del self._kept[author]

    def followers(self, author: int) -> Edges:
        """Active followers of the author (without itself). Valid until something changes."""
        return self._list(author).edges

    def most_followers(self, author: int) -> int:
        """So many followers or fewer; costs nothing."""
        inherited = int(self.inverse.offsets[author + 1] - self.inverse.offsets[author])
        return inherited + len(self.changes.follows.incoming.get(author, ()))

    async def prepare(self, author: int) -> None:
        """Have the author's list made in pieces, if it is long and is not there: call this before asking for it."""
        if author in self._making:
            await self._making[author].done.wait()
        elif author not in self._kept and self.most_followers(author) > PIECE and self.changes.joined[author]:
            making = self._making[author] = _Making()
            try:
                edges, version = await self._made(author)
                self._keep(author, _Kept(edges, version, making.touched))
            finally:
                del self._making[author]
                making.done.set()

    async def _made(self, author: int) -> tuple[Edges, int]:
        """The author's list, with its version; who changes meanwhile may be in it or not."""
        first, end = int(self.inverse.offsets[author]), int(self.inverse.offsets[author + 1])
        pieces: list[Edges] = []
        for start in range(first, end, PIECE):
            pieces.append(self._inherited(slice(start, min(start + PIECE, end))))
            await asyncio.sleep(0)
        edges = Edges(np.concatenate([one.users for one in pieces]), np.concatenate([one.hot for one in pieces]))
        edges, version = self._completed(author, edges), 0
        for start in range(0, len(edges.users), PIECE):
            version += _summed(edges.users[start : start + PIECE])
            await asyncio.sleep(0)
        return edges, version

    def _list(self, author: int) -> _Kept:
        kept = self._kept.get(author)
        if kept is None:
            edges = self._followers(author)
            kept = self._keep(author, _Kept(edges, _summed(edges.users)))
        elif kept.touched:
            self._kept_edges -= len(kept.edges.users)
            self._mend(author, kept)
            self._kept_edges += len(kept.edges.users)
        self._kept.move_to_end(author)
        return kept

    def _keep(self, author: int, kept: _Kept) -> _Kept:
        """Those whose lists were asked for longest ago make room."""
        if author in self._kept:
            self._kept_edges -= len(self._kept[author].edges.users)
        self._kept[author] = kept
        self._kept.move_to_end(author)
        self._kept_edges += len(kept.edges.users)
        while self._kept_edges > KEPT_EDGES and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._kept_edges -= len(dropped.edges.users)
        return kept

    def _mend(self, author: int, kept: _Kept) -> None:
        """Look again at the edges that were touched; a copy of the list only where somebody came or went."""
        touched = _ascending(kept.touched)
        found = self._followers(author, among=touched)
        users, hot = kept.edges
        there = _places(users, touched)
        if np.array_equal(users[there], found.users):
            hot[there] = found.hot
        else:
            kept.version += _summed(found.users) - _summed(users[there])
            users, hot = np.delete(users, there), np.delete(hot, there)
            places = np.searchsorted(users, found.users)
            kept.edges = Edges(np.insert(users, places, found.users), np.insert(hot, places, found.hot))
        kept.touched = set()

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
        """Names the state of the author's follower list, hot or cold; 0 while it fits one page."""
        kept = self._list(author)
        return kept.version & 0xFFFFFFFF if len(kept.edges.users) > PAGE else 0

    def _by_lane(self, users: Users) -> LanePage:
        lanes = lanes_of(users, self.lanes)
        order = np.argsort(lanes, kind="stable")
        starts = np.searchsorted(lanes[order], np.arange(self.lanes + 1)).tolist()
        return starts, users[order].astype("<u4").tobytes()

    def followees(self, user: int) -> Users:
        """Whom the user actively follows (without itself), ascending."""
        changes = self.changes
        if not changes.joined[user]:
            return _NOBODY
        imported = self.population.follows(user)[: int(changes.covered[user])]
        return self._followed(user, _united(imported, changes.follows.out(user, on=True)))

    def followees_page(self, user: int, start: int) -> tuple[Users, int | None]:
        """(whom the user actively follows, from user number `start` on, where the next page begins; None: nowhere).

        Looks at a thousand follows; those of authors who have not joined are left out, so a page may be short.
        """
        changes = self.changes
        if not changes.joined[user]:
            return _NOBODY, None
        imported = self.population.follows(user)[: int(changes.covered[user])]
        first = int(np.searchsorted(imported, start))
        made = [other for other in changes.follows.out(user, on=True) if other >= start]
        users = _united(imported[first : first + PAGE + 1], made)
        following = int(users[PAGE]) if len(users) > PAGE else None
        return self._followed(user, users[:PAGE]), following

    def _followed(self, user: int, others: Users) -> Users:
        """Those of them who joined, were not unfollowed and are separated from the user by no block."""
        changes = self.changes
        keep = changes.joined[others] & (others != user)
        keep[_places(others, _ascending(changes.follows.out(user, on=False)))] = False
        keep[_places(others, _ascending(self.blocked(user)))] = False
        keep[_places(others, _ascending(author for author, waited in self._lost.items() if user in waited))] = False
        found: Users = others[keep]
        return found

    def _followers(self, author: int, among: Users | None = None) -> Edges:
        """Active followers of the author; `among` these alone (ascending)."""
        if not self.changes.joined[author]:
            return Edges(_NOBODY, _NO_FLAG)
        first, end = int(self.inverse.offsets[author]), int(self.inverse.offsets[author + 1])
        if among is None:
            return self._completed(author, self._inherited(slice(first, end)))
        places = first + _places(self.inverse.followers[first:end], among)
        return self._completed(author, self._inherited(places), among.tolist())

    def _inherited(self, places: slice | npt.NDArray[np.intp]) -> Edges:
        """Inherited follows at places of the inverse, of users who joined and whose imports have reached them."""
        changes, users = self.changes, self.inverse.followers[places]
        keep = changes.joined[users] & (self.inverse.rank[places] < changes.covered[users])
        return Edges(users[keep], self.inverse.hot[places][keep] != 0)

    def _completed(self, author: int, inherited: Edges, among: list[int] | None = None) -> Edges:
        """With what was changed by hand since; interactions make hot. An inherited edge keeps its flag."""
        changes = self.changes
        users, hot = inherited
        keep = users != author
        keep[_places(users, _ascending(changes.follows.into(author, on=False, among=among)))] = False
        if author in self._lost:
            keep[_places(users, self._lost[author])] = False
        users, hot = users[keep], hot[keep]
        fresh = _missing(users, changes.follows.into(author, on=True, among=among))
        fresh = fresh[changes.joined[fresh]]
        if len(fresh):
            places = np.searchsorted(users, fresh)
            users, hot = np.insert(users, places, fresh), np.insert(hot, places, False)
        blocked: Collection[int] = self.blocked(author) if among is None else self._blocked_among(author, among)
        if len(gone := _places(users, _ascending(blocked))):
            users, hot = np.delete(users, gone), np.delete(hot, gone)
        interacted = changes.interactions.users(author)
        if among is not None:
            interacted = [user for user in among if user in interacted]
        hot[_places(users, _ascending(interacted))] = True
        return Edges(users, hot)

    def _blocked_among(self, author: int, among: list[int]) -> Collection[int]:
        blocks = self.changes.blocks
        return [user for user in among if blocks.get(user, author).on or blocks.get(author, user).on]

    def blocked(self, user: int) -> set[int]:
        """Those whom the user blocks, and those who block the user."""
        blocks = self.changes.blocks
        return {*blocks.out(user, on=True), *blocks.into(user, on=True)}

    def unfollowed(self, user: int) -> list[int]:
        """Whom the user unfollowed and has not followed again."""
        return self.changes.follows.out(user, on=False)


def _united(users: Users, more: Iterable[int]) -> Users:
    """All of them, ascending."""
    fresh = _missing(users, more)
    return np.insert(users, np.searchsorted(users, fresh), fresh)


def _missing(users: Users, wanted: Iterable[int]) -> Users:
    """Those of `wanted` who are not among `users`, ascending."""
    ascending = _ascending(wanted)
    return ascending[~_among(users, ascending)]


def _places(users: Users, wanted: Users) -> npt.NDArray[np.intp]:
    """Where those of `wanted` stand who are among `users`."""
    return np.searchsorted(users, wanted[_among(users, wanted)])


def _among(users: Users, wanted: Users) -> Mask:
    """Which of `wanted` are among `users`. Both ascending: numpy's own set functions sort or hash all of `users`."""
    places = np.searchsorted(users, wanted)
    found: Mask = places < len(users)
    found[found] = users[places[found]] == wanted[found]
    return found


def _summed(users: Users) -> int:
    """A hash of a set of users to which others may be added, and from which they may be subtracted."""
    mixed = users.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    return int((mixed >> np.uint64(32)).sum())


def _ascending(users: Iterable[int]) -> Users:
    return np.sort(np.fromiter(users, np.uint32))
