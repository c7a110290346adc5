"""`locust -f scenarios/locustfile.py` on its own, against the independent in-memory feed."""

from __future__ import annotations

import asyncio
import csv
import os
import sys
from collections.abc import AsyncIterator
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


async def locust(host: str, out: Path, **environment: str) -> tuple[int, dict[str, dict[str, str]], str]:
    """Run Locust headless for three seconds: exit code, rows of its statistics by name, what it said."""
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--host", host, "--headless", "--skip-log-setup"]
    command += ["-u", "20", "-r", "20", "-t", "3s", "--csv", str(out / "locust"), "--only-summary"]
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    with (out / "locust_stats.csv").open(newline="") as file:
        rows = {row["Name"]: row for row in csv.DictReader(file)}
    return process.returncode or 0, rows, said.decode()


async def test_it_signs_up_reads_and_posts(memory_feed: str, tmp_path: Path) -> None:
    code, rows, said = await locust(memory_feed, tmp_path, FEEDSTORM_USERS="400", FEEDSTORM_RATE="5")
    assert code == 0, said
    assert {name: int(row["Failure Count"]) for name, row in rows.items()} == {
        "signup": 0,
        "feed": 0,
        "post": 0,
        "Aggregated": 0,
    }
    assert int(rows["signup"]["Request Count"]) == 20
    assert int(rows["feed"]["Request Count"]) > 60
    assert int(rows["post"]["Request Count"]) > 10
    assert 0 < float(rows["feed"]["Max Response Time"]) < 2000


async def test_unknown_identities_fail(memory_feed: str, tmp_path: Path) -> None:
    code, rows, _ = await locust(memory_feed, tmp_path, FEEDSTORM_IDENTITY="nobody-{number}")
    assert code == 1
    assert rows["signup"]["Failure Count"] == "20"
    assert "feed" not in rows
