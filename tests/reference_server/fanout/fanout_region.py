"""A region with everything fan-out needs: both redis servers, memcached, a graph, and real worker processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from lane_servers import GraphStub, end_server, make_settings, memcached_server, redis_server, until
from redis.asyncio import Redis

from reference_server.events import FIELD, DeleteEvent, PostEvent, encode
from reference_server.partition import lane_of
from reference_server.rpc import RpcClient, RpcTimeout, RpcUnavailable
from reference_server.settings import Settings, write_settings
from reference_server.timeline.entry import SLOT_DTYPE


class FanoutRegion:
    """Region "test" of a stack in a temporary directory."""

    def __init__(self, folder: Path, sockets: str, **changes: Any) -> None:
        for name in ("queue", "cache"):
            (folder / name).mkdir()
        self.queue_server = redis_server(folder / "queue", durable=True)
        self.cache_server = redis_server(folder / "cache", durable=False)
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
        self.count = 0

    def socket(self, name: str) -> str:
        return self.settings.socket("test", name)

    def start_worker(self, rank: int = 0) -> subprocess.Popen[bytes]:
        arguments = ["--settings", str(self.settings_path), "--region", "test", "--name", f"fanout-{rank}"]
        worker = subprocess.Popen([sys.executable, "-m", "reference_server.fanout", *arguments])
        self.workers.append(worker)
        return worker

    async def serving(self, *lanes: int) -> None:
        """Wait until these lanes (all) answer."""
        for lane in lanes or range(self.settings.lanes):
            await self.call(lane, "ping")

    async def call(self, lane: int, method: str, *arguments: Any) -> Any:
        """A call that waits for the lane's next owner."""
        deadline = time.monotonic() + 20
        while True:
            try:
                return await self.lanes[lane].call(method, *arguments, timeout_s=2.0)
            except (RpcUnavailable, RpcTimeout):
                if time.monotonic() > deadline:
                    raise
                await until(lambda: True, "")

    async def post(self, author: int, stream: str = "posts", post_id: bytes | None = None) -> bytes:
        self.count += 1
        post_id = post_id or uuid.UUID(int=self.count).bytes
        event = PostEvent(post_id, author, 1_000_000 + self.count, "text", "test", celeb=stream == "celeb")
        await self.queue.xadd(stream, {FIELD: encode(event)})
        return post_id

    async def delete(self, post_id: bytes, author: int) -> None:
        await self.queue.xadd("posts", {FIELD: encode(DeleteEvent(post_id, author, "test"))})

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
        for lane in self.lanes:
            lane.close()
        if self.graph.server is not None:
            await end_server(self.graph.server)
        await self.queue.aclose()
        await self.bus.aclose()
        for server in (self.queue_server, self.cache_server, self.memcached):
            server.kill()
