"""The jobs process while a consumer of the posts stalls: it tells how far behind that is, and lets imports rest."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from jobs_stubs import Region, eventually
from prometheus_client.parser import text_string_to_metric_families

from dashboards import rules
from reference_server.events import STREAM_CELEB, STREAM_POSTS, GraphEvent, PostEvent, encode
from reference_server.jobs.pressure import ARCHIVE_LAG_S, CALM_S, FANOUT_LAG_S
from reference_server.rpc import RpcClient

pytestmark = [pytest.mark.slow, pytest.mark.stack]
LAG, ARCHIVE, FANOUT = "feed_jobs_seen_lag_seconds", {"consumer": "archive"}, {"consumer": "fanout"}
IMPORT, ALL = {"kind": "import"}, 3_000


async def exported(region: Region, name: str, labels: dict[str, str]) -> float:
    """One figure of the jobs process; -1: it does not export it (yet)."""
    client = RpcClient(region.settings.socket("us-east", "jobs"))
    try:
        text = (await client.call("metrics")).decode()
    finally:
        client.close()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return float(sample.value)
    return -1.0


async def append(region: Region, stream: str, age_s: float = 0.0) -> str:
    """A post that has waited for so long already; returns its entry's id."""
    now_us = time.time_ns() // 1000
    event = PostEvent(os.urandom(16), 1, now_us, "hello", "us-east", celeb=stream == STREAM_CELEB)
    entry_id = f"{int(now_us / 1000 - age_s * 1000)}-1"
    return str((await region.queue.link.call("XADD", stream, entry_id, "e", encode(event))).decode())


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Nobody else can write to the durable store."""
    db = sqlite3.connect(database, isolation_level=None)
    try:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("ROLLBACK")
    finally:
        db.close()


def fires(lag_s: float, folder: Path) -> bool:
    """Whether Prometheus finds the alert ArchiveLag's expression true with that figure exported."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (apt-get install prometheus)")
    (alert,) = [one for one in rules.ALERTS if one.name == "ArchiveLag"]
    series = f'{LAG}{{region="us-east",part="jobs",consumer="archive"}}'
    found = [{"labels": '{region="us-east"}', "value": lag_s}]
    test = {
        "interval": "5s",
        "input_series": [{"series": series, "values": repr(lag_s)}],
        "promql_expr_test": [{"expr": alert.expression, "eval_time": "0s", "exp_samples": found}],
    }
    path = folder / "archive_lag_test.yml"
    path.write_text(yaml.safe_dump({"tests": [test]}))
    done = subprocess.run([promtool, "test", "rules", path], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0 or "got:" in done.stdout + done.stderr, done.stdout + done.stderr
    return done.returncode == 0


@pytest.mark.parametrize("stream", [STREAM_POSTS, STREAM_CELEB])
async def test_a_stalled_durable_store_shows_as_a_lag_that_grows_until_it_is_over(
    region: Region, stream: str, tmp_path: Path
) -> None:
    await region.start()
    await append(region, stream, age_s=20)

    async def level() -> bool:
        return await exported(region, LAG, ARCHIVE) == 0 and await exported(region, "jobs_archived_total", POST) == 1

    await eventually(level, "nothing waits")
    with locked(region.database):
        await append(region, stream, age_s=9.5)
        seen = [await exported(region, LAG, ARCHIVE)]

        async def grows_beyond(bound_s: float) -> None:
            async def condition() -> bool:
                seen.append(await exported(region, LAG, ARCHIVE))
                return seen[-1] > bound_s

            await eventually(condition, f"a lag over {bound_s} s, seen {seen}")

        await grows_beyond(9.5)
        assert not fires(9.5, tmp_path)
        for _ in range(3):
            before = seen[-1]
            await grows_beyond(before)
        await grows_beyond(10.0)
        assert seen == sorted(seen)
        assert fires(seen[-1], tmp_path)
        assert await exported(region, "jobs_archived_total", POST) == 1
    await eventually(lambda: _is(region, LAG, ARCHIVE, 0.0), "the lag is gone")
    assert await exported(region, "jobs_archived_total", POST) == 2


POST = {"kind": "post"}


async def _is(region: Region, name: str, labels: dict[str, str], value: float) -> bool:
    return await exported(region, name, labels) == value


async def joined(region: Region, user: int) -> None:
    region.follows[user] = ALL
    await region.queue.append_graph(GraphEvent("join", user, 1, "us-east"))


async def imported(region: Region, *users: int) -> None:
    async def condition() -> bool:
        return all(region.done.get(user) == ALL for user in users)

    await eventually(condition, f"the imports of {users}")


async def test_imports_rest_while_fan_out_is_stalled_and_go_on_afterwards(region: Region) -> None:
    await region.start()
    await append(region, STREAM_POSTS)
    entry_id = await append(region, STREAM_POSTS)  # no lane takes them
    await eventually(lambda: _is(region, "feed_jobs_pressure", {}, 1.0), "pressure")
    assert await exported(region, LAG, FANOUT) > FANOUT_LAG_S
    region.hold_imports.clear()
    for user in range(10, 30):
        await joined(region, user)
    await eventually(lambda: _is(region, "feed_jobs_deferred", IMPORT, 1.0), "imports are held back")
    await eventually(lambda: _is(region, "feed_jobs_waiting", IMPORT, 20.0), "all imports wait")
    assert region.imports_under_way == 1
    assert await exported(region, "feed_jobs_pressure", {}) == 1.0
    for lane in range(2):
        region.lane_positions[lane] = {STREAM_POSTS: entry_id}
    await eventually(lambda: _is(region, "feed_jobs_pressure", {}, 0.0), "no pressure", CALM_S + 5)
    await eventually(lambda: _is(region, "feed_jobs_deferred", IMPORT, 0.0), "imports are not held back")

    async def several() -> bool:
        return region.imports_under_way == 8

    await eventually(several, "imports side by side")
    region.hold_imports.set()
    await imported(region, *range(10, 30))
    await eventually(lambda: _is(region, "feed_jobs_waiting", IMPORT, 0.0), "none waits")


async def test_a_stalled_archiver_is_pressure_too(region: Region) -> None:
    await region.start()
    entry_id = await append(region, STREAM_POSTS)
    for lane in range(2):
        region.lane_positions[lane] = {STREAM_POSTS: entry_id}
    await eventually(lambda: _is(region, "jobs_archived_total", POST, 1.0), "the first post is archived")
    await eventually(lambda: _is(region, "feed_jobs_pressure", {}, 0.0), "no pressure", CALM_S + 5)
    with locked(region.database):
        entry_id = await append(region, STREAM_POSTS)
        for lane in range(2):
            region.lane_positions[lane] = {STREAM_POSTS: entry_id}
        started = asyncio.get_running_loop().time()
        await eventually(lambda: _is(region, "feed_jobs_pressure", {}, 1.0), "pressure")
        assert asyncio.get_running_loop().time() - started > ARCHIVE_LAG_S - 1
        assert await exported(region, LAG, FANOUT) == 0
    await eventually(lambda: _is(region, "feed_jobs_pressure", {}, 0.0), "no pressure", CALM_S + 10)
