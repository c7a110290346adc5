from __future__ import annotations

import random

from harness.judge.sweep import Reading, Sweep, Vanished


def reading(op, start, done, items, lo=0, hi=100, judged=True):
    return Reading(op, start, done, lo, hi, sorted(items, reverse=True), judged)


def vanished(*readings, stable=(), ignored=frozenset()):
    return list(Sweep(stable, ignored).run(readings))


def test_nothing_read_nothing_vanished():
    assert vanished() == []


def test_an_item_must_stay():
    assert vanished(reading(1, 0, 1, [5, 6]), reading(2, 2, 3, [6])) == [Vanished(5, 1, 2)]


def test_reported_once_until_seen_again():
    gone = [reading(1, 0, 1, [5]), reading(2, 2, 3, []), reading(3, 4, 5, [])]
    assert vanished(*gone) == [Vanished(5, 1, 2)]
    back = [reading(4, 6, 7, [5]), reading(5, 8, 9, [])]
    assert vanished(*gone, *back) == [Vanished(5, 1, 2), Vanished(5, 4, 5)]


def test_only_finished_readings_teach():
    assert vanished(reading(1, 0, 9, [5]), reading(2, 3, 4, [])) == []


def test_only_the_covered_range_is_judged():
    assert vanished(reading(1, 0, 1, [5, 50]), reading(2, 2, 3, [50], lo=40)) == []
    assert vanished(reading(1, 0, 1, [5, 50]), reading(2, 2, 3, [5], hi=50)) == []


def test_readings_that_are_not_judged_teach():
    assert vanished(reading(1, 0, 1, [5], judged=False), reading(2, 2, 3, [])) == [Vanished(5, 1, 2)]
    assert vanished(reading(1, 0, 1, [5]), reading(2, 2, 3, [], judged=False)) == []


def test_stable_items_are_known_from_the_start():
    assert vanished(reading(1, 0, 1, [7]), stable=[5, 7]) == [Vanished(5, 0, 1)]


def test_ignored_items_may_vanish():
    assert vanished(reading(1, 0, 1, [5]), reading(2, 2, 3, []), stable=[9], ignored={5, 9}) == []


def test_agrees_with_the_definition_on_random_histories():
    """Without re-appearances, the sweep finds exactly the pairs the definition names."""
    rng = random.Random(7)
    for _ in range(200):
        readings, time = [], 0
        for op in range(1, 9):
            time += 2
            lo, hi = sorted((rng.randrange(20), rng.randrange(21)))
            items = [k for k in range(lo, hi) if rng.random() < 0.8]
            readings.append(reading(op, time, time + 1, items, lo, hi))
        expected = set()
        for k, later in enumerate(readings):
            for earlier in readings[:k]:
                expected |= {(i, later.op) for i in earlier.items if later.lo <= i < later.hi and i not in later.items}
        found = {(v.item, v.op) for v in vanished(*readings)}
        assert found <= expected
        assert bool(found) == bool(expected)
