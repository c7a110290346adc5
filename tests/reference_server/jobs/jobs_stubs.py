"""A region around the jobs process: real stores; graph and lane owners answer as told."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from real_servers import start_child

from reference_server import rpc
from reference_server.queue import Queue
from reference_server.rpc import RpcClient, RpcError, RpcTimeout, RpcUnavailable
from reference_server.settings import Region as RegionSettings
from reference_server.settings import Settings, write_settings

LIMIT_S = 15.0


class Region:
    def __init__(self, folder: Path, sockets: Path, redis_port: int, memcached_port: int) -> None:
        self.folder = folder
        region = RegionSettings(
            name="us-east",
            index=0,
            api_ports=(1,),
            fep_ports=(2,),
            memcached_ports=(memcached_port,),
            redis_queue_port=redis_port,
            redis_cache_port=3,
            replicator_port=4,
        )
        self.settings = Settings(
            directory=str(folder), sockets=str(sockets), secret="00" * 32, regions=(region,), users=10_000, lanes=2
        )
        self.queue = Queue(redis_port)
        self.lane_positions: list[dict[str, str]] = [{}, {}]
        self.follows: dict[int, int] = {}
        self.done: dict[int, int] = {}
        self.batches: list[tuple[int, int, int]] = []
        self.caught_up: list[tuple[int, int, bool]] = []
        self.synced: list[str] = []
        self.refused: set[int] = set()
        self.unknown: set[int] = set()
        self.hold_imports = asyncio.Event()
        self.hold_imports.set()
        self.imports_under_way = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._servers: list[asyncio.Server] = []

    @property
    def database(self) -> Path:
        return self.settings.data("us-east") / "durable.db"

    async def serve(self) -> None:
        graph = {"user": self._user, "import_batch": self._import_batch, "sync": self._sync}
        self._servers.append(await rpc.serve(self.settings.socket("us-east", "graph"), graph))
        for lane in range(2):
            await self.serve_lane(lane)

    async def serve_lane(self, lane: int) -> None:
        async def position() -> dict[str, str]:
            return self.lane_positions[lane]

        async def materialise(user: int, hot_ttl_s: float, everything: bool) -> int:
            self.caught_up.append((lane, user, everything))
            return 0

        path = self.settings.socket("us-east", f"lane-{lane}")
        self._servers.append(await rpc.serve(path, {"position": position, "materialise": materialise}))

    async def _user(self, user: int) -> dict[str, Any]:
        exists = user not in self.unknown
        return {"exists": exists, "joined": exists, "import": "running", "done": self.done.get(user, 0), "total": 0}

    async def _import_batch(self, user: int, start: int, count: int) -> list[int]:
        if user in self.refused:
            raise RpcError("bad-request", "no")
        self.imports_under_way += 1
        await self.hold_imports.wait()
        self.imports_under_way -= 1
        total = self.follows[user]
        self.batches.append((user, start, count))
        self.done[user] = min(total, start + count)
        return [self.done[user], total]

    async def _sync(self, stream_id: str) -> None:
        self.synced.append(stream_id)

    def population(self, users: int, mean_follows: int, history: int) -> None:
        folder = self.folder / "population"
        folder.mkdir()
        described = {"version": 1, "users": users, "seed": 1, "history": history, "joined": "all"}
        described |= {"mean_follows": mean_follows, "celebrities": [], "celebrity_threshold": 0}
        (folder / "population.json").write_text(json.dumps(described))
        np.save(folder / "offsets.npy", np.zeros(users + 1, np.int64))
        np.save(folder / "followees.npy", np.zeros(0, np.uint32))
        np.save(folder / "hot.npy", np.zeros(0, np.uint8))
        (self.folder / "seed.json").write_text(json.dumps({"history_end_us": 1_700_000_000_000_000}))
        self.settings = _changed(self.settings, population=str(folder))

    async def start(self, *defects: str) -> None:
        self.settings = _changed(self.settings, defects=defects)
        path = self.folder / "settings.json"
        write_settings(path, self.settings)
        arguments = ["--settings", str(path), "--region", "us-east", "--name", "jobs"]
        self.process = start_child([sys.executable, "-m", "reference_server.jobs", *arguments])
        client = RpcClient(self.settings.socket("us-east", "jobs"), 0.5)

        async def answers() -> bool:
            try:
                return bool(await client.call("ping") == "pong")
            except (RpcUnavailable, RpcTimeout):
                return False

        await eventually(answers, "jobs answers ping")
        client.close()

    def kill(self, number: int = signal.SIGKILL) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(10)
        self.process = None
        return code

    async def close(self) -> None:
        if self.process is not None:
            self.kill()
        await self.queue.close()
        for server in self._servers:
            server.close()


def _changed(settings: Settings, **values: Any) -> Settings:
    import msgspec

    return msgspec.structs.replace(settings, **values)


async def eventually(condition: Any, what: str, limit_s: float = LIMIT_S) -> None:
    try:
        async with asyncio.timeout(limit_s):
            while not await condition():  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {limit_s} s: {what}") from None
