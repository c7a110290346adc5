"""`locust -f scenarios/locustfile.py` on its own, against the independent in-memory feed."""

from __future__ import annotations

import asyncio
import csv
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from small_feed import SmallFeed

ROOT = Path(__file__).parents[3]
LOCUSTFILE = ROOT / "scenarios" / "locustfile.py"

pytestmark = pytest.mark.slow


@pytest.fixture
async def memory_feed(tmp_path: Path) -> AsyncIterator[str]:
    """Base URL of the in-memory feed, 400 users."""
    endpoints = tmp_path / "endpoints.json"
    server = ROOT / "tests" / "conformance" / "memory_feed.py"
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(server), "--endpoints", str(endpoints), "--users", "400", stdin=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(20):
            while not endpoints.exists():
                assert process.returncode is None
                await asyncio.sleep(0.02)
        yield msgspec.json.decode(endpoints.read_bytes())["regions"]["memory"]["api"]
    finally:
        process.kill()
        await process.wait()


Rows = dict[str, dict[str, str]]


LOCUST = (sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--skip-log-setup")


async def locust(
    host: str, out: Path, enough: Callable[[Rows], bool], *options: str, **environment: str
) -> tuple[int, Rows, str]:
    """Run Locust headless until its statistics are `enough`: exit code, rows by name, what it said."""
    command = [
        *LOCUST,
        "--host",
        host,
        "-u",
        "20",
        "-r",
        "20",
        "--csv",
        str(out / "locust"),
        "--only-summary",
        *options,
    ]
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
    try:
        async with asyncio.timeout(60):
            while process.returncode is None and not enough(statistics(out)):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            process.terminate()
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, statistics(out), said.decode()


def statistics(out: Path) -> Rows:
    """Locust's statistics so far, by name; it writes them each second."""
    path = out / "locust_stats.csv"
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        return {row["Name"]: row for row in csv.DictReader(file) if row.get("100%")}


def requests(rows: Rows, name: str) -> int:
    return int(rows[name]["Request Count"]) if name in rows else 0


async def test_it_signs_up_reads_and_posts(memory_feed: str, tmp_path: Path) -> None:
    def enough(rows: Rows) -> bool:
        return requests(rows, "signup") == 20 and requests(rows, "feed") > 60 and requests(rows, "post") > 10

    code, rows, said = await locust(memory_feed, tmp_path, enough, FEEDSTORM_USERS="400", FEEDSTORM_RATE="5")
    assert code == 0, said
    assert {name: row["Failure Count"] for name, row in rows.items()} == {
        "signup": "0",
        "feed": "0",
        "post": "0",
        "Aggregated": "0",
    }
    assert float(rows["feed"]["Max Response Time"]) > 0


async def test_unknown_identities_fail(memory_feed: str, tmp_path: Path) -> None:
    def enough(rows: Rows) -> bool:
        return requests(rows, "signup") == 20

    code, rows, _ = await locust(memory_feed, tmp_path, enough, FEEDSTORM_IDENTITY="nobody-{number}")
    assert code == 1
    assert rows["signup"]["Failure Count"] == "20"
    assert "feed" not in rows


@pytest.mark.nightly
async def test_locusts_own_master_and_workers_share_the_identities_out(small_feed: SmallFeed, tmp_path: Path) -> None:
    joined: list[int] = []

    async def slow(request: web.Request) -> None:
        if request.method == "POST" and request.path == "/v1/users":
            joined.append(int((await request.json())["identity"]))

    small_feed.slow = slow
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    words = [*LOCUST, "--worker", "--master-host", "127.0.0.1", "--master-port", port]
    silent = {"stdout": asyncio.subprocess.DEVNULL, "stderr": asyncio.subprocess.DEVNULL}
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    workers = [await asyncio.create_subprocess_exec(*words, **silent, env=environment) for _ in range(2)]
    try:
        options = ("--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", port, "--expect-workers", "2")
        code, rows, said = await locust(
            small_feed.url,
            tmp_path,
            lambda rows: requests(rows, "signup") == 20 and requests(rows, "feed") > 20,
            *options,
        )
        assert code == 0, said
        assert rows["Aggregated"]["Failure Count"] == "0"
        assert [await asyncio.wait_for(worker.wait(), 20) for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            if worker.returncode is None:
                worker.kill()
            await worker.wait()
    of_each = [[number for number in joined if number % 97 == worker] for worker in (0, 1)]
    assert sorted(joined) == sorted(of_each[0] + of_each[1]) == sorted(set(joined))
    assert [len(numbers) for numbers in of_each] == [10, 10]
