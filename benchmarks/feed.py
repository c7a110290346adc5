"""Feed pages of 50 from timelines of 800 entries, hydrated and filtered, a second and core of the api process.

A real api (granian) on one core, with real memcached and redis; load, stores and stubs have the other. All 800 entries
are cached, which is the dearest way; the stack as shipped caches the newest 200 of them, and is measured beside. Three
walks of four are a first page only, the fourth has a second page. First as fast as it goes, then at half that rate on a
fixed schedule, where latency counts from the due time. The baseline is the same granian answering one stored page.

A core is a second of processor time of all the api's threads. Where cores are shared with strangers such a second is
worth more or less from one moment to the next, so each rate is that of the best of TURNS short turns, as with timeit;
the median is told.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import uvloop

from benchmarks._fixed_page import BODY_FILE
from benchmarks._lane import free_port, machine, printed
from benchmarks._page_load import Walker, closed_loop, open_loop, server_on_core, wait_answer
from benchmarks._page_region import ENTRIES, USERS, page_region
from reference_server.api.command import api_command, granian_command
from reference_server.flags import Flags
from reference_server.security import make_token
from reference_server.settings import Settings

TARGET_PER_S = 4000.0
TARGET_P99_MS = 25.0
TURNS, TURN_S = 10, 1.5
SECONDS = 6.0
WARM_S = 2.0
CONNECTIONS = 16
NEXT_ONE_IN = 4


def walker_of(settings: Settings) -> Walker:
    secret = bytes.fromhex(settings.secret)
    return Walker([make_token(secret, user)[0] for user in range(USERS)], NEXT_ONE_IN)


class Speed(NamedTuple):
    """Pages a second of processor time."""

    best: float
    median: float


async def full_speed(port: int, walker: Walker, used_s: Callable[[], float]) -> Speed:
    """As fast as it goes, in turns."""
    await closed_loop(port, walker, WARM_S, CONNECTIONS)
    rates = []
    for _ in range(TURNS):
        walker.latencies_ms.clear()
        before = used_s()
        await closed_loop(port, walker, TURN_S, CONNECTIONS)
        rates.append(len(walker.latencies_ms) / (used_s() - before))
    return Speed(max(rates), statistics.median(rates))


async def half_speed(port: int, walker: Walker, pages_per_s: float) -> tuple[float, float]:
    """(p50, p99) in ms."""
    walker.latencies_ms.clear()
    await open_loop(port, walker, SECONDS, pages_per_s / (1 + 1 / NEXT_ONE_IN), 4 * CONNECTIONS)
    p50, p99 = np.percentile(walker.latencies_ms, [50, 99])
    return float(p50), float(p99)


def one_request(settings: Settings) -> bytes:
    """Of the page that the baseline answers."""
    token, _ = make_token(bytes.fromhex(settings.secret), 1)
    return f"GET /v1/feed HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n\r\n".encode()


class Measured(NamedTuple):
    """One way of caching."""

    speed: Speed
    p50_ms: float
    p99_ms: float
    degraded_ratio: float
    page: bytes
    """one answer"""


async def pages(cached: int, core: int) -> Measured:
    """An api whose timelines have so many of their entries in memcached."""
    async with page_region(cached) as (path, settings):
        port = settings.regions[0].api_ports[0]
        argv, environment = api_command(path, settings, "bench", 0)
        with server_on_core(core, argv, environment, port) as used_s:
            page = await wait_answer(port, one_request(settings))
            assert len(msgspec.json.decode(page)["items"]) == 50
            walker = walker_of(settings)
            speed = await full_speed(port, walker, used_s)
            p50, p99 = await half_speed(port, walker, speed.best / 2)
    return Measured(speed, p50, p99, walker.degraded / walker.pages, page)


async def stored(page: bytes, core: int) -> Speed:
    """What the server costs by itself: one page from memory."""
    with tempfile.TemporaryDirectory(prefix="fs-page-") as folder:
        body_file, port = Path(folder, "page.json"), free_port()
        body_file.write_bytes(page)
        argv = [*granian_command(port)[:-1], "benchmarks._fixed_page:app"]
        tokens = [make_token(b"any", user)[0] for user in range(USERS)]
        request = b"GET /v1/feed HTTP/1.1\r\nHost: bench\r\n\r\n"
        with server_on_core(core, argv, {BODY_FILE: str(body_file)}, port) as used_s:
            await wait_answer(port, request)
            return await full_speed(port, Walker(tokens, NEXT_ONE_IN), used_s)


async def measure() -> dict[str, object]:
    """One run."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[1:] or cores)
    whole = await pages(ENTRIES, cores[0])
    shipped = await pages(Flags().cached_entries, cores[0])
    plain = await stored(whole.page, cores[0])
    told = [
        f"all {ENTRIES} cached: median {whole.speed.median:,.0f}; at {whole.speed.best / 2:,.0f}/s"
        f" p50 {whole.p50_ms:.1f} ms, p99 {whole.p99_ms:.1f} ms; {whole.degraded_ratio:.2%} degraded",
        f"{Flags().cached_entries} cached: best {shipped.speed.best:,.0f}, median {shipped.speed.median:,.0f},"
        f" p99 {shipped.p99_ms:.1f} ms",
        f"granian with a stored page {plain.best:,.0f}",
    ]
    return {
        "benchmark": f"feed pages of 50 from {ENTRIES} entries, hydrated and filtered, a second and core",
        "value": round(whole.speed.best),
        "ratio": round(whole.speed.best / plain.best, 2),
        "target": f">= {TARGET_PER_S:,.0f}, p99 <= {TARGET_P99_MS:g} ms at half that",
        "ok": bool(whole.speed.best >= TARGET_PER_S and whole.p99_ms <= TARGET_P99_MS and whole.degraded_ratio < 0.001),
        "details": "; ".join(told),
        "machine": machine(),
    }


def main() -> int:
    """Print one JSON line."""
    return printed(uvloop.run(measure()))


if __name__ == "__main__":
    sys.exit(main())
