from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reference_server.durable.sqlite_writer import SqliteWriter
from reference_server.events import GraphEvent, ImportEvent
from reference_server.jobs.imports import Imports
from reference_server.jobs.store import Store
from reference_server.queue import Entry
from reference_server.rpc import RpcError


class Keeper:
    async def entries(self, stream: str, after: str, count: int) -> list[Entry]:
        return [Entry("2-0", ImportEvent(5))] if after == "0-0" else []

    async def last(self, stream: str) -> list[Entry]:
        return [Entry("1-0", GraphEvent("join", 5, 1, "us-east"))]


class Part:
    """Graph and lane owner in one; refuses the first calls with the errors given."""

    def __init__(self, **refusals: list[str]) -> None:
        self.refusals = refusals
        self.done: list[str] = []

    async def call(self, method: str, *arguments: Any, timeout_s: float) -> Any:
        if self.refusals.get(method):
            raise RpcError(self.refusals[method].pop(0))
        self.done.append(method)
        return {"user": {"done": 0}, "import_batch": [10, 10]}.get(method)


@pytest.mark.parametrize("method", ["sync", "user", "import_batch", "materialise"])
async def test_a_part_that_is_late_is_asked_again(tmp_path: Path, method: str) -> None:
    store = Store(SqliteWriter(tmp_path / "durable.db"))
    part = Part(**{method: ["timeout", "unavailable"]})
    imports = Imports(Keeper(), store, part, [part])  # type: ignore[arg-type, list-item]
    assert not await imports.step()
    assert part.done == ["sync", "user", "import_batch", "materialise"]
    assert imports.position == "2-0"
    await store.close()
