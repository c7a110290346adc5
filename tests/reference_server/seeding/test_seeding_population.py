"""Reading the hand-over directory: what is right, and a clear sentence for what is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reference_server.seeding import PopulationInvalid, open_population, read_population
from reference_server.settings import Settings


def hand_over(folder: Path, **changes: Any) -> Path:
    """Three users: 0 follows 1 and 2, 1 follows 2, 2 nobody."""
    folder.mkdir(exist_ok=True)
    described = {"version": 1, "users": 3, "seed": 5, "history": 20, "joined": "all", "mean_follows": 1.0}
    described |= {"celebrities": [2], "celebrity_threshold": 2} | changes.pop("described", {})
    (folder / "population.json").write_text(json.dumps(described))
    arrays = {
        "offsets": np.array([0, 2, 3, 3], np.int64),
        "followees": np.array([1, 2, 2], np.uint32),
        "hot": np.array([1, 0, 1], np.uint8),
    } | changes
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return folder


def test_reads_what_was_written(tmp_path: Path) -> None:
    population = read_population(hand_over(tmp_path / "p"), history_end_us=9)
    assert (population.users, population.seed, population.edges) == (3, 5, 3)
    assert population.all_joined
    assert population.celebrities == (2,)
    assert population.follows(0).tolist() == [1, 2]
    assert population.follows(2).tolist() == []
    assert population.history_end_us == 9


def test_who_is_late_has_not_joined(tmp_path: Path) -> None:
    assert read_population(hand_over(tmp_path / "p")).joined.tolist() == [True] * 3
    late = read_population(hand_over(tmp_path / "l", described={"late": [1]}))
    assert late.joined.tolist() == [True, False, True]
    assert read_population(hand_over(tmp_path / "n", described={"joined": "none"})).joined.tolist() == [False] * 3


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(PopulationInvalid, match="no such directory"):
        read_population(tmp_path / "nowhere")


def test_missing_files_are_all_named(tmp_path: Path) -> None:
    with pytest.raises(PopulationInvalid) as caught:
        read_population(tmp_path)
    assert [p.split(":")[0] for p in caught.value.problems] == [
        "population.json",
        "offsets.npy",
        "followees.npy",
        "hot.npy",
    ]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"described": {"version": 2}}, "version must be 1"),
        ({"described": {"joined": "some"}}, 'joined must be "all" or "none"'),
        ({"described": {"users": "many"}}, "population.json"),
        ({"described": {"late": [3]}}, "late must name users below 3"),
        ({"offsets": np.array([0, 2, 3], np.int64)}, "users [+] 1 = 4 numbers, got 3"),
        ({"offsets": np.array([0, 2, 1, 3], np.int64)}, "must rise from 0"),
        ({"offsets": np.array([0, 2, 3, 4], np.int64)}, "must rise from 0"),
        ({"followees": np.array([1, 3, 2], np.uint32)}, "names user 3"),
        ({"followees": np.array([2, 1, 2], np.uint32)}, "strictly ascending"),
        ({"followees": np.array([1, 2, 2], np.int64)}, "uint32, got 1-d int64"),
        ({"hot": np.array([1], np.uint8)}, "one flag an edge"),
    ],
)
def test_each_fault_is_named(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PopulationInvalid, match=sentence):
        read_population(hand_over(tmp_path / "p", **changes))


@pytest.mark.parametrize("spoil", [lambda p: p.write_bytes(b""), lambda p: p.write_bytes(b"\0" * 9000)])
def test_garbage_array_is_named(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    folder = hand_over(tmp_path / "p")
    spoil(folder / "hot.npy")
    with pytest.raises(PopulationInvalid, match=r"hot\.npy: no readable"):
        read_population(folder)


def test_without_population_nobody_joined(tmp_path: Path) -> None:
    (tmp_path / "seed.json").write_text('{"history_end_us": 77}')
    settings = Settings(directory=str(tmp_path), sockets="", secret="00", regions=(), users=4)
    population = open_population(settings)
    assert (population.users, population.edges, population.all_joined) == (4, 0, False)
    assert population.history_end_us == 77
