"""A stub of the graph, and lanes in this process: for timeline and fan-out tests."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reference_server import rpc
from reference_server.partition_arrays import lanes_of
from reference_server.rpc import RpcError
from reference_server.settings import Region, Settings
from reference_server.timeline.cache_writer import CacheWriter
from reference_server.timeline.cached import Slots, for_display
from reference_server.timeline.defects import SOUND, LaneDefects
from reference_server.timeline.entry import pack_entry
from reference_server.timeline.index import Index, Users
from reference_server.timeline.lane_service import LaneService
from reference_server.timeline.merge import ColdMerge
from reference_server.timeline.owner import LaneOwner, Notice, PostPage
from reference_server.timeline.slots import SLOT_DTYPE
from reference_server.timeline.takeover import join_cache, lane_users, restore
from reference_server.timeline.wal import Wal

DEADLINE_S = 15.0


class Posts:
    """Posts with ascending times."""

    def __init__(self) -> None:
        self.count = 0

    def entry(self, author: int) -> tuple[bytes, bytes]:
        """(post id, entry)."""
        self.count += 1
        post_id = uuid.UUID(int=self.count).bytes
        return post_id, pack_entry(post_id, 1_000_000 + self.count, author)


class GraphStub:
    """Follower lists in memory, answered as the graph service does."""

    def __init__(self, lanes: int, page: int = 1000) -> None:
        self.lanes, self.page = lanes, page
        self.hot: dict[int, set[int]] = {}
        self.cold: dict[int, set[int]] = {}
        self.away = False
        self.asked: list[tuple[int, int]] = []
        self.refused: list[tuple[int, int]] = []
        self.unknown: set[int] = set()
        self.after_page: Callable[[int, int], None] = lambda author, page: None
        self.server: asyncio.Server | None = None

    def follow(self, author: int, users: Iterable[int], *, hot: bool = True) -> None:
        (self.hot if hot else self.cold).setdefault(author, set()).update(users)

    async def followees(self, user: int) -> list[int]:
        if self.away:
            raise RpcError("unavailable", "stub")
        return sorted({a for edges in (self.hot, self.cold) for a, users in edges.items() if user in users})

    async def serve(self, path: str) -> None:
        async def followees(user: int, start: int) -> list[Any]:
            found = [author for author in await self.followees(user) if author >= start]
            return [np.array(found[:2], "<u4").tobytes(), found[2] if found[2:] else None]

        self.server = await rpc.serve(path, {"followers": self._followers, "followees": followees})

    async def _followers(self, author: int, page: int) -> list[Any]:
        if self.away:
            self.refused.append((author, page))
            raise RpcError("unavailable", "stub")
        self.asked.append((author, page))
        if author in self.unknown:
            raise RpcError("not-found", f"no user {author}")
        hot, cold = self.hot.get(author, set()), self.cold.get(author, set())
        everybody = sorted(hot | cold)
        part = everybody[page * self.page : (page + 1) * self.page]
        warm = [user for user in part if user in hot]
        if page == 0:
            warm = sorted({*warm, author})
        last = (page + 1) * self.page >= len(everybody)
        version = hash(tuple(everybody)) & 0xFFFFFFFF
        reply = [self._by_lane(warm), self._by_lane([user for user in part if user not in hot]), last, version]
        self.after_page(author, page)
        return reply

    def _by_lane(self, users: list[int]) -> tuple[list[int], bytes]:
        array = np.array(users, np.uint32)
        lanes = lanes_of(array, self.lanes)
        order = np.argsort(lanes, kind="stable")
        return np.searchsorted(lanes[order], range(self.lanes + 1)).tolist(), array[order].astype("<u4").tobytes()


class OpenLane:
    """A lane in this process, with its service; the only lane of a population."""

    def __init__(
        self,
        folder: Path,
        port: int,
        graph: GraphStub,
        users: int = 50,
        *,
        defects: LaneDefects = SOUND,
        more_ports: Sequence[int] = (),
    ) -> None:
        self.notices: list[Notice] = []
        self.posts = Posts()
        self.ports = (port, *more_ports)
        wal = Wal(folder)
        index = Index(wal.epoch, lane_users(0, 1, users), users, kept=800)
        self.owner = LaneOwner(0, wal, index, lambda _, notices: self.notices.extend(notices), defects=defects)
        restore(self.owner)
        self.merge = ColdMerge(self.owner, graph.followees, 800)
        self.service = LaneService(self.owner, self.merge)
        self.server: asyncio.Server | None = None
        self.posts.count = self.owner.wal.last_record()

    async def join(self) -> OpenLane:
        await join_cache(self.owner, self.ports)
        return self

    @property
    def writer(self) -> CacheWriter:
        """The hand on the first memcached node."""
        assert self.owner.cache is not None
        return self.owner.cache.nodes[0]

    async def serve(self, path: str) -> None:
        self.server = await rpc.serve(path, self.service.handlers())

    def post(self, author: int, hot: Iterable[int], cold: Iterable[int] = ()) -> bytes:
        """Write one post with one page; returns its id."""
        post_id, entry = self.posts.entry(author)
        source = b"posts:%d-0" % self.posts.count
        page = PostPage(source, post_id, author, entry, numbers(hot), numbers(cold), 0, True)
        self.owner.write([page], "posts", f"{self.posts.count}-0")
        return post_id

    async def applied(self) -> None:
        async with asyncio.timeout(DEADLINE_S):
            await self.owner.wait_applied(self.owner.index.next - 1)

    def ids(self, user: int) -> list[bytes]:
        """Post ids of the user's list, in arrival order, repeats and all."""
        return [row["id"].tobytes() for row in np.frombuffer(self.owner.index.slots_of(user), SLOT_DTYPE)]

    async def close(self) -> None:
        if self.server is not None:
            await end_server(self.server)
        await self.merge.close()
        await self.owner.close()


async def end_server(server: asyncio.Server) -> None:
    """Close a server, and let its side of connections see that their clients are gone."""
    server.close()
    for _ in range(5):
        await asyncio.sleep(0)


def numbers(users: Iterable[int]) -> Users:
    return np.array(list(users), np.uint32)


def ids_of(slots: Slots) -> list[bytes]:
    return [row["id"].tobytes() for row in slots]


def display_ids(data: bytes) -> list[bytes]:
    return ids_of(for_display(data))


def make_settings(directory: Path, sockets: str, **changes: Any) -> Settings:
    """A stack of one region "test" with the ports given in `changes` (memcached, redis_queue, redis_cache)."""
    ports = {name: changes.pop(name, 1) for name in ("memcached", "redis_queue", "redis_cache")}
    region = Region(
        name="test",
        index=0,
        api_ports=(),
        fep_ports=(),
        memcached_ports=ports["memcached"] if isinstance(ports["memcached"], tuple) else (ports["memcached"],),
        redis_queue_port=ports["redis_queue"],
        redis_cache_port=ports["redis_cache"],
        replicator_port=1,
        fanout_workers=changes.pop("fanout_workers", 1),
    )
    options = {"users": 50, "lanes": 1, **changes}
    return Settings(directory=str(directory), sockets=sockets, secret="00", regions=(region,), **options)
