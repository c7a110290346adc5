"""What stands around the api whose feed pages are measured: real memcached, redis and SQLite, stubs of graph and lanes.

Every timeline has ENTRIES entries, the newest of them in memcached. Every body is there too, and every user has a
session, so that nothing is asked of lane owners. The stubs live in the process that makes the load.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks._lane import free_port, start_memcached
from reference_server import rpc
from reference_server.api.bodies import render
from reference_server.durable.sqlite_writer import FILE_NAME, SqliteWriter
from reference_server.events import PostEvent
from reference_server.parent import die_with_parent
from reference_server.settings import Region, Settings, write_settings
from reference_server.timeline.cached import CachedTimeline, gen_key, make_value, newest_part, timeline_key
from reference_server.timeline.entry import make_seq
from reference_server.timeline.memcached import Memcached, set_command
from reference_server.timeline.slots import SLOT_DTYPE

USERS = 1_000
ENTRIES = 800
POSTS = 20_000
"""posts of which a timeline holds a random choice"""
AUTHORS = 3_750
TEXT = "The quick brown fox jumps over the lazy dog, and nobody who sees it is in the least surprised. " * 2
OWN_ONE_IN = 10
"""one user in so many has posted lately"""
LANES = 4
SECRET = "5a" * 32
FIRST_US = 1_700_000_000_000_000


@asynccontextmanager
async def page_region(cached: int) -> AsyncIterator[tuple[Path, Settings]]:
    """Everything but the api itself, with so many entries of each timeline in memcached.

    Yields the path of the settings file, and the settings.
    """
    memcached, cache_port = start_memcached()
    with TemporaryDirectory(prefix="fs-page-") as folder:
        redis, redis_port = _start_redis(folder)
        try:
            settings = _settings(folder, cache_port, redis_port, cached)
            SqliteWriter(settings.data("bench") / FILE_NAME).close()
            path = Path(folder) / "settings.json"
            write_settings(path, settings)
            await _fill(cache_port, redis_port, cached)
            servers = await _serve_stubs(settings)
            yield path, settings
            for server in servers:
                server.close()
        finally:
            for process in (memcached, redis):
                process.kill()
                process.wait()


def _start_redis(folder: str) -> tuple[subprocess.Popen[bytes], int]:
    program = shutil.which("redis-server")
    assert program is not None, "redis-server is not installed: apt-get install redis-server"
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", "", "--logfile", "redis.log"]
    return subprocess.Popen([program, *options], preexec_fn=die_with_parent), port


def _settings(folder: str, cache_port: int, redis_port: int, cached: int) -> Settings:
    region = Region(
        name="bench",
        index=0,
        api_ports=(free_port(),),
        fep_ports=(1,),
        memcached_ports=(cache_port,),
        redis_queue_port=redis_port,
        redis_cache_port=1,
        replicator_port=1,
    )
    return Settings(
        directory=folder,
        sockets=folder,
        secret=SECRET,
        regions=(region,),
        users=USERS,
        lanes=LANES,
        flags={
            "auto_throttle": False,  # at full speed it is meant to be overloaded
            "cached_entries": cached,
        },
    )


async def _fill(cache_port: int, redis_port: int, cached: int) -> None:
    """Bodies, generations, session marks and timelines into memcached; a few own posts into redis."""
    cache = Memcached(cache_port, timeout_s=30.0)
    assert await cache.wait_connected(10)
    random = np.random.default_rng(1)
    posts = [_post(number, int(random.integers(AUTHORS))) for number in range(POSTS)]
    for start in range(0, POSTS, 1000):
        some = posts[start : start + 1000]
        await cache.submit(b"".join([set_command(f"p:{post.id.hex()}", render(post), 0) for post in some]))
    await cache.submit(b"".join([set_command(gen_key(lane), b"1", 0) for lane in range(LANES)]))
    recent: list[str] = []
    for user in range(USERS):
        chosen = np.sort(random.choice(POSTS, ENTRIES, replace=False)).tolist()
        slots = b"".join([_slot(number, posts[number]) for number in chosen])
        whole = CachedTimeline(make_seq(1, 0), make_seq(1, POSTS), slots)
        value = make_value(*newest_part(whole, cached))
        commands = set_command(timeline_key(1, user), value, 0) + set_command(f"hot:{user}", b"1", 0)
        assert not await cache.submit(commands)
        if user % OWN_ONE_IN == 0:
            own = [posts[number] for number in chosen[-1:-200:-40]]
            recent.append(f"RPUSH recent:{user} " + " ".join(f"{post.ts_us}:{post.id.hex()}" for post in own))
    await cache.close()
    await asyncio.to_thread(_tell_redis, redis_port, recent)


def _tell_redis(port: int, commands: list[str]) -> None:
    with socket.create_connection(("127.0.0.1", port), 10) as connection, connection.makefile("rb") as answers:
        connection.sendall("".join([f"{command}\r\n" for command in commands]).encode())
        for _ in commands:
            assert answers.readline().startswith(b":")


def _post(number: int, author: int) -> PostEvent:
    ts_us = FIRST_US + number * 1_000_000
    post_id = (ts_us // 1000).to_bytes(6, "big") + b"\x70\x00\x80" + number.to_bytes(7, "big")
    return PostEvent(post_id, author, ts_us, f"{number} {TEXT}", "bench")


def _slot(number: int, post: PostEvent) -> bytes:
    row = np.zeros(1, SLOT_DTYPE)
    row[0] = (make_seq(1, number + 1), post.id, post.ts_us, post.author, 0.0, 0)
    return row.tobytes()


async def _serve_stubs(settings: Settings) -> list[asyncio.Server]:
    random = np.random.default_rng(2)
    excluded = [random.integers(0, AUTHORS, 25).astype("<u4").tobytes() for _ in range(USERS)]

    async def ping() -> str:
        return "pong"

    async def exclude(user: int) -> list[Any]:
        return [excluded[user], b"", 0]

    async def nothing(user: int, *_: Any) -> list[int]:
        raise rpc.RpcError("unavailable", "a page of this benchmark comes from the cache")

    async def changes(life: int, count: int) -> list[Any]:
        return [1, 0, b"" if life else None]

    graph: dict[str, rpc.Handler] = {"ping": ping, "excluded": exclude, "excluded_changes": changes}

    async def generation(user: int) -> int:
        return 1

    methods: dict[str, rpc.Handler] = {
        "ping": ping,
        "generation": generation,
        "rebuild": nothing,
        "materialise": nothing,
    }
    servers = [await rpc.serve(settings.socket("bench", "graph"), graph)]
    for lane in range(settings.lanes):
        servers.append(await rpc.serve(settings.socket("bench", f"lane-{lane}"), methods))
    return servers
