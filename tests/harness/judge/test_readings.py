from __future__ import annotations

import random
from dataclasses import replace

import numpy as np

from harness.judge.readings import Readings, survey
from harness.judge.sweep import Reading, Sweep

NOTHING = (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
WIDTH = 24


def columns(readers: list[list[Reading]]) -> Readings:
    rows = [(reader, r) for reader, readings in enumerate(readers) for r in readings]

    def ints(values):
        return np.asarray(list(values), dtype=np.int64)

    return Readings(
        reader=ints(k for k, _ in rows),
        op=ints(r.op for _, r in rows),
        start_ns=ints(r.start_ns for _, r in rows),
        done_ns=ints(r.done_ns for _, r in rows),
        lo=ints(r.lo for _, r in rows),
        hi=ints(r.hi for _, r in rows),
        judged=np.asarray([r.judged for _, r in rows], dtype=bool),
        items=ints(i for _, r in rows for i in r.items),
        ends=np.cumsum([len(r.items) for _, r in rows]).astype(np.int64),
    )


def random_reader(rng: random.Random, healthy: bool) -> list[Reading]:
    readings, arrived = [], set(range(rng.randrange(8)))
    for op in range(1, rng.randrange(2, 12)):
        arrived |= {rng.randrange(WIDTH) for _ in range(2)}
        lo, hi = sorted((rng.randrange(WIDTH), rng.randrange(WIDTH + 1)))
        items = [k for k in sorted(arrived, reverse=True) if lo <= k < hi and (healthy or rng.random() < 0.97)]
        if items and not healthy and rng.random() < 0.1:
            items.append(items[0])
        readings.append(Reading(op, 10 * op, 10 * op + rng.randrange(1, 25), lo, hi, items, rng.random() < 0.9))
    return readings


def test_one_readers_rows_come_back():
    readers = [[Reading(1, 0, 1, 0, 9, [5, 3])], [Reading(2, 0, 1, 0, 9, []), Reading(3, 2, 3, 0, 9, [4], False)]]
    found = columns(readers)
    assert list(found.of(0)) == readers[0]
    assert list(found.of(1)) == readers[1]


def test_healthy_readers_are_no_suspects_and_are_counted_as_a_sweep_counts():
    rng = random.Random(3)
    readers = [random_reader(rng, healthy=True) for _ in range(300)]
    found = survey(columns(readers), np.zeros(WIDTH, dtype=bool), NOTHING)
    assert len(found.suspects) == 0
    for k, readings in enumerate(readers):
        sweep = Sweep()
        assert list(sweep.run(readings)) == []
        assert found.expected[k] == sweep.observations


def test_every_reader_from_whom_something_vanished_is_a_suspect():
    rng = random.Random(4)
    readers = [random_reader(rng, healthy=False) for _ in range(500)]
    ignored = np.zeros(WIDTH, dtype=bool)
    ignored[[3, 11]] = True
    stable = (np.asarray([0, 1, 1, 2]), np.asarray([5, 5, 3, 7]))
    found = survey(columns(readers), ignored, stable)
    suspects = set(found.suspects.tolist())
    robbed = set()
    for k, readings in enumerate(readers):
        if list(Sweep(stable[1][stable[0] == k].tolist(), {3, 11}).run(readings)):
            robbed.add(k)
    assert robbed
    assert robbed <= suspects


def test_what_one_reader_need_not_see_makes_no_suspect_of_him():
    rng = random.Random(5)
    readers = [random_reader(rng, healthy=True) for _ in range(200)]
    hidden = [sorted(rng.sample(range(WIDTH), 4)) for _ in readers]
    for reader, lost in zip(readers, hidden, strict=True):
        reader[:] = [
            replace(r, items=[i for i in r.items if i not in lost or rng.random() < 0.5]) if rng.random() < 0.5 else r
            for r in reader
        ]
    pairs = (np.repeat(np.arange(len(readers)), 4), np.asarray(hidden).ravel())
    found = survey(columns(readers), np.zeros(WIDTH, dtype=bool), pairs, pairs)
    assert len(found.suspects) == 0
    for k, readings in enumerate(readers):
        sweep = Sweep(hidden[k], set(hidden[k]))
        assert list(sweep.run(readings)) == []
        assert found.expected[k] == sweep.observations
    assert len(survey(columns(readers), np.zeros(WIDTH, dtype=bool)).suspects) > 0


def test_no_readings():
    assert survey(columns([]), np.zeros(1, dtype=bool), NOTHING).suspects.tolist() == []
