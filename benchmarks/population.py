"""A graph of 1 M users x 150 follows, both ways on disk: <= 60 s and <= 2 GB; an edge list of 1 M edges: <= 10 s.

Generated (power law, seeded) and written as the harness does, then turned round as the graph service does at its first
start, each in a process of its own. Memory is what the processes hold for themselves (RssAnon, looked at 20 times a
second): pages of the mapped files belong to the kernel's cache.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

USERS, FOLLOWS, SEED = 1_000_000, 150, 7
LIMIT_S, LIMIT_BYTES = 60.0, 2_000_000_000
LISTED_NODES, LISTED_EDGES, LISTED_LIMIT_S = 100_000, 1_000_000, 10.0


def generate(folder: Path) -> None:
    from harness.core.scenario import Population as Spec
    from harness.load.population import make_population, write_population

    values = {"users": USERS, "mean_follows": FOLLOWS, "celebrities": [USERS // 10]}
    spec = msgspec.convert(values, Spec, strict=False)
    write_population(make_population(spec, SEED), spec, SEED, folder / "population")


def invert(folder: Path) -> None:
    from reference_server.graph.base import open_inverse
    from reference_server.seeding import read_population

    inverse = open_inverse(read_population(folder / "population"), "benchmark", folder / "inverse")
    if len(inverse.followers) != USERS * FOLLOWS:
        raise AssertionError(f"{len(inverse.followers)} edges came back")


def write_list(folder: Path) -> None:
    """An edge list in SNAP's form: followers evenly drawn, few nodes with many of them. Not measured."""
    generator = np.random.default_rng(SEED)
    followers = generator.integers(0, LISTED_NODES, LISTED_EDGES)
    followees = (generator.power(0.3, LISTED_EDGES) * LISTED_NODES).astype(np.int64)
    with (folder / "edges.txt").open("w") as file:
        file.write(f"# Nodes: {LISTED_NODES} Edges: {LISTED_EDGES}\n")
        file.writelines(f"{a}\t{b}\n" for a, b in zip(followers.tolist(), followees.tolist(), strict=True))


def load_list(folder: Path) -> None:
    from harness.core.scenario import Population as Spec
    from harness.load.population import make_population

    population = make_population(msgspec.convert({"graph": f"edges:{folder / 'edges.txt'}"}, Spec), SEED)
    if len(population.followees) < 0.9 * LISTED_EDGES:
        raise AssertionError(f"{len(population.followees)} different edges were read")


def measured(step: Callable[[Path], None], folder: Path) -> tuple[float, int]:
    """Seconds and peak of private memory of a step, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    results: Any = context.Queue()
    process = context.Process(target=_in_child, args=(step, folder, results))
    process.start()
    process.join()
    if process.exitcode != 0:
        raise RuntimeError(f"{step.__name__} ended with {process.exitcode}")
    seconds, peak = results.get(timeout=5)
    return float(seconds), int(peak)


def _in_child(step: Callable[[Path], None], folder: Path, results: Any) -> None:
    peak, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            peak[0] = max(peak[0], private_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.perf_counter()
    try:
        step(folder)
    finally:
        seconds = time.perf_counter() - started
        done.set()
        watcher.join()
    results.put((seconds, peak[0]))


def private_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no RssAnon in /proc/self/status")


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        write_list(Path(scratch))
        steps = {step.__name__: measured(step, Path(scratch)) for step in (generate, invert, load_list)}
    seconds = sum(steps[step.__name__][0] for step in (generate, invert))
    peak = max(held for _, held in steps.values())
    result = {
        "benchmark": "population",
        "value": round(seconds, 1),
        "target": f"<= {LIMIT_S:g} s and <= 2 GB; load_list <= {LISTED_LIMIT_S:g} s",
        "ok": seconds <= LIMIT_S and peak <= LIMIT_BYTES and steps["load_list"][0] <= LISTED_LIMIT_S,
        "details": {name: f"{taken:.1f} s, {held / 1e9:.2f} GB" for name, (taken, held) in steps.items()},
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
    }
    print(msgspec.json.encode(result).decode())


if __name__ == "__main__":
    main()
