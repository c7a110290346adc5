"""A real api offered twice what it can do: it goes on working, sheds what matters least, and is soon itself again.

The bounds are wide, as this shares its machine with other tests; `python -m benchmarks.overload` measures.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from api_region import LANES, ApiRegion, eventually
from test_overload_gate import measured

from benchmarks._open_loop import Ask, Load, Plan
from reference_server.supervisor.usage import usage_by_group
from reference_server.timeline.cached import gen_key

pytestmark = [pytest.mark.slow, pytest.mark.stack]

ROOT = Path(__file__).parents[3]
USERS = 60
MIX = {"feed": 0.7, "post": 0.04, "profile": 0.13, "like": 0.13}
PEAK = Load(seconds=1.5, connections=16)
TRIES = 3
MOST_LATE_MS = 100.0
"""what the client sends later than that says how little time the machine had, and nothing of the api"""


async def fill(region: ApiRegion) -> str:
    """Posts in every timeline, and a generation, so that timelines are cached. Returns the id of a post."""
    reader, writer = await asyncio.open_connection("127.0.0.1", region.cache.port)
    for lane in range(LANES):
        writer.write(f"set {gen_key(lane)} 0 0 1\r\n1\r\n".encode())
        assert await reader.readline() == b"STORED\r\n"
    writer.close()
    region.follows |= {(user, 0): True for user in range(1, USERS)}
    for number in range(60):
        post = await region.user(0).post(f"post {number}")
    for user in range(USERS):
        await region.user(user).feed()
    return str(post["id"])


def asks(region: ApiRegion, post_id: str) -> list[Ask]:
    lines = {
        "feed": ("GET /v1/feed", ""),
        "post": ("POST /v1/posts", '{"text":"x"}'),
        "profile": ("GET /v1/users/me", ""),
        "like": (f"PUT /v1/posts/{post_id}/like", ""),
    }
    return [
        Ask(kind, f"{line} HTTP/1.1\r\nAuthorization: {region.user(user).headers['Authorization']}", body, MIX[kind])
        for kind, (line, body) in lines.items()
        for user in range(1, USERS)
    ]


def cpu_s(region: ApiRegion) -> float:
    """Processor time of the api so far."""
    assert region.api is not None
    assert region.api.process is not None
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return usage_by_group(pids)[region.api.process.pid].cpu_s


async def offer(region: ApiRegion, asked: list[Ask], *loads: Load) -> list[dict[str, Any]]:
    """What each phase came to, one after the other from a client process of its own."""
    client = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks._open_loop"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    output, _ = await client.communicate(Plan(region.region.api_ports[0], asked).told(*loads))
    return [msgspec.json.decode(line) for line in output.splitlines()]


async def offer_once(region: ApiRegion, asked: list[Ask], load: Load) -> dict[str, Any]:
    """What one phase came to, also a second of the api's processor time."""
    before_s = cpu_s(region)
    (kinds,) = await offer(region, asked, load)
    kinds["all"]["ok_per_cpu_s"] = kinds["all"]["ok"] / (cpu_s(region) - before_s)
    return kinds


async def watch(region: ApiRegion, levels: list[float]) -> None:
    """Note the level from time to time."""
    while True:
        levels.append(await measured(region, "feed_overload_level"))
        await asyncio.sleep(0.2)


def refused(kind: dict[str, Any]) -> float:
    """Share of the requests of one kind that were refused."""
    return float(kind["statuses"].get("503", 0) / kind["sent"])


async def test_twice_the_load_is_carried_and_left_behind(region: ApiRegion) -> None:
    asked = asks(region, await fill(region))
    await offer(region, asked, PEAK)  # warm
    peak = (await offer_once(region, asked, PEAK))["all"]
    goodputs = []
    for _ in range(TRIES):  # other tests take processor time away, now more, now less
        before = peak
        seen, levels = await overload(region, asked, 2 * peak["ok_per_s"])
        peak = (await offer_once(region, asked, PEAK))["all"]
        if says_nothing(seen, before["ok_per_s"], peak["ok_per_s"]):
            continue
        look(seen, levels)
        for unit in ("ok_per_s", "ok_per_cpu_s"):
            goodputs.append(seen["all"][unit] / min(before[unit], peak[unit]))
        if max(goodputs) > 0.6:
            break
    if not goodputs:
        pytest.skip("others took the machine, each time")
    assert max(goodputs) > 0.6, goodputs
    peaks = (before["ok_per_s"], peak["ok_per_s"])
    await survive_a_retry_storm(region, asked, 3 * max(peaks), min(peaks) / 4)


async def overload(region: ApiRegion, asked: list[Ask], rate_per_s: float) -> tuple[dict[str, Any], list[float]]:
    """Offer too much for a while, wait until nothing is left out any more. What was answered, and the levels."""
    before = await region.stored()
    levels: list[float] = []
    watching = asyncio.create_task(watch(region, levels))
    seen = await offer_once(region, asked, Load(seconds=5.0, rate_per_s=rate_per_s, connections=800))
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching

    async def is_calm() -> bool:
        return await measured(region, "feed_overload_level") == 0 == await measured(region, "feed_overload_waiting")

    await eventually(is_calm, "nothing is left out any more", 20)
    posted = (await region.stored())["posts"] - before["posts"]
    assert posted == seen["post"]["statuses"]["201"]  # what was refused had no effect
    return seen, levels


def says_nothing(seen: dict[str, Any], before_per_s: float, after_per_s: float) -> bool:
    """Whether the client itself was late, or the load no overload, as the peak was measured while others were busy."""
    return seen["client"]["late_ms"]["p95"] > MOST_LATE_MS or after_per_s > 1.3 * before_per_s


def look(seen: dict[str, Any], levels: list[float]) -> None:
    """What was answered is what an overloaded api should answer."""
    everything = seen["all"]
    assert everything["ok_ms"]["p50"] < 400, seen  # all 800 connections in a queue would make it a second and more
    assert everything["ok_ms"]["p99"] < 2000, seen
    assert set(everything["statuses"]) <= {"200", "201", "204", "503"}, seen
    assert set(everything["retry_after_s"]) <= {"1", "2", "3"}
    assert refused(seen["like"]) > refused(seen["feed"]), seen
    assert refused(seen["profile"]) > refused(seen["feed"]), seen
    assert max(levels) >= 1
    assert (seen["feed"]["reduced"] > 0) == (max(levels) >= 2)  # pages of 20 instead of 50, and they say so


async def survive_a_retry_storm(region: ApiRegion, asked: list[Ask], storm_per_s: float, usual_per_s: float) -> None:
    """Clients that repeat at once what is refused keep a system down for ever, if anything does: here the overload ends
    and the usual load goes on, with all its repetitions."""
    storm = Load(seconds=3.0, rate_per_s=storm_per_s, connections=800, retries=2)
    usual = Load(seconds=1.5, rate_per_s=usual_per_s, connections=800, retries=2)
    stormy, *later = await offer(region, asked, storm, *[usual] * 3)
    assert stormy["all"]["sent"] > 1.1 * stormy["all"]["ok"]
    assert refused(stormy["feed"]) > 0
    assert min(refused(phase["feed"]) for phase in later) == 0, later
