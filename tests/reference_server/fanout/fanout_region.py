"""A region with everything fan-out needs: both redis servers, memcached, a graph, and real worker processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lane_servers import GraphStub, end_server, make_settings
from real_servers import memcached_server, redis_cache, redis_queue, start_child
from redis.asyncio import Redis

from reference_server.events import FIELD, DeleteEvent, FlagEvent, GraphEvent, PostEvent, StatusEvent, encode
from reference_server.partition import lane_of
from reference_server.queue import Queue
from reference_server.rpc import RpcClient, RpcTimeout, RpcUnavailable
from reference_server.settings import Settings, write_settings
from reference_server.timeline.entry import Status, status_of
from reference_server.timeline.slots import SLOT_DTYPE


class FanoutRegion:
    """Region "test" of a stack in a temporary directory."""

    def __init__(self, folder: Path, sockets: str, **changes: Any) -> None:
        for name in ("queue", "cache"):
            (folder / name).mkdir()
        self.queue_server = redis_queue(folder / "queue")
        self.cache_server = redis_cache(folder / "cache")
        self.memcached = memcached_server()
        for server in (self.queue_server, self.cache_server, self.memcached):
            server.start()
        self.settings: Settings = make_settings(
            folder,
            sockets,
            memcached=self.memcached.port,
            redis_queue=self.queue_server.port,
            redis_cache=self.cache_server.port,
            **changes,
        )
        self.settings_path = folder / "settings.json"
        write_settings(self.settings_path, self.settings)
        self.graph = GraphStub(self.settings.lanes, page=changes.get("page", 1000))
        self.queue: Any = Redis(port=self.queue_server.port, protocol=2)
        self.bus: Any = Redis(port=self.cache_server.port, protocol=2)
        self.lanes = [RpcClient(self.socket(f"lane-{n}")) for n in range(self.settings.lanes)]
        self.workers: list[subprocess.Popen[bytes]] = []
        self.real_graph: subprocess.Popen[bytes] | None = None
        self.count = self.clock = 0

    def socket(self, name: str) -> str:
        return self.settings.socket("test", name)

    def start_worker(self, rank: int = 0) -> subprocess.Popen[bytes]:
        arguments = ["--settings", str(self.settings_path), "--region", "test", "--name", f"fanout-{rank}"]
        worker = start_child([sys.executable, "-m", "reference_server.fanout", *arguments])
        self.workers.append(worker)
        return worker

    def start_graph(self) -> subprocess.Popen[bytes]:
        """A real graph in place of the stub, or a killed one again."""
        arguments = ["--settings", str(self.settings_path), "--region", "test", "--name", "graph"]
        self.real_graph = start_child([sys.executable, "-m", "reference_server.graph", *arguments])
        return self.real_graph

    async def change_graph(self, verb: str, user: int, other: int = -1) -> str:
        """Append a change of the graph, as the api does; its place in the graph stream."""
        queue = Queue(self.queue_server.port)
        place = await queue.append_graph(GraphEvent(verb, user, time.time_ns() // 1000 << 8, "test", other))
        await queue.close()
        return place

    async def serving(self, *lanes: int) -> None:
        """Wait until these lanes (all) answer."""
        for lane in lanes or range(self.settings.lanes):
            await self.call(lane, "ping")

    async def call(self, lane: int, method: str, *arguments: Any) -> Any:
        """A call that waits for the lane's next owner."""
        deadline = time.monotonic() + 40
        while True:
            try:
                return await self.lanes[lane].call(method, *arguments, timeout_s=2.0)
            except (RpcUnavailable, RpcTimeout):
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.005)  # the stub of the graph lives in this process

    async def post(
        self, author: int, stream: str = "posts", post_id: bytes | None = None, labels: int = 0, entry: str = "*"
    ) -> bytes:
        """`entry`: the place in the stream, by default the next."""
        self.count += 1
        post_id = post_id or uuid.UUID(int=self.count).bytes
        celeb = stream == "celeb"
        event = PostEvent(post_id, author, 1_000_000 + self.count, "text", "test", celeb=celeb, labels=labels)
        await self.queue.xadd(stream, {FIELD: encode(event)}, id=entry)
        return post_id

    async def delete(self, post_id: bytes, author: int) -> None:
        await self.queue.xadd("posts", {FIELD: encode(DeleteEvent(post_id, author, "test"))})

    async def change_status(self, post_id: bytes, author: int, status: Status, hlc: int, stream: str = "posts") -> None:
        await self.queue.xadd(stream, {FIELD: encode(StatusEvent(post_id, author, status, hlc, "test"))})

    async def set_flag(self, name: str, value: bool | int | str, workers: Sequence[int] = (0,)) -> None:
        """Set a flag at run time; wait until these workers (the first) follow."""
        await self.set_flag_only(name, value)
        for rank in workers:
            deadline = time.monotonic() + 5
            while (await self.ask_worker(rank, "stats"))["flags"][name] != value:
                assert time.monotonic() < deadline, f"{name} is not {value!r} after 5 s"

    async def set_flag_only(self, name: str, value: bool | int | str) -> None:
        """Set a flag at run time, without waiting."""
        self.clock += 1
        queue = Queue(self.queue_server.port)
        assert await queue.set_flag(FlagEvent(name, json.dumps(value).encode(), self.clock, "test"), replicate=False)
        await queue.close()

    async def ask_worker(self, rank: int, method: str) -> Any:
        client = RpcClient(self.socket(f"fanout-{rank}"))
        try:
            return await client.call(method)
        finally:
            client.close()

    async def first_page(self, user: int) -> list[bytes]:
        """What a first page rests on: what is owed is written, then the user's list is read."""
        await self.call(lane_of(user, self.settings.lanes), "materialise", user, 60)
        return await self.timeline(user)

    async def arrivals(self, user: int) -> dict[bytes, int]:
        """Post id -> arrival number, of all in the user's list."""
        reply = await self.call(lane_of(user, self.settings.lanes), "rebuild", user)
        slots = np.frombuffer(reply[4], SLOT_DTYPE)
        return dict(zip(slots["id"].tolist(), slots["seq"].tolist(), strict=True))

    async def statuses(self, user: int, posts: Sequence[bytes]) -> list[int]:
        """Statuses of these posts in the user's list."""
        reply = await self.call(lane_of(user, self.settings.lanes), "rebuild", user)
        slots = np.frombuffer(reply[4], SLOT_DTYPE)
        found = dict(zip(slots["id"].tolist(), slots["status"].tolist(), strict=True))
        return [status_of(found[post]) for post in posts]

    async def dead_letters(self) -> list[dict[str, str]]:
        """Fields of what was put aside, as text."""
        rows = await self.queue.xrange("dead")
        return [{name.decode(): value.decode("latin-1") for name, value in fields.items()} for _, fields in rows]

    async def timeline(self, user: int) -> list[bytes]:
        """Post ids of the user's list at its owner, in arrival order, repeats and all."""
        reply = await self.call(lane_of(user, self.settings.lanes), "rebuild", user)
        return [row["id"].tobytes() for row in np.frombuffer(reply[4], SLOT_DTYPE)]

    async def caught_up(self, *streams: str) -> None:
        """Wait until all lanes have the streams' ends in their logs, applied."""
        for stream in streams or ("posts",):
            newest = await self.queue.xrevrange(stream, count=1)
            wanted = newest[0][0].decode() if newest else "0-0"
            for lane in range(self.settings.lanes):
                deadline = time.monotonic() + 30
                while True:
                    stats = await self.call(lane, "stats")
                    if stats["positions"][stream] == wanted and stats["applied"] == stats["records"]:
                        break
                    assert time.monotonic() < deadline, stats

    async def close(self) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                os.kill(worker.pid, signal.SIGKILL)
            worker.wait()
        if self.real_graph is not None:
            self.real_graph.kill()
            self.real_graph.wait()
        for lane in self.lanes:
            lane.close()
        if self.graph.server is not None:
            await end_server(self.graph.server)
        await self.queue.aclose()
        await self.bus.aclose()
        for server in (self.queue_server, self.cache_server, self.memcached):
            server.kill()
