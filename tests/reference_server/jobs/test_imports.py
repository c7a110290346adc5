from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from reference_server.durable.sqlite_writer import SqliteWriter
from reference_server.events import STREAM_JOBS, GraphEvent, ImportEvent
from reference_server.jobs.imports import KINDS, Imports
from reference_server.jobs.scheduler import Scheduler
from reference_server.jobs.store import Store
from reference_server.queue import Entry
from reference_server.rpc import RpcError


class Keeper:
    def __init__(self, users: list[int]) -> None:
        self.rows = [Entry(f"{n}-0", ImportEvent(user)) for n, user in enumerate(users, 2)]

    async def entries(self, stream: str, after: str, count: int) -> list[Entry]:
        behind = int(after.partition("-")[0])
        return [entry for entry in self.rows if int(entry.id.partition("-")[0]) > behind][:count]

    async def last(self, stream: str) -> list[Entry]:
        return [Entry("1-0", GraphEvent("join", 5, 1, "us-east"))]


class Part:
    """Graph and lane owner in one; refuses the first calls with the errors given."""

    def __init__(self, follows: dict[int, int], **refusals: list[str]) -> None:
        self.follows, self.refusals = follows, refusals
        self.done: list[tuple[str, Any]] = []

    async def call(self, method: str, *arguments: Any, timeout_s: float) -> Any:
        if self.refusals.get(method):
            raise RpcError(self.refusals[method].pop(0))
        self.done.append((method, arguments[0]))
        if method == "import_batch":
            user, start, count = arguments
            return [min(self.follows[user], start + count), self.follows[user]]
        return {"user": {"exists": True, "done": 0, "joined": True}}.get(method)


@asynccontextmanager
async def imports_of(tmp_path: Path, keeper: Keeper, part: Part) -> AsyncIterator[Imports]:
    store = Store(SqliteWriter(tmp_path / "durable.db"))
    scheduler = Scheduler(KINDS, lambda: False)
    running = asyncio.ensure_future(scheduler.run())
    imports = Imports(keeper, store, part, [part], scheduler)  # type: ignore[arg-type, list-item]
    await imports.start()
    yield imports
    running.cancel()
    await asyncio.wait([running])
    await store.close()


async def until_at(imports: Imports, position: str) -> None:
    async with asyncio.timeout(5):
        while imports.position != position:
            await imports.step()
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("method", ["user", "import_batch", "materialise"])
async def test_a_part_that_is_late_is_asked_again(tmp_path: Path, method: str) -> None:
    part = Part({5: 10}, **{method: ["timeout", "unavailable", "internal"]})
    async with imports_of(tmp_path, Keeper([5]), part) as imports:
        await until_at(imports, "2-0")
    assert [name for name, _ in part.done] == ["sync", "user", "import_batch", "materialise"]


async def test_a_long_import_does_not_hold_up_short_ones(tmp_path: Path) -> None:
    part = Part({1: 100_000, 2: 10, 3: 10})
    async with imports_of(tmp_path, Keeper([1, 2, 3]), part) as imports:
        await until_at(imports, "4-0")
    steps = [user for method, user in part.done if method == "import_batch"]
    assert steps.count(1) == 100
    assert max(steps.index(2), steps.index(3)) < 6


async def test_the_position_waits_for_the_oldest_import(tmp_path: Path) -> None:
    part = Part({1: 1000, 2: 10}, import_batch=["unavailable"])
    async with imports_of(tmp_path, Keeper([1, 2]), part) as imports:
        async with asyncio.timeout(5):
            while ("materialise", 2) not in part.done:
                await imports.step()
                assert imports.position in ("0-0", "2-0", "3-0")
                await asyncio.sleep(0.005)
        await until_at(imports, "3-0")
        store = Store(SqliteWriter(tmp_path / "durable.db"))
        assert (await store.positions())[STREAM_JOBS] == "3-0"
        await store.close()


async def test_a_lane_that_is_away_holds_up_no_other_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reference_server.jobs.imports.WINDOW", 3)
    users = list(range(1, 21))

    class WithoutOne(Part):
        async def call(self, method: str, *arguments: Any, timeout_s: float) -> Any:
            if (method, arguments[0]) == ("materialise", 1):
                raise RpcError("unavailable")
            return await super().call(method, *arguments, timeout_s=timeout_s)

    part = WithoutOne(dict.fromkeys(users, 10))
    async with imports_of(tmp_path, Keeper(users), part) as imports:
        async with asyncio.timeout(5):
            while len([user for method, user in part.done if method == "materialise"]) < len(users) - 1:
                await imports.step()
                await asyncio.sleep(0.005)
        assert imports.position == "0-0"


async def test_a_refused_import_is_let_go_of(tmp_path: Path) -> None:
    part = Part({1: 10}, import_batch=["bad-request"])
    async with imports_of(tmp_path, Keeper([1]), part) as imports:
        await until_at(imports, "2-0")
    assert ("materialise", 1) not in part.done
