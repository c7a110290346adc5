"""Small populations for tests, as objects and as hand-over directories."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from reference_server.graph.base import open_inverse
from reference_server.graph.changes import Changes
from reference_server.graph.interactions import Interactions
from reference_server.graph.view import GraphView
from reference_server.seeding import Population, read_population

Follows = dict[int, list[int]]


def write_population(
    folder: Path, users: int, follows: Follows, *, joined: str = "all", hot: int = 0, late: Sequence[int] = ()
) -> Path:
    """Hand-over files; every `hot`-th edge is hot (0: none)."""
    folder.mkdir(parents=True, exist_ok=True)
    lists = [sorted(follows.get(user, [])) for user in range(users)]
    offsets = np.concatenate([[0], np.cumsum([len(each) for each in lists])]).astype(np.int64)
    followees = np.array([other for each in lists for other in each], np.uint32)
    flags = np.array([1 if hot and i % hot == 0 else 0 for i in range(len(followees))], np.uint8)
    for name, array in (("offsets", offsets), ("followees", followees), ("hot", flags)):
        np.save(folder / f"{name}.npy", array)
    described = {"version": 1, "users": users, "seed": 1, "history": 0, "joined": joined, "mean_follows": 1.0}
    described |= {"celebrities": [], "celebrity_threshold": 0, "late": list(late)}
    (folder / "population.json").write_text(json.dumps(described))
    return folder


def population(folder: Path, users: int, follows: Follows, *, joined: str = "all", hot: int = 0) -> Population:
    return read_population(write_population(folder, users, follows, joined=joined, hot=hot))


DAY_US = 24 * 3600 * 1_000_000
NOW_US = 1_900_000_000 * 1_000_000


def days_ago(days: float, now_us: int = NOW_US) -> int:
    """A hybrid clock."""
    return now_us - int(days * DAY_US) << 8


def view_of(
    people: Population, folder: Path, lanes: int = 4, *, now_us: Callable[[], int] = lambda: NOW_US, kept: int = 100
) -> GraphView:
    inverse = open_inverse(people, "test", folder / "inverse")
    return GraphView(people, inverse, Changes(people, Interactions(now_us, kept)), lanes)
