"""Does memory stay bounded? `python -m benchmarks.soak [--minutes N]`: a whole stack under steady load.

Two regions, reads, posts, likes, follows, deletes and streams that come and go. Resident memory of every part is taken
every 10 s; a straight line with one step in it, fitted to the later two thirds of the samples, tells what the part
gains an hour. The step is for a table that doubles or an arena that the allocator takes: happening once, it is no leak,
but a line alone would take it for one. A second step counts as growth, and no step may be larger than STEP_MB. What is
kept by intent is made small, so that it is full before the line begins: timelines have their whole depth of history,
records are kept for two minutes, memcached has 32 MiB, logs are flushed after 2 MiB. What fills a given amount by
intent is judged by that amount: memcached, RocksDB's buffers and caches, and the posts an api has at hand, of which the
processes tell how much they are.

A part grows when even the low end of its slope (95 %) is above the bound; it is flat when the high end is below it; in
between nobody knows, which is no success. Samples of one process are not independent, so short runs are surer of
themselves than they should be: the verdict of 20 minutes counts.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from benchmarks._lane import machine, printed
from benchmarks._soak_load import Load
from benchmarks._stack import RunningStack, running_stack
from harness.core.scenario import Population as Spec
from harness.load.population import make_population, write_population
from reference_server.observability.scrapes import Series, scrape
from reference_server.settings import read_settings

USERS, MEAN_FOLLOWS, HISTORY, SEED = 400, 80, 800, 11
BUFFER_MB = 2
OPTIONS = ("--flag", "retention_s=120", "--flag", "cache_mb=32", "--flag", f"log_buffer_mb={BUFFER_MB}")
LOG, BODIES = "fanout's log", "api's bodies"
HELD = {"fanout": ("feed_log_memory_bytes", LOG), "api": ("feed_body_memory_bytes", BODIES)}
LIMITS_MB = {"memcached": 32 + 24, LOG: 4 * (2 * BUFFER_MB + 16), BODIES: 64, "toxiproxy": 64}
"""memcached: its items, and its tables and buffers; log: per lane RocksDB's buffers, more while it flushes, and a block
cache; bodies: what the api may keep at hand; toxiproxy is not ours: its garbage collector takes its time"""
REQUESTS_PER_S, WORKERS, STREAMS = 50.0, 4, 40
"""of each region"""
SAMPLE_S = 10.0
FITTED = 2 / 3
BOUND_MB_PER_H = 8.0
STEP_MB = 8.0
MIB = 1 << 20
Floats = npt.NDArray[np.float64]


class Slope(NamedTuple):
    """What a part gains."""

    mb_per_h: float
    margin: float
    """half of the 95 % interval"""
    step_mb: float
    """what it gained at once, beside that"""
    first_mb: float
    last_mb: float

    limit_mb: float = math.inf
    """what its configuration allows it"""

    @property
    def verdict(self) -> str:
        """flat, grows, unsure; or limited: it fills what it was given."""
        if self.last_mb <= self.limit_mb < math.inf:
            return "limited"
        if self.mb_per_h - self.margin > BOUND_MB_PER_H or self.step_mb > STEP_MB:
            return "grows"
        return "flat" if self.mb_per_h + self.margin <= BOUND_MB_PER_H else "unsure"


def slope_of(seconds: Sequence[float], sizes: Sequence[int]) -> Slope:
    """Least squares through the later part of the samples (at least six of them), with the step that fits best."""
    start = min(int(len(sizes) * (1 - FITTED)), len(sizes) - 6)
    x = np.array(seconds[start:]) / 3600
    y = np.array(sizes[start:]) / MIB
    fits = [_fitted(x, y, place) for place in range(2, len(x) - 1)]
    _, slope, error, step = min(fits)
    return Slope(slope, 1.96 * error, step, sizes[0] / MIB, sizes[-1] / MIB)


def _fitted(x: Floats, y: Floats, place: int) -> tuple[float, float, float, float]:
    """(sum of squares left, slope, its standard error, step) of a line with a step before the sample `place`."""
    terms = np.stack([np.ones(len(x)), x - x.mean(), np.arange(len(x)) >= place], axis=1).astype(float)
    inverse = np.linalg.inv(terms.T @ terms)
    found = inverse @ terms.T @ y
    rest = y - terms @ found
    left = float(rest @ rest)
    return left, float(found[1]), math.sqrt(left / max(1, len(x) - 4) * inverse[1, 1]), float(found[2])


async def memory(stack: RunningStack) -> dict[str, int]:
    """Bytes by part; what a process says it holds within a bound (see HELD) is told apart from the rest of it."""
    sizes = {part: used.memory_bytes for part, used in stack.usage().items()}
    for name, region in stack.endpoints.regions.items():
        for part, (metric, called) in HELD.items():
            text = await scrape(region.metrics[f"{part}-0"])
            held = int(Series([text]).total(metric))
            if text and f"{name}.{part}" in sizes:
                sizes[f"{name}.{called}"] = held
                sizes[f"{name}.{part}"] -= held
    return sizes


async def soak(stack: RunningStack, minutes: float) -> tuple[dict[str, Slope], dict[str, int]]:
    """Slopes by part, and what the load met."""
    load = Load(bytes.fromhex(read_settings(stack.directory.settings).secret), USERS)
    work = []
    for place, region in enumerate(stack.endpoints.regions.values()):
        work += [load.work(region.api, REQUESTS_PER_S / WORKERS, 100 * place + k) for k in range(WORKERS)]
        work += [load.listen(region.stream, 10_000 * (place + 1) + k) for k in range(STREAMS)]
    tasks = [asyncio.create_task(one) for one in work]
    times: list[float] = []
    sizes: defaultdict[str, list[int]] = defaultdict(list)
    started = time.monotonic()
    while time.monotonic() - started < minutes * 60:
        await asyncio.sleep(SAMPLE_S)
        times.append(time.monotonic() - started)
        for part, size in (await memory(stack)).items():
            sizes[part].append(size)
        for task in tasks:
            if task.done():
                task.result()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    whole = {part: found for part, found in sizes.items() if len(found) == len(times)}
    slopes = {part: slope_of(times, found) for part, found in whole.items()}
    limited = {part: LIMITS_MB.get(part.rpartition(".")[2], math.inf) for part in slopes}
    return {part: slope._replace(limit_mb=limited[part]) for part, slope in slopes.items()}, dict(load.counts)


def show(slopes: dict[str, Slope]) -> None:
    """A table for people, on standard error."""
    table = Table("part", "first MB", "last MB", "MB/h", "+-", "step", "", box=None, pad_edge=False)
    for part, slope in sorted(slopes.items(), key=lambda item: -item[1].mb_per_h):
        numbers = [
            f"{value:.1f}" for value in (slope.first_mb, slope.last_mb, slope.mb_per_h, slope.margin, slope.step_mb)
        ]
        table.add_row(part, *numbers, slope.verdict)
    Console(stderr=True).print(table)


def main() -> int:
    """Soak and print one JSON line; 1 when a part grows, or may."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak")
    parser.add_argument("--minutes", type=float, default=20.0)
    minutes = parser.parse_args().minutes
    spec = msgspec.convert({"users": USERS, "mean_follows": MEAN_FOLLOWS, "history": HISTORY}, Spec, strict=False)
    with tempfile.TemporaryDirectory(prefix="fs-soak-") as folder:
        population = Path(folder, "population")
        write_population(make_population(spec, SEED), spec, SEED, population)
        with running_stack("--population", str(population), *OPTIONS) as stack:
            slopes, counts = asyncio.run(soak(stack, minutes))
    show(slopes)
    steepest = max(slope for slope in slopes.values() if slope.verdict != "limited")
    result: dict[str, Any] = {
        "benchmark": "soak",
        "value": round(steepest.mb_per_h, 1),
        "unit": "MB/h, the steepest part",
        "target": BOUND_MB_PER_H,
        "ok": all(slope.verdict in ("flat", "limited") for slope in slopes.values()),
        "details": {
            "minutes": minutes,
            "mb_per_h": {part: [round(v, 1) for v in (s.mb_per_h, s.margin, s.step_mb)] for part, s in slopes.items()},
            "verdicts": {part: s.verdict for part, s in slopes.items() if s.verdict != "flat"},
            "requests": counts,
        },
        "machine": machine(),
    }
    return printed(result)


if __name__ == "__main__":
    sys.exit(main())
