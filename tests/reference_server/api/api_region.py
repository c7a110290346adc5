"""A region around one real api process: real redis, memcached and SQLite; graph and lane owners are small stubs.

The stub owners derive every timeline from the posts stream (arrival = place in the stream), the stub graph applies the
graph stream when it is asked to sync. Nobody archives unless a test does.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
from real_servers import Server, free_port

from reference_server import rpc
from reference_server.api.command import api_command
from reference_server.durable import ArchiveBatch, PostRow, StatusRow
from reference_server.durable.sqlite_writer import FILE_NAME, SqliteWriter
from reference_server.events import GraphEvent, PostEvent, Reader, StatusEvent, hidden_labels
from reference_server.queue import START, StreamKeeper
from reference_server.security import make_operator_token, make_token
from reference_server.settings import Region, Settings, write_settings
from reference_server.timeline.entry import make_seq, pack_entry

SECRET = "5a" * 32
OPERATOR_TOKEN = make_operator_token(bytes.fromhex(SECRET))
USERS = 1000
LANES = 2


class ApiRegion:
    def __init__(self, folder: Path, sockets: Path, redis: Server, cache: Server) -> None:
        self.folder, self.redis, self.cache = folder, redis, cache
        port = free_port()
        self.region = Region(
            name="us-east",
            index=0,
            api_ports=(port,),
            fep_ports=(1,),
            memcached_ports=(cache.port,),
            redis_queue_port=redis.port,
            redis_cache_port=1,
            replicator_port=1,
        )
        self.settings = Settings(
            directory=str(folder),
            sockets=str(sockets),
            secret=SECRET,
            regions=(self.region,),
            users=USERS,
            lanes=LANES,
            celebrity_threshold=5,
        )
        self.keeper = StreamKeeper(redis.port)
        self.follows: dict[tuple[int, int], bool] = {}
        self.blocks: dict[tuple[int, int], bool] = {}
        self.joined: set[int] = set()
        self.readers: dict[int, int] = {}
        self.labels: dict[int, int] = {}
        self.imports_wait = False
        self.celebrities: set[int] = set()
        self.calls: list[str] = []
        self.horizon_us = 0
        """the lanes have let go of older posts"""
        self._applied = START
        self.graph_hangs, self.lanes_hang = asyncio.Event(), asyncio.Event()
        self.graph_applies = asyncio.Event()
        self.graph_applies.set()
        self._servers: list[asyncio.Server] = []
        SqliteWriter(self.settings.data("us-east") / FILE_NAME).close()
        self.api: Server | None = None
        self.http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10)

    # --- processes

    async def start(self, *defects: str) -> None:
        settings = msgspec.structs.replace(self.settings, defects=defects)
        path = self.folder / "settings.json"
        write_settings(path, settings)
        argv, environment = api_command(path, settings, "us-east", 0)
        self.api = Server(argv, self.region.api_ports[0], environment)
        await asyncio.to_thread(self.api.start)
        await eventually(self._ready, "the api is ready")

    async def _ready(self) -> bool:
        try:
            return (await self.http.get("/readyz")).status_code == 200
        except httpx.TransportError:
            return False

    async def restart(self, *defects: str) -> None:
        assert self.api is not None
        self.api.kill()
        await self.start(*defects)

    async def close(self) -> None:
        await self.http.aclose()
        if self.api is not None:
            self.api.kill()
        await self.keeper.close()
        for server in self._servers:
            server.close()
        async with asyncio.timeout(5):  # let the stubs see that their clients are gone
            while any(server._active_count for server in self._servers):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def serve_graph(self) -> None:
        methods = {
            "ping": self._ping,
            "sync": self._sync,
            "user": self._user,
            "counts": self._counts,
            "excluded": self._excluded,
            "followees": self._followees,
            "following": self._following,
            "follower_count": self._follower_count,
        }
        methods = {name: self._unless(self.graph_hangs, method) for name, method in methods.items()}
        self._servers.append(await rpc.serve(self.settings.socket("us-east", "graph"), methods))

    async def serve_lanes(self) -> None:
        methods = {
            "rebuild": self._rebuild,
            "generation": self._generation,
            "materialise": self._materialise,
            "ping": self._ping,
        }
        methods = {name: self._unless(self.lanes_hang, method) for name, method in methods.items()}
        for lane in range(LANES):
            self._servers.append(await rpc.serve(self.settings.socket("us-east", f"lane-{lane}"), methods))

    @staticmethod
    def _unless(hangs: asyncio.Event, method: Any) -> Any:
        """The method, silent while `hangs` is set (a paused process)."""

        async def answer(*arguments: Any) -> Any:
            if hangs.is_set():
                await asyncio.Event().wait()
            return await method(*arguments)

        return answer

    # --- graph stub

    async def _ping(self) -> str:
        return "pong"

    async def _sync(self, stream_id: str) -> None:
        await self.graph_applies.wait()
        for entry in await self.keeper.entries("graph", self._applied, 10_000):
            event, self._applied = entry.event, entry.id
            assert isinstance(event, GraphEvent)
            if event.verb in ("follow", "unfollow"):
                self.follows[event.user, event.other] = event.verb == "follow"
            elif event.verb in ("block", "unblock"):
                self.blocks[event.user, event.other] = event.verb == "block"
            elif event.verb == "join":
                self.joined.add(event.user)
            elif event.verb == "profile":
                said = self.readers.get(event.user, 0) & ~event.mask | event.other
                self.readers[event.user] = said
                self.labels[event.user] = int(hidden_labels(Reader(said)))
            self.calls.append(event.verb)

    async def _user(self, user: int) -> dict[str, Any]:
        joined = user in self.joined
        state = "none" if not joined else "pending" if self.imports_wait else "done"
        found = {"exists": True, "joined": joined, "import": state, "done": 0, "total": 0}
        return found | {"reader": self.readers.get(user, 0)}

    async def _following(self, user: int, other: int) -> list[int]:
        followees = [one for (who, one), active in self.follows.items() if who == user and active]
        return [len(followees), int(other in followees)]

    async def _counts(self, user: int) -> list[int]:
        self.calls.append("counts")
        edges = [edge for edge, active in self.follows.items() if active]
        return [sum(other == user for _, other in edges), sum(one == user for one, _ in edges)]

    async def _follower_count(self, author: int) -> int:
        return 1000 if author in self.celebrities else 0

    async def _excluded(self, user: int) -> list[bytes]:
        self.calls.append("excluded")
        unfollowed = [other for (one, other), active in self.follows.items() if one == user and not active]
        pairs = [pair for pair, active in self.blocks.items() if active and user in pair]
        blocked = [one if other == user else other for one, other in pairs]
        return [np.array(unfollowed, "<u4").tobytes(), np.array(blocked, "<u4").tobytes(), self.labels.get(user, 0)]

    async def _followees(self, user: int, start: int) -> list[Any]:
        edges = self.follows.items()
        found = sorted(other for (one, other), active in edges if one == user and active and other >= start)
        return [np.array(found[:2], "<u4").tobytes(), found[2] if found[2:] else None]

    # --- lane stub

    async def _rebuild(self, user: int) -> list[Any]:
        authors = {other for one, other in self.follows if one == user} | {user}
        slots = b""
        entries = await self.keeper.entries("posts", START, 10_000)
        entries += await self.keeper.entries("celeb", START, 10_000)
        for record, entry in enumerate(entries, 1):
            event = entry.event
            if isinstance(event, PostEvent) and event.author in authors and event.ts_us >= self.horizon_us:
                packed = pack_entry(event.id, event.ts_us, event.author, labels=event.labels)
                slots += make_seq(1, record).to_bytes(8, "big") + packed
        return [1, 1, make_seq(1, 0), make_seq(1, len(entries)), slots, self.horizon_us]

    async def _generation(self, user: int) -> int:
        return 1

    async def _materialise(self, user: int, hot_ttl_s: int) -> int:
        self.calls.append("materialise")
        return 0

    # --- what tests do

    async def archive(self) -> None:
        """What the archiver does; bodies leave redis-queue at once."""
        writer = SqliteWriter(self.settings.data("us-east") / FILE_NAME)
        batch = ArchiveBatch()
        for stream in ("posts", "celeb"):
            for entry in await self.keeper.entries(stream, START, 10_000):
                if isinstance(entry.event, PostEvent):
                    event = entry.event
                    row = PostRow(event.id, event.author, event.ts_us, event.text, event.reply_to, labels=event.labels)
                    batch.posts.append(row)
                elif isinstance(entry.event, StatusEvent):
                    batch.statuses.append(StatusRow(entry.event.id, entry.event.status, entry.event.hlc))
                else:
                    batch.statuses.append(StatusRow(entry.event.id, 3))  # type: ignore[union-attr]
        writer.archive(batch)
        writer.close()
        for post in batch.posts:
            await self.keeper._link.call("DEL", f"body:{post.id.hex()}")
        for status in batch.statuses:
            await self.keeper._link.call("DEL", f"deleted:{status.id.hex()}", f"status:{status.id.hex()}")

    async def stored(self) -> dict[str, int]:
        """Length of each stream."""
        streams = ("posts", "celeb", "graph", "jobs", "outbox")
        return {stream: int(await self.keeper._link.call("XLEN", stream)) for stream in streams}

    def user(self, number: int) -> User:
        return User(self, number)

    async def operate(self, method: str, path: str, **options: Any) -> httpx.Response:
        """A request of the operator."""
        headers = {"Authorization": f"Bearer {OPERATOR_TOKEN}"} | options.pop("headers", {})
        return await self.http.request(method, f"/v1/operator/{path}", headers=headers, **options)

    async def metrics(self) -> str:
        """What the api and its region measure now."""
        answer = await self.http.get("/metrics", headers={"Authorization": f"Bearer {OPERATOR_TOKEN}"})
        assert answer.status_code == 200, answer.text
        return answer.text

    async def set_flag(self, name: str, value: Any) -> None:
        answer = await self.operate("PUT", f"flags/{name}", json={"value": value})
        assert answer.status_code == 200, answer.text


class User:
    """One user's requests."""

    def __init__(self, region: ApiRegion, number: int) -> None:
        self.region, self.number = region, number
        token, _ = make_token(bytes.fromhex(SECRET), number)
        self.headers = {"Authorization": f"Bearer {token}"}

    async def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = self.headers | options.pop("headers", {})
        return await self.region.http.request(method, path, headers=headers, **options)

    async def post(self, text: str = "hello", **members: Any) -> dict[str, Any]:
        answer = await self.call("POST", "/v1/posts", json={"text": text, **members})
        assert answer.status_code == 201, answer.text
        return dict(answer.json()["post"])

    async def follow(self, other: int) -> None:
        assert (await self.call("PUT", f"/v1/follows/{other}")).status_code == 204

    async def feed(self, **parameters: Any) -> list[str]:
        answer = await self.call("GET", "/v1/feed", params=parameters)
        assert answer.status_code == 200, answer.text
        return [item["id"] for item in answer.json()["items"]]

    async def walk(self, limit: int) -> list[list[str]]:
        pages, cursor = [], None
        while True:
            parameters = {"limit": limit} | ({"cursor": cursor} if cursor else {})
            answer = await self.call("GET", "/v1/feed", params=parameters)
            assert answer.status_code == 200, answer.text
            page = answer.json()
            pages.append([item["id"] for item in page["items"]])
            cursor = page["next_cursor"]
            if cursor is None:
                return pages


def problem(answer: httpx.Response) -> str:
    """The slug of a problem document, checked for its form."""
    assert answer.headers.get("content-type") == "application/problem+json", (answer, answer.request.url, answer.text)
    document = answer.json()
    assert set(document) == {"type", "title", "status", "detail"}
    assert document["status"] == answer.status_code
    assert "Traceback" not in answer.text
    assert ("retry-after" in answer.headers) == (answer.status_code in (429, 503))
    return str(document["type"]).removeprefix("urn:feedstorm:problem:")


async def eventually(condition: Any, what: str, limit_s: float = 10.0) -> None:
    try:
        async with asyncio.timeout(limit_s):
            while not await condition():  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {limit_s} s: {what}") from None
