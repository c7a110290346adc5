"""Graphs: what was asked for, seeded, handed over without loss."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.errors import UsageError
from harness.core.population import population_problems
from harness.core.scenario import Phase, Scenario
from harness.core.scenario import Population as Spec
from harness.load.population import Population, make_population, read_population, resolved, write_population

SPECS = [
    Spec(users=2000, mean_follows=30, celebrities=(1000, 400)),
    Spec(users=200, mean_follows=20, celebrities=(199,)),
    Spec(users=100, mean_follows=50),
    Spec(users=20, mean_follows=19),
    Spec(users=2, mean_follows=1),
]


def edge_keys(population: Population) -> np.ndarray:
    return population.followers.astype(np.int64) * population.users + population.followees


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"{s.users}x{s.mean_follows}")
def test_power_law_graph_is_what_was_asked_for(spec: Spec) -> None:
    population = make_population(spec, 42)
    assert population.users == spec.users
    assert len(population.followees) == spec.users * spec.mean_follows
    assert (np.diff(edge_keys(population)) > 0).all(), "ordered, no duplicates"
    assert (population.followers != population.followees).all(), "no self-follows"
    counts = population.follower_counts
    assert counts[: len(spec.celebrities)].tolist() == list(spec.celebrities)
    if spec.celebrities:
        assert counts[len(spec.celebrities) :].max() < population.threshold


@given(
    celebrities=st.lists(st.integers(20, 100), max_size=2),
    late=st.lists(st.integers(20, 100), max_size=2),
    hyper=st.lists(st.integers(4, 150), max_size=4),
    newcomers=st.integers(0, 30),
    seed=st.integers(0, 5),
)
@settings(max_examples=40, deadline=None)
def test_whoever_is_special_is_exactly_as_was_asked_for(
    celebrities: list[int], late: list[int], hyper: list[int], newcomers: int, seed: int
) -> None:
    spec = Spec(
        users=200,
        mean_follows=10,
        panel=10,
        celebrities=tuple(celebrities),
        late_celebrities=tuple(late),
        hyper_followers=tuple(hyper),
        newcomers=newcomers,
    )
    assert population_problems(spec) == []
    population = make_population(spec, seed)
    stars, follows = len(celebrities + late), np.diff(population.offsets)
    assert population.follower_counts[:stars].tolist() == celebrities + late
    assert population.celebrities == tuple(range(stars))
    assert follows[stars : stars + len(hyper)].tolist() == hyper
    assert population.late == (*range(len(celebrities), stars), *range(200 - newcomers, 200))
    assert (np.diff(edge_keys(population)) > 0).all(), "ordered, no duplicates"
    assert (population.followers != population.followees).all(), "no self-follows"
    plain = make_population(msgspec.structs.replace(spec, hyper_followers=(), newcomers=0), seed)
    for user in {*range(200)} - {*range(stars, stars + len(hyper))}:
        assert population.followees_of(user).tolist() == plain.followees_of(user).tolist(), "others are as they were"


def test_follower_counts_follow_a_power_law() -> None:
    counts = np.sort(make_population(Spec(users=5000, mean_follows=40), 1).follower_counts)[::-1]
    middle = counts[100:4000]
    slope = np.polyfit(np.log(np.arange(101, 4001)), np.log(middle), 1)[0]
    assert slope == pytest.approx(-0.75, abs=0.05)
    assert counts[0] > 8 * np.median(counts)


def test_same_seed_same_graph() -> None:
    spec = Spec(users=500, mean_follows=10, celebrities=(300,))
    first, again, other = (make_population(spec, seed) for seed in (7, 7, 8))
    assert (edge_keys(first) == edge_keys(again)).all()
    assert (first.hot == again.hot).all()
    assert (edge_keys(first) != edge_keys(other)).any()


@pytest.mark.parametrize("ratio", [0.0, 0.3, 1.0])
def test_hot_ratio(ratio: float) -> None:
    hot = make_population(Spec(users=1000, mean_follows=20, hot_ratio=ratio), 1).hot
    assert set(np.unique(hot)) <= {0, 1}
    assert hot.mean() == pytest.approx(ratio, abs=0.02)


def test_too_dense_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"population\.mean_follows: 10 users x 10 follows"):
        make_population(Spec(users=10, mean_follows=10), 1)


def test_rows_and_columns_agree() -> None:
    population = make_population(Spec(users=50, mean_follows=5, celebrities=(30,)), 3)
    for user in range(50):
        for author in population.followees_of(user):
            assert user in population.followers_of(int(author))
    assert len(population.followers_of(0)) == 30


def test_hand_over_is_lossless(tmp_path: Path) -> None:
    spec = Spec(users=100, mean_follows=5, celebrities=(60,), history=20, joined="none")
    population = make_population(spec, 42)
    write_population(population, spec, 42, tmp_path / "population")
    again, facts = read_population(tmp_path / "population")
    for name, kind in (("offsets", "<i8"), ("followees", "<u4"), ("hot", "|u1")):
        stored = np.load(tmp_path / "population" / f"{name}.npy")
        assert stored.dtype == np.dtype(kind)
        assert (stored == getattr(population, name)).all()
        assert (getattr(again, name) == getattr(population, name)).all()
    assert json.loads((tmp_path / "population" / "population.json").read_text()) == {
        "version": 1,
        "users": 100,
        "seed": 42,
        "history": 20,
        "joined": "none",
        "mean_follows": 5.0,
        "celebrities": [0],
        "celebrity_threshold": population.threshold,
    }
    assert (facts.users, again.celebrities, again.threshold) == (100, (0,), population.threshold)


def test_who_is_late_is_handed_over(tmp_path: Path) -> None:
    spec = Spec(users=100, mean_follows=5, celebrities=(60,), late_celebrities=(50,), newcomers=3)
    population = make_population(spec, 42)
    write_population(population, spec, 42, tmp_path)
    told = json.loads((tmp_path / "population.json").read_text())
    assert (told["joined"], told["celebrities"], told["late"]) == ("all", [0, 1], [1, 97, 98, 99])
    again, _ = read_population(tmp_path)
    assert again.late == population.late


def test_a_folder_without_a_population_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a population"):
        read_population(tmp_path)


def test_loaded_graph_puts_the_most_followed_node_first(tmp_path: Path) -> None:
    path = tmp_path / "edges.txt"
    path.write_text("# follower followee\n10 900\n20 900\n30 900\n900 20\n30 20\n30 30\n10 900\n")
    population = make_population(Spec(graph=f"edges:{path}", users=2), 1)
    # 900 becomes 0; 10, 20, 30 become 1, 2, 3; the self-follow and the duplicate are gone
    edges = set(zip(population.followers.tolist(), population.followees.tolist(), strict=True))
    assert edges == {(1, 0), (2, 0), (3, 0), (0, 2), (3, 2)}
    assert population.celebrities == (0,)
    assert population.threshold == 3


def test_resolved_scenario_has_the_size_of_the_edge_list(tmp_path: Path) -> None:
    path = tmp_path / "edges.csv"
    path.write_text("a,b\n" + "".join(f"{i},0\n" for i in range(1, 9)))
    spec = Spec(graph=f"edges:{path}", users=5000, listeners=4)
    scenario = Scenario(name="x", about="x", phases=(Phase(name="p", duration_s=1),), population=spec)
    again = resolved(scenario, make_population(spec, 1))
    assert (again.population.users, again.population.celebrities) == (9, (8,))
    too_many = Spec(graph=f"edges:{path}", users=5000, listeners=10, panel=11)
    scenario = Scenario(name="x", about="x", phases=(Phase(name="p", duration_s=1),), population=too_many)
    with pytest.raises(UsageError) as caught:
        resolved(scenario, make_population(too_many, 1))
    assert len(caught.value.problems) == 2
    assert caught.value.problems[0].startswith("population.listeners: must be <= 8, ")


def test_only_self_follows_is_a_usage_error(tmp_path: Path) -> None:
    path = tmp_path / "edges.txt"
    path.write_text("1 1\n2 2\n")
    with pytest.raises(UsageError, match="between two different nodes"):
        make_population(Spec(graph=f"edges:{path}"), 1)


def test_the_most_followed_of_an_edge_list_join_last_where_some_are_late(tmp_path: Path) -> None:
    path = tmp_path / "edges.csv"
    path.write_text("".join(f"{i},0\n" for i in range(1, 9)) + "".join(f"{i},1\n" for i in range(2, 8)))
    spec = Spec(graph=f"edges:{path}", users=5000, celebrities=(1,), late_celebrities=(1,), newcomers=2)
    population = make_population(spec, 1)
    scenario = Scenario(name="x", about="x", phases=(Phase(name="p", duration_s=1),), population=spec)
    again = resolved(scenario, population).population
    assert (again.celebrities, again.late_celebrities) == ((8,), (6,))
    assert population.late == (1, 7, 8)
    with pytest.raises(UsageError, match=r"population\.newcomers: must leave others of the 9 nodes"):
        make_population(msgspec.structs.replace(spec, newcomers=7), 1)
