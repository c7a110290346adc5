"""Whose edges change: readers who read much, authors who post, and few of each one's edges."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from harness.core.scenario import Population as Spec
from harness.load.edge_pairs import MOST_OF_ONES, choose_pairs
from harness.load.population import Population, make_population

PANEL, OTHERS, AUTHORS = list(range(100, 160)), list(range(500, 900)), list(range(100, 400))


@pytest.fixture(scope="module")
def population() -> Population:
    return make_population(Spec(users=1000, mean_follows=30), 7)


def test_pairs_say_how_they_stand(population: Population) -> None:
    pairs = choose_pairs(population, PANEL, OTHERS, AUTHORS, 60, 1)
    assert len(pairs) == len({(p.follower, p.author) for p in pairs}) == 60
    for pair in pairs:
        assert pair.follows == (pair.author in population.followees_of(pair.follower))
        assert pair.author in AUTHORS
        assert pair.follower in {*PANEL, *OTHERS} - {pair.author}
    assert 5 <= sum(not pair.follows for pair in pairs) <= 25
    assert sum(pair.follower in PANEL for pair in pairs) == pytest.approx(0.7 * 60, abs=12)


def test_most_edges_of_a_follower_stay(population: Population) -> None:
    pairs = choose_pairs(population, PANEL[:3], [], AUTHORS, 500, 1)
    for follower, count in Counter(pair.follower for pair in pairs).items():
        assert count <= max(1, MOST_OF_ONES * len(population.followees_of(follower)))


def test_nobody_to_choose_from(population: Population) -> None:
    assert choose_pairs(population, [], [], AUTHORS, 5, 1) == ()
    assert choose_pairs(population, PANEL, OTHERS, [], 5, 1) == ()


def test_the_seed_decides(population: Population) -> None:
    first, again, other = (choose_pairs(population, PANEL, OTHERS, AUTHORS, 40, seed) for seed in (1, 1, 2))
    assert first == again != other
    assert all(isinstance(p.author, int) and not isinstance(p.author, np.integer) for p in first)
