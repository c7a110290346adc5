"""`locust -f scenarios/locustfile.py` on its own, against the independent in-memory feed."""

from __future__ import annotations

import asyncio
import csv
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

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


async def locust(host: str, out: Path, enough: Callable[[Rows], bool], **environment: str) -> tuple[int, Rows, str]:
    """Run Locust headless until its statistics are `enough`: exit code, rows by name, what it said."""
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--host", host, "--headless", "--skip-log-setup"]
    command += ["-u", "20", "-r", "20", "--csv", str(out / "locust"), "--only-summary"]
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
